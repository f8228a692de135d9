//! A small HTTP client: every status is a value, and so is a broken connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Request};

use crate::conformance;

/// A caller with one key.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
    /// The value of `X-Forwarded-For`.
    forwarded: Option<String>,
}

/// The server's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    /// A caller that sends this `Authorization` header.
    pub fn new(base: &str, authorization: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(300)))
            // Below the server's own, so that no request meets a closing connection.
            .max_idle_age(Duration::from_secs(2))
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build();
        Self {
            agent: config.into(),
            base: base.to_owned(),
            authorization: authorization.map(str::to_owned),
            forwarded: None,
        }
    }

    /// These connections with another key.
    pub fn acting_for(&self, key: &str) -> Self {
        Self { authorization: Some(format!("Bearer {key}")), ..self.clone() }
    }

    /// This caller behind a proxy that reports its address.
    pub fn forwarded_for(&self, address: &str) -> Self {
        Self { forwarded: Some(address.to_owned()), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    pub fn post(&self, path: &str, body: impl Into<Value>) -> Answer {
        self.send("POST", path, Some(body.into().to_string().as_bytes()))
    }

    pub fn patch(&self, path: &str, body: impl Into<Value>) -> Answer {
        self.send("PATCH", path, Some(body.into().to_string().as_bytes()))
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.try_send(method, path, &[], body).unwrap_or_else(|problem| panic!("{method} {path}: {problem}"))
    }

    /// Gets a body too long for memory, and passes on each line.
    pub fn lines(&self, path: &str, mut each: impl FnMut(&str)) {
        let key = self.authorization.as_deref().unwrap_or_default();
        let request = Request::get(format!("{}{path}", self.base)).header("Authorization", key).body(()).unwrap();
        let request = self.agent.configure_request(request).timeout_global(None).build();
        let answer = self.agent.run(request).unwrap_or_else(|problem| panic!("{path}: {problem}"));
        assert_eq!(answer.status(), 200, "{path}");
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            each(&line.unwrap_or_else(|problem| panic!("{path} ended before its end: {problem}")));
        }
    }

    /// Sends one request. An error is a connection that broke or was refused. The answer is checked against the API's
    /// document.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Option<&[u8]>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(address) = &self.forwarded {
            request = request.header("X-Forwarded-For", address);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body);
                self.agent.run(request.map_err(|problem| problem.to_string())?)
            }
            None => self.agent.run(request.body(()).map_err(|problem| problem.to_string())?),
        };
        let (parts, body) = answered.map_err(|problem| problem.to_string())?.into_parts();
        // A stream of events has no end to read to.
        let body = if parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            Vec::new()
        } else {
            body.into_with_config().limit(256 << 20).read_to_vec().map_err(|problem| problem.to_string())?
        };
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        conformance::check(method, path, &answer);
        Ok(answer)
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|problem| panic!("{problem}: {self:?} {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The items of a list.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        self.expect(200).as_array().unwrap_or_else(|| panic!("no list: {}", self.text())).clone()
    }

    /// The sentence of an error that must be complete (RFC 9457) with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        let shown = self.text();
        assert_eq!(self.status, status, "{code} was wanted: {shown}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{shown}");
        let body = self.json();
        assert_eq!(body["code"], code, "{shown}");
        assert_eq!(body["status"], status, "{shown}");
        assert_eq!(body["detail"], body["message"], "{shown}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {shown}");
        }
        assert!(body.get("details").is_some(), "{shown}");
        assert_eq!(status == 401, self.headers.contains_key("www-authenticate"), "{shown}");
        let says_when = status == 503 || code == "AUTH_RATE_LIMITED";
        assert_eq!(says_when, self.headers.contains_key("retry-after"), "{shown}");
        body["detail"].as_str().unwrap().to_owned()
    }

    /// The code of an error or a denial.
    pub fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body.get("code")?.as_str()?.to_owned())
    }
}

/// Sends exactly these bytes, and reads until the server closes or has answered once. For requests that no client
/// library would send.
pub fn send_bytes(host: &str, bytes: &[u8]) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(host).map_err(|problem| problem.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A server that has answered already may not want the rest.
    let _ = stream.write_all(bytes);
    read_answer(&mut stream)
}

/// Reads one answer with a content length, and nothing after it.
pub fn read_answer(stream: &mut TcpStream) -> Result<Answer, String> {
    let mut read = Vec::new();
    let mut byte = [0];
    loop {
        if let Some(answer) = parse(&read) {
            return Ok(answer);
        }
        match stream.read(&mut byte) {
            Ok(0) => return Err(format!("closed after {} bytes: {:?}", read.len(), String::from_utf8_lossy(&read))),
            Ok(_) => read.extend_from_slice(&byte),
            Err(problem) => return Err(problem.to_string()),
        }
    }
}

/// Reads one whole answer with a content length.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(ureq::http::HeaderName::from_bytes(name.as_bytes()).ok()?, value.trim().parse().ok()?);
    }
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, headers, body })
}
