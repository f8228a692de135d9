//! Other data on a connection changes no answer: each has the version, the length and the end that its own request
//! calls for, whatever comes before or after, and in whatever pieces.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{OPERATOR_KEY, Server};

/// A request, and how it must be answered.
struct Case {
    name: &'static str,
    request: String,
    status: u16,
    /// What the body must contain. `None`: there is no body.
    body: Option<&'static str>,
    is_old: bool,
    closes: bool,
}

/// An answer as received.
struct Seen {
    head: String,
    status: u16,
    body: Vec<u8>,
}

const CHECK: &str = r#"{"action":"read","resource":"docs:1"}"#;

fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: h\r\nAuthorization: Bearer {OPERATOR_KEY}\r\n{headers}\r\n{body}")
}

fn cases() -> Vec<Case> {
    let get = "GET /livez HTTP/1.1";
    let export = "GET /v1/audit/export HTTP/1.1";
    let ask = "POST /v1/authorize HTTP/1.1";
    let length = format!("Content-Length: {}\r\n", CHECK.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunks = format!("5;x=y\r\n{}\r\n{:X}\r\n{}\r\n0\r\nX: y\r\n\r\n", &CHECK[..5], CHECK.len() - 5, &CHECK[5..]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let alive = Some("alive");
    // The operator's call names no agent.
    let refused = Some("agentId");
    let case = |name, request, status, body| Case { name, request, status, body, is_old: false, closes: false };
    let mut cases = vec![
        case("get", request(get, "", ""), 200, alive),
        case("empty lines first", format!("\r\n\n{}", request(get, "", "")), 200, alive),
        case("lines without a return", request(get, "X: y\r\n", "").replace("\r\n", "\n"), 200, alive),
        case("no body", request(get, "Content-Length: 0\r\n", ""), 200, alive),
        case("a body nobody wants in chunks", request(get, chunked, &chunks), 200, alive),
        case("head", request("HEAD /livez HTTP/1.1", "", ""), 200, None),
        case("head of what is large", request("HEAD /openapi.json HTTP/1.1", "", ""), 200, None),
        case("large", request("GET /openapi.json HTTP/1.1", "", ""), 200, Some("openapi")),
        case("stream", request(export, "", ""), 200, Some("[")),
        case("call", request(ask, &length, CHECK), 400, refused),
        case("call in chunks", request(ask, chunked, &chunks), 400, refused),
        case("call that expects", request(ask, &format!("Expect: 100-continue\r\n{length}"), CHECK), 400, refused),
        case("call that would upgrade", request(ask, &format!("{upgrade}{length}"), CHECK), 400, refused),
        case("stream that would upgrade", request(export, upgrade, ""), 200, Some("[")),
        case(
            "get that would upgrade",
            request(get, "connection:keep-alive ,  UPGRADE\r\nuPgrade:WebSocket\r\n", ""),
            200,
            alive,
        ),
        case("h2c", request(get, "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n", ""), 200, alive),
        case("unknown", request("GET /nothing HTTP/1.1", "", ""), 404, Some("ROUTE")),
    ];
    let old = |name, request, body, closes| Case { name, request, status: 200, body, is_old: true, closes };
    cases.extend([
        old("old, kept alive", request("GET /livez HTTP/1.0", "Connection: keep-alive\r\n", ""), alive, false),
        old("old", request("GET /livez HTTP/1.0", "", ""), alive, true),
        old("old head", request("HEAD /livez HTTP/1.0", "Connection: keep-alive\r\n", ""), None, false),
        old("old stream", request("GET /v1/audit/export HTTP/1.0", "", ""), Some("["), true),
        old(
            "old stream, kept alive",
            request("GET /v1/audit/export HTTP/1.0", "Connection: keep-alive\r\n", ""),
            Some("["),
            true,
        ),
    ]);
    cases.push(Case { closes: true, ..case("close", request(get, "Connection: close\r\n", ""), 200, alive) });
    cases.push(Case {
        closes: true,
        ..case("close a stream", request(export, "Connection: upgrade, close\r\n", ""), 200, Some("["))
    });
    cases.push(Case { closes: true, ..case("unread", request(get, &length, CHECK), 200, alive) });
    let connect = "CONNECT h:1 HTTP/1.1";
    cases.push(Case { closes: true, ..case("connect", request(connect, "", ""), 404, Some("ROUTE")) });
    let unread = request(connect, "Content-Length: 2\r\n", "{}");
    cases.push(Case { closes: true, ..case("connect with a length", unread, 404, Some("ROUTE")) });
    let fragment = request("GET /livez#x HTTP/1.1", "", "");
    cases.push(Case { closes: true, ..case("fragment", fragment, 400, Some("")) });
    for (name, headers) in [
        ("two lengths", "Content-Length: 1\r\nContent-Length: 1\r\n"),
        ("a length and chunks", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        ("a length with a sign", "Content-Length: +1\r\n"),
        ("another coding", "Transfer-Encoding: gzip, chunked\r\n"),
        ("no header", "Content Length: 1\r\n"),
    ] {
        cases.push(Case { closes: true, ..case(name, request(get, headers, ""), 400, Some("")) });
    }
    cases
}

/// A line, or nothing at the end of the connection.
fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = Vec::new();
    match stream.read_until(b'\n', &mut line) {
        Ok(_) => String::from_utf8(line).unwrap(),
        Err(problem) if problem.kind() == ErrorKind::ConnectionReset => String::new(),
        Err(problem) => panic!("{problem}"),
    }
}

/// The next answer, read as its own head says.
fn answer(stream: &mut BufReader<TcpStream>, is_head: bool) -> Seen {
    let mut head = String::new();
    loop {
        let line = line(stream);
        assert!(!line.is_empty(), "it ended in a head: {head:?}");
        if line != "\r\n" {
            head.push_str(&line.to_lowercase());
        } else if head.contains(" 100 continue") {
            head.clear();
        } else {
            break;
        }
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = Vec::new();
    if is_head {
    } else if let Some((_, rest)) = head.split_once("\r\ncontent-length: ") {
        assert!(!head.contains("transfer-encoding"), "{head}");
        body = vec![0; rest.split("\r\n").next().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
    } else if head.contains("\r\ntransfer-encoding: chunked") {
        loop {
            let size = line(stream);
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).unwrap();
            assert!(chunk.ends_with(b"\r\n"));
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else {
        stream.read_to_end(&mut body).unwrap();
    }
    Seen { head, status, body }
}

/// Sends these requests in pieces, and checks each answer against its own request.
fn hold(server: &Server, sent: &[&Case], pieces: &[usize]) {
    let names: Vec<_> = sent.iter().map(|case| case.name).collect();
    let bytes = sent.iter().map(|case| case.request.as_str()).collect::<String>().into_bytes();
    let stream = TcpStream::connect(server.host()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = bytes.as_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                // The server may have closed it.
                if writer.write_all(now).is_err() || later.is_empty() {
                    break;
                }
                rest = later;
            }
        });
        let mut stream = BufReader::new(stream);
        for case in sent {
            let seen = answer(&mut stream, case.request.trim_start().starts_with("HEAD"));
            let Seen { head, status, body } = &seen;
            let at = format!("{} of {names:?} in {pieces:?}: {head}{}", case.name, String::from_utf8_lossy(body));
            assert_eq!(*status, case.status, "{at}");
            if case.body == Some("") {
                // Not a request, so it has no version; the connection closes without a word before.
                assert!(body.is_empty(), "{at}");
                assert_eq!(line(&mut stream), "", "nothing follows: {at}");
                return;
            }
            assert_eq!(head.starts_with("http/1.0"), case.is_old, "{at}");
            assert!(!case.is_old || !head.contains("transfer-encoding"), "{at}");
            assert!(!head.contains("upgrade"), "{at}");
            match case.body {
                None => assert!(body.is_empty(), "{at}"),
                Some(held) => assert!(String::from_utf8_lossy(body).contains(held), "{at}"),
            }
            let says_close = head.contains("connection: close");
            let says_open = head.contains("connection: keep-alive");
            assert_eq!((says_close, says_open), (case.closes && !case.is_old, !case.closes && case.is_old), "{at}");
            if case.closes {
                // It does not wait for the rest of a body that nobody reads.
                let _ = stream.get_ref().shutdown(Shutdown::Write);
                assert_eq!(line(&mut stream), "", "nothing follows: {at}");
                return;
            }
        }
    });
}

#[test]
fn each_answer_is_framed_by_its_own_request() {
    let server = Server::start();
    let cases = cases();
    let whole = [usize::MAX];
    for first in &cases {
        hold(&server, &[first], &whole);
        hold(&server, &[first], &[1]);
        for second in &cases {
            hold(&server, &[first, second], &whole);
        }
    }
    let mut rng = Rng::with_seed(7);
    for _ in 0..300 {
        let sent: Vec<_> = (0..rng.usize(1..12)).filter_map(|_| rng.choice(&cases)).collect();
        let pieces: Vec<_> = (0..rng.usize(1..6)).map(|_| 1 << rng.u32(0..12)).collect();
        hold(&server, &sent, &pieces);
    }
}

#[test]
fn pipelined_requests_do_not_end_a_connection() {
    let server = Server::start();
    let stream = TcpStream::connect(server.host()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut stream = BufReader::new(stream);
    let get = request("GET /livez HTTP/1.1", "", "");
    let head = request("POST /v1/authorize HTTP/1.1", &format!("Content-Length: {}\r\n", CHECK.len()), "");
    for _ in 0..20 {
        // The body comes after the answer to the request before.
        writer.write_all(format!("{get}{head}").as_bytes()).unwrap();
        assert_eq!(answer(&mut stream, false).status, 200);
        writer.write_all(CHECK.as_bytes()).unwrap();
        let seen = answer(&mut stream, false);
        assert_eq!(seen.status, 400);
        assert!(!seen.head.contains("connection"), "{}", seen.head);
    }
}
