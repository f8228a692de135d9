//! A client of the live stream (WHATWG HTML, server-sent events).

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

/// A live stream that is read line by line.
pub struct Stream {
    body: BufReader<Box<dyn Read + Send>>,
    /// The id from which a client resumes: that of the last event with an id.
    pub last_id: Option<String>,
}

impl Stream {
    pub fn open(base: &str, key: &str, query: &str, last: Option<&str>) -> Result<Self, u16> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_recv_body(Some(Duration::from_secs(120)))
            .build();
        let mut request = Request::builder()
            .uri(format!("{base}/v1/audit/stream?{query}"))
            .header("Authorization", format!("Bearer {key}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = ureq::Agent::from(config).run(request.body(()).unwrap()).unwrap();
        let (parts, body) = answer.into_parts();
        if parts.status != 200 {
            return Err(parts.status.as_u16());
        }
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        assert_eq!(parts.headers["cache-control"], "no-store");
        let body: Box<dyn Read + Send> = Box::new(body.into_reader());
        let mut stream = Self { body: BufReader::new(body), last_id: last.map(str::to_owned) };
        assert_eq!(stream.line().as_deref(), Some(": following"));
        assert_eq!(stream.line().as_deref(), Some(""));
        Ok(stream)
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A broken connection is an end too; a silent one is not.
        let count = self.body.read_line(&mut line).unwrap_or_else(|problem| {
            assert!(!problem.to_string().contains("timeout"), "the stream went silent");
            0
        });
        (count > 0).then(|| line.strip_suffix('\n').unwrap().to_owned())
    }

    /// The next entry; comments are skipped.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            if line.starts_with(':') {
                assert_eq!(self.line()?, "");
                continue;
            }
            // A client keeps its id if an event has none.
            let id = line.strip_prefix("id: ").map(str::to_owned);
            let data = if id.is_some() { self.line()? } else { line };
            assert_eq!(self.line()?, "");
            let entry: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            if id.is_some() {
                assert_eq!(id.as_deref(), entry["id"].as_str());
                self.last_id = id;
            }
            return Some(entry);
        }
    }

    pub fn take(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next().expect("the stream ended")).collect()
    }
}
