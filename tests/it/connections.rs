//! Connections that many callers share, silent ones, and the end of all of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::client::read_answer;
use crate::harness::{Options, Server};
use crate::world::permits;

/// Asks for a decision on an open connection, in pieces of `piece` bytes.
fn ask(stream: &mut TcpStream, token: &str, piece: usize) -> (u16, Option<bool>) {
    let body = json!({ "action": "read", "resource": "docs:1" }).to_string();
    let head = format!("POST /v1/authorize HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    for piece in request.as_bytes().chunks(piece) {
        stream.write_all(piece).unwrap();
    }
    let answer = read_answer(stream).unwrap();
    (answer.status, answer.json()["allowed"].as_bool())
}

#[test]
fn a_connection_serves_every_tenant_and_outlives_none_of_its_calls() {
    let mut server = Server::start_with(Options::args(&["--workers", "3"]));
    let operator = server.operator();
    let agents: Vec<_> = ["acme", "globex", "initech", "umbrella"]
        .map(|slug| {
            let tenant = operator.tenant(slug);
            // Half of the tenants let their agent do it, so that each answer shows its tenant.
            let may = if slug.len() % 2 == 0 { "read" } else { "write" };
            (operator.agent(tenant.id.as_str(), permits("docs:*", &[may])).token, may == "read")
        })
        .into();
    let unknown = format!("kv_{}", "A".repeat(64));
    let mut open = Vec::new();
    for turn in 0..60 {
        let mut stream = TcpStream::connect(server.host()).unwrap();
        stream.set_nodelay(true).unwrap();
        // The first call of some has no valid key, and some calls arrive byte by byte.
        if turn % 5 == 0 {
            assert_eq!(ask(&mut stream, &unknown, usize::MAX).0, 401);
        }
        for nth in 0..agents.len() {
            let (token, may) = &agents[(turn + nth) % agents.len()];
            let piece = if turn % 7 == 0 { 1 } else { usize::MAX };
            assert_eq!(ask(&mut stream, token, piece), (200, Some(*may)));
        }
        open.push(stream);
    }
    // A silent connection delays nobody.
    let silent = TcpStream::connect(server.host()).unwrap();
    assert_eq!(operator.get("/livez").status, 200);

    server.terminate();
    assert!(server.wait().success());
    // Nor the end of the server, which warns of connections that it has to break off.
    assert!(!server.log().contains("still open"), "{}", server.log());
    drop(silent);
    for mut stream in open {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed, and not broken off");
    }
}
