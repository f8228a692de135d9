//! One call, with its body spelled in any way and split into any pieces.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, read_answer};
use crate::harness::Server;
use crate::world::{call, permits};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.host()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn head(path: &str, token: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n\r\n")
}

/// Sends a request with its body byte by byte, as far as the network allows; chunked, or with its length.
fn send_in_pieces(server: &Server, token: &str, path: &str, body: &str, chunked: bool) -> Answer {
    let mut stream = connect(server);
    let framing =
        if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {}", body.len()) };
    stream.write_all(head(path, token, &framing).as_bytes()).unwrap();
    for byte in body.bytes() {
        let piece = if chunked { [b"1\r\n", &[byte][..], b"\r\n"].concat() } else { vec![byte] };
        stream.write_all(&piece).unwrap();
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").unwrap();
    }
    read_answer(&mut stream).unwrap()
}

#[test]
fn a_body_may_arrive_in_any_pieces() {
    let server = Server::start();
    let operator = server.operator();
    let tenant = operator.tenant("acme");
    let agent = operator.reader(&tenant);
    let one = json!({ "action": "read", "resource": "docs:1", "arguments": { "path": "/srv/data/1.csv" } });
    let many = json!({ "requests": [one, one] });
    for chunked in [false, true] {
        let send = |token: &str, path: &str, body: &Value| {
            send_in_pieces(&server, token, path, &body.to_string(), chunked).expect(200)
        };
        assert_eq!(send(&agent.token, "/v1/authorize", &one)["allowed"], true);
        assert_eq!(send(&tenant.key, &format!("/v1/agents/{}/authorize", agent.id), &one)["allowed"], true);
        assert_eq!(send(&agent.token, "/v1/authorize/batch", &many)["results"].as_array().unwrap().len(), 2);
        let usage = json!({ "agentId": agent.id, "tokensCost": 1 });
        assert!(send(&tenant.key, "/v1/usage", &usage)["auditId"].is_string());
    }
    assert_eq!(operator.trail("tenantId=acme").len(), 8);
}

#[test]
fn a_large_body_may_arrive_in_pieces_and_after_100_continue() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    // More than the server reads ahead of the handler.
    let one = json!({ "action": "read", "resource": "docs:1", "arguments": { "text": "x".repeat(4_000) } });
    let body = json!({ "requests": vec![one; 200] }).to_string();
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut stream = connect(&server);
        let head = head("/v1/authorize/batch", &agent.token, &format!("{expect}Content-Length: {}", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        if !expect.is_empty() {
            let leave = b"HTTP/1.1 100 Continue\r\n\r\n";
            let mut got = vec![0; leave.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, leave);
        }
        for piece in body.as_bytes().chunks(7_001) {
            stream.write_all(piece).unwrap();
        }
        let results = read_answer(&mut stream).unwrap().expect(200);
        assert_eq!(results["results"].as_array().unwrap().len(), 200);
    }
}

#[test]
fn a_body_that_breaks_off_is_answered_or_closed_and_decides_nothing() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let body = r#"{"action":"read","resource":"docs:1"}"#;
    for path in ["/v1/authorize", "/v1/authorize/batch", "/v1/tenants/acme/authorize"] {
        for sent in [0, 1, body.len() - 1] {
            let mut stream = connect(&server);
            let head = head(path, &agent.token, &format!("Content-Length: {}", body.len()));
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body.as_bytes()[..sent]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // What matters is not to wait: a server may close on a client that closes.
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{path} {sent}: {answer}");
        }
    }
    assert_eq!(operator.trail("tenantId=acme").len(), 0);
}

#[test]
fn calls_on_one_connection_may_be_pipelined() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let mut stream = connect(&server);
    let mut bytes = Vec::new();
    for n in 0..20 {
        let resource = if n % 2 == 0 { "docs" } else { "mail" };
        let body = json!({ "action": "read", "resource": format!("{resource}:{n}") }).to_string();
        let head = head("/v1/authorize", &agent.token, &format!("Content-Length: {}", body.len()));
        bytes.extend(head.bytes().chain(body.bytes()));
    }
    // The last request breaks off in the middle, and continues once the others are answered.
    let (ahead, rest) = bytes.split_at(bytes.len() - 7);
    stream.write_all(ahead).unwrap();
    for n in 0..20 {
        if n == 19 {
            stream.write_all(rest).unwrap();
        }
        let decision = read_answer(&mut stream).unwrap().expect(200);
        assert_eq!(decision["allowed"], n % 2 == 0, "{n}: {decision}");
    }
}

