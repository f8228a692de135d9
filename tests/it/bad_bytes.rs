//! Odd bytes in paths, query strings, headers and on the connection itself.

use crate::bad_input::{everything, prepare};
use crate::client::send_bytes;
use crate::harness::{OPERATOR_KEY, Server};
use crate::world::call;

fn get(path: &[u8], headers: &[u8]) -> Vec<u8> {
    let bearer = format!("Authorization: Bearer {OPERATOR_KEY}\r\n");
    [b"GET ", path, b" HTTP/1.1\r\nHost: localhost\r\n", bearer.as_bytes(), headers, b"\r\n"].concat()
}

#[test]
fn odd_bytes_in_paths_and_queries_are_refused() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    for piece in [
        "%00",
        "%FF%FE",
        "%C0%80",
        "%",
        "%2",
        "%zz",
        "%2F..%2F..%2Fetc%2Fpasswd",
        "..",
        ".%2e",
        "%2e%2e",
        "%0d%0aX:%20y",
        "%E2%80%AE",
        "'%20OR%201=1",
        "{tenant}",
        "%25",
        "+",
        "acme%00",
        "acme%20",
        "tnt_",
        "agt_%F0%9F%98%80",
        "*",
        "~",
    ] {
        for path in [
            format!("/v1/tenants/{piece}"),
            format!("/v1/tenants/{piece}/keys"),
            format!("/v1/tenants/acme/keys/{piece}"),
            format!("/v1/agents/{piece}"),
            format!("/v1/audit/{piece}"),
            format!("/{piece}"),
            format!("/v1/agents?tenantId={piece}"),
            format!("/v1/audit?cursor={piece}"),
            format!("/v1/audit?{piece}={piece}"),
            format!("/v1/audit?since={piece}"),
        ] {
            let answer = send_bytes(server.host(), &get(path.as_bytes(), b"")).unwrap();
            assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
            assert!(answer.code().is_some(), "{path}: {}", answer.text());
            assert!(!answer.body.contains(&0), "{path}");
        }
    }
    // A filter without matches is not an error.
    for query in ["userId=%FF", "userId=%00", "actions=%FF%FE,%00"] {
        let answer = send_bytes(server.host(), &get(format!("/v1/audit?{query}").as_bytes(), b"")).unwrap();
        assert_eq!(answer.text(), "[]", "{query}");
    }
    assert_eq!(everything(&operator), before);
    operator.granted(call(&agent.id));
}

#[test]
fn odd_bytes_in_headers_are_neither_a_key_nor_a_crash() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let long = [b"Bearer ".to_vec(), vec![b'x'; 8_000]].concat();
    for value in [
        &b"Bearer \xff\xfe"[..],
        b"Bearer",
        b"Bearer ",
        b"Bearer  ",
        b"bearer\tkvo_x",
        b"Token x",
        b"\xff",
        b"Bearer kv_",
        b"Bearer kvt_%00",
        &long,
    ] {
        let bytes = [b"GET /v1/tenants HTTP/1.1\r\nHost: localhost\r\nAuthorization: ", value, b"\r\n\r\n"].concat();
        let answer = send_bytes(server.host(), &bytes).unwrap();
        assert_eq!(answer.status, 401, "{}: {}", String::from_utf8_lossy(value), answer.text());
        answer.problem(401, &answer.code().unwrap());
    }
    let good = format!("Authorization: Bearer {OPERATOR_KEY}\r\n");
    for (one, other) in [(good.as_str(), "authorization: Bearer x\r\n"), ("Authorization:\r\n", &good), (&good, &good)]
    {
        for path in ["GET /v1/tenants", "POST /v1/authorize"] {
            let bytes = format!("{path} HTTP/1.1\r\nHost: localhost\r\n{one}{other}\r\n");
            let refused = send_bytes(server.host(), bytes.as_bytes()).unwrap().problem(401, "UNAUTHENTICATED");
            assert!(refused.contains("only one"), "{refused}");
        }
    }
    // Headers that the decision does not use may hold anything.
    let body = call(&agent.id).to_string();
    let head = format!(
        "POST /v1/authorize HTTP/1.1\r\nHost: \r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n",
        agent.token,
        body.len()
    );
    for odd in [
        &b"User-Agent: \xff\xfe\x80\r\n"[..],
        b"User-Agent: \r\n",
        b"X-Forwarded-For: ,,,\xff\r\n",
        b"Content-Type: text/html; charset=\"\xff\"\r\n",
        b"Accept: \xff\r\n",
        b"Cookie: a=\xff\r\n",
        &[b"User-Agent: ".to_vec(), vec![b'u'; 5_000], b"\r\n".to_vec()].concat(),
    ] {
        let answer = send_bytes(server.host(), &[head.as_bytes(), odd, b"\r\n", body.as_bytes()].concat()).unwrap();
        assert_eq!(answer.expect(200)["allowed"], true, "{}", String::from_utf8_lossy(odd));
    }
    let agents: Vec<_> = operator.trail("tenantId=acme").iter().map(|entry| entry["userAgent"].clone()).collect();
    assert_eq!(agents.len(), 7);
    assert_eq!(agents[0].as_str().map(str::len), Some(kavach::domain::limits::MAX_USER_AGENT_BYTES));
    assert_eq!(everything(&operator)["tenants"], before["tenants"]);
}

#[test]
fn a_connection_without_http_harms_nobody() {
    let mut server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let bearer = format!("Authorization: Bearer {OPERATOR_KEY}\r\n");
    let many = format!("GET /v1/tenants HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(5_000));
    let huge = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"G\xff\xff / HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n".to_vec(),
        format!("POST /v1/tenants HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: -1\r\n\r\n{{}}").into_bytes(),
        format!("POST /v1/tenants HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: 5, 6\r\n\r\n{{}}").into_bytes(),
        format!("POST /v1/tenants HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}x").into_bytes(),
        format!("POST /v1/tenants HTTP/1.1\r\nHost: x\r\n{bearer}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n").into_bytes(),
        format!("POST /v1/tenants HTTP/1.1\r\nHost: x\r\n{bearer}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes(),
        many.into_bytes(),
        huge.into_bytes(),
    ] {
        // The server may answer with a 4xx or close, but never reports a fault of its own.
        let mut stream = std::net::TcpStream::connect(server.host()).unwrap();
        use std::io::{Read, Write};
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let shown: String = String::from_utf8_lossy(&bytes).chars().take(120).collect();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{shown:?}: {text}");
        assert!(server.is_running());
    }
    assert_eq!(everything(&operator), before);
    operator.granted(call(&agent.id));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