#[test]
fn equal_calls_get_equal_answers_in_any_spelling() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.agent(operator.tenant("acme").id, permits("docs:*", &["read"]));
    let spellings = [
        r#"{"action":"read","resource":"docs:a","arguments":{"path":"/a b","n":[1,2]},"tokensCost":0.5}"#,
        r#" { "tokensCost" : 0.50 , "arguments" : { "path" : "/a b" , "n" : [ 1 , 2 ] } , "resource" : "docs:a" , "action" : "read" } "#,
        r#"{"action":"read","resource":"docs:a","arguments":{"path":"/a b","n":[1,2]},"tokensCost":5e-1}"#,
        r#"{"action":"\u0072ead","resource":"docs:a","arguments":{"path":"/a b","n":[1,2]},"tokensCost":0.5}"#,
        r#"{"action":"read","resource":"docs:a","arguments":{"path":"/a b","n":[1,2]},"tokensCost":0.5,"agentId":null,"context":null}"#,
        r#"{"ignored":{"deep":[{}]},"action":"read","resource":"docs:a","arguments":{"path":"/a b","n":[1,2]},"tokensCost":0.5}"#,
    ];
    let client = server.with_key(&agent.token);
    for body in spellings {
        let decision = client.send("POST", "/v1/authorize", Some(body.as_bytes())).expect(200);
        assert_eq!(decision["allowed"], true, "{body}: {decision}");
        let batch = format!("{{\"requests\":[{body}]}}");
        let batch = client.send("POST", "/v1/authorize/batch", Some(batch.as_bytes())).expect(200);
        assert_eq!(batch["results"][0]["allowed"], true, "{body}: {batch}");
    }
    let entries = operator.trail("tenantId=acme");
    assert_eq!(entries.len(), 2 * spellings.len());
    for entry in entries {
        assert_eq!(entry["parameters"], json!({ "path": "/a b", "n": [1, 2] }), "{entry}");
        assert_eq!((&entry["tokensCost"], &entry["action"]), (&json!(0.5), &json!("read")), "{entry}");
    }
}

/// Each worker has tenants, and each connection calls tenants on all workers.
#[test]
fn every_answer_comes_from_the_right_tenant_and_goes_to_the_right_caller() {
    const TENANTS: usize = 6;
    const CALLERS: usize = 8;
    const ROUNDS: usize = 25;
    let server = Server::start_with(crate::harness::Options::args(&["--workers", "3"]));
    let operator = server.operator();
    let agents: Vec<_> = (0..TENANTS)
        .map(|n| {
            let tenant = operator.tenant(&format!("tenant-{n}"));
            operator.agent(tenant.id.as_str(), permits(&format!("docs:{n}:*"), &["read"]))
        })
        .collect();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (server, agents) = (&server, &agents);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    for (n, agent) in agents.iter().enumerate() {
                        // Every agent may read only its own tenant's documents.
                        let other = (n + 1 + round % (TENANTS - 1)) % TENANTS;
                        for (owner, wanted) in [(n, true), (other, false)] {
                            let resource = format!("docs:{owner}:{caller}-{round}");
                            let body = json!({ "action": "read", "resource": resource });
                            let decision = server.with_key(&agent.token).post("/v1/authorize", body).expect(200);
                            assert_eq!(decision["allowed"], wanted, "{resource}: {decision}");
                            if !wanted {
                                assert!(decision["reason"].as_str().unwrap().contains(&resource), "{decision}");
                            }
                        }
                    }
                }
            });
        }
    });
    for n in 0..TENANTS {
        let entries = operator.trail(&format!("tenantId=tenant-{n}"));
        assert_eq!(entries.len(), 2 * CALLERS * ROUNDS);
        let own = format!("docs:{n}:");
        for entry in entries {
            let is_own = entry["resource"].as_str().unwrap().starts_with(&own);
            assert_eq!(entry["result"] == "allowed", is_own, "{entry}");
        }
    }
    // An operator's calls find these tenants by the agents' ids.
    for agent in &agents {
        operator.denied(call(&agent.id), "PERMISSION_DENIED");
    }
}
