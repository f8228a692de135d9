//! Clients that are slow, silent, too many, or that never read their answers: they lose their connections, and nobody
//! else notices.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::client::{read_answer, send_bytes};
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::world::{call, permits};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.host()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Whether the other side has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 1024]);
    stream.set_nonblocking(false).unwrap();
    match read {
        Ok(0) => true,
        Ok(_) => false,
        Err(problem) => problem.kind() != ErrorKind::WouldBlock,
    }
}

/// Clock ticks of processor time that the server has used.
fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid().as_raw_nonzero())).unwrap();
    // After the name, which ends with the last bracket: the state is field 3, user and system time are 14 and 15.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

const ALIVE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_client_that_reads_no_answers_is_paused_and_loses_none() {
    const REQUESTS: usize = 200_000;
    let server = Server::start_with(Options::args(&["--workers", "1"]));
    let reader = connect(&server);
    let mut writer = reader.try_clone().unwrap();
    // It blocks once the server stops reading: this is far more than sockets hold.
    let sending = std::thread::spawn(move || (0..REQUESTS).try_for_each(|_| writer.write_all(ALIVE)).unwrap());
    // A server that reads on would do so without a pause, and so would one that keeps checking whether it may.
    eventually("the server rests", || {
        let before = ticks(&server);
        std::thread::sleep(Duration::from_millis(500));
        (ticks(&server) - before < 10).then_some(())
    });
    assert!(!sending.is_finished(), "all of it was read");
    for _ in 0..20 {
        server.anonymous().get("/livez").expect(200);
    }
    let mut reader = std::io::BufReader::new(reader);
    let mut answers = 0;
    let mut line = Vec::new();
    while answers < REQUESTS {
        line.clear();
        assert!(std::io::BufRead::read_until(&mut reader, b'\n', &mut line).unwrap() > 0, "{answers} answers came");
        // A line end does not end an answer's body.
        answers += usize::from(line.ends_with(b"HTTP/1.1 200 OK\r\n"));
    }
    sending.join().unwrap();
}

#[test]
fn requests_behind_a_long_queue_are_answered() {
    let server = Server::start();
    // It takes a while, and the rest is answered at once afterwards.
    let one = json!({ "agentId": "x", "action": "a", "resource": "r" });
    let body = json!({ "requests": vec![one; 900] }).to_string();
    let head = format!(
        "POST /v1/authorize/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR_KEY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // More than actix-http queues.
    let first = [head.as_bytes(), body.as_bytes(), &ALIVE.repeat(20)].concat();
    for milliseconds in 0..20 {
        let mut stream = connect(&server);
        stream.set_nodelay(true).unwrap();
        stream.write_all(&first).unwrap();
        // At some moment in between, the others are queued and not answered.
        std::thread::sleep(Duration::from_millis(milliseconds));
        stream.write_all(ALIVE).unwrap();
        let mut stream = std::io::BufReader::new(stream);
        for _ in 0..22 {
            assert_eq!(read_one(&mut stream).0, 200);
        }
    }
}

#[test]
fn idle_and_slow_connections_give_way_to_active_ones() {
    // Half of them may be connections.
    let options = Options { open_files: Some(256), args: vec!["--workers", "2"], ..Options::default() };
    let server = Server::start_with(options);
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent(acme.id.as_str(), permits("docs:*", &["read"]));
    let mut following = Stream::open(server.base(), OPERATOR_KEY, "tenantId=acme", None).unwrap();
    let slow = b"POST /v1/authorize HTTP/1.1\r\nHost: localhost\r\nContent-Le";
    for beginning in [&b""[..], slow] {
        let mut silent: Vec<_> = (0..1_000)
            .map(|_| {
                let mut stream = connect(&server);
                // A connection without room is closed at once.
                let _ = stream.write_all(beginning);
                stream
            })
            .collect();
        eventually("who asks gets an answer", || {
            send_bytes(server.host(), ALIVE).ok().filter(|answer| answer.status == 200)
        });
        let granted = eventually("a decision too", || {
            server
                .with_key(&agent.token)
                .try_send(
                    "POST",
                    "/v1/authorize",
                    &[],
                    Some(json!({ "action": "read", "resource": "docs:1" }).to_string().as_bytes()),
                )
                .ok()
                .filter(|answer| answer.status == 200)
        });
        assert_eq!(granted.json()["allowed"], true);
        eventually("the others are closed", || {
            silent.retain_mut(|stream| !is_closed(stream));
            (silent.len() <= 128).then_some(())
        });
        // A request under way is not cut off for them.
        assert_eq!(following.next().unwrap()["resource"], "docs:1");
    }
    assert!(server.log().matches("refused connections").count() <= 1, "{}", server.log());
    assert!(!server.log().contains("ERROR"), "files for tenants are left: {}", server.log());
    eventually("all is as before", || {
        let answers = (0..50).map(|_| send_bytes(server.host(), ALIVE).ok().map(|answer| answer.status));
        answers.collect::<Option<Vec<_>>>().filter(|statuses| statuses.iter().all(|status| *status == 200))
    });
}

#[test]
fn a_connection_without_room_gets_an_error() {
    let options = Options { open_files: Some(64), args: vec!["--workers", "1"], ..Options::default() };
    let server = Server::start_with(options);
    let operator = server.operator();
    operator.tenant("acme");
    // Streams are always under way, so none gives way to another connection.
    let _streams: Vec<_> = ["tenantId=acme", "tenantId=default"]
        .iter()
        .flat_map(|query| (0..15).map(|_| Stream::open(server.base(), OPERATOR_KEY, query, None).unwrap()))
        .collect();
    let refused = eventually("a connection is refused", || {
        let mut streams: Vec<_> = (0..8).map(|_| connect(&server)).collect();
        streams.iter_mut().find_map(read_answer_now)
    });
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
}

/// What has arrived so far, if anything.
fn read_answer_now(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = [0; 1024];
    let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

#[test]
fn a_slow_client_gets_a_large_answer_whole() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let mut request = call(&agent.id);
    request["arguments"] = json!({ "text": "x".repeat(9_000) });
    for _ in 0..10 {
        operator.post("/v1/authorize/batch", json!({ "requests": vec![request.clone(); 100] })).expect(200);
    }
    let page = operator.get("/v1/audit?tenantId=acme&limit=1000").expect(200);
    assert_eq!(page.as_array().unwrap().len(), 1_000);
    let mut stream = connect(&server);
    let head = format!(
        "GET /v1/audit?tenantId=acme&limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR_KEY}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(ALIVE).unwrap();
    // The first answer is far more than sockets hold, so it waits here while others come and go.
    for _ in 0..50 {
        server.anonymous().get("/livez").expect(200);
    }
    let mut stream = std::io::BufReader::new(stream);
    let (status, body) = read_one(&mut stream);
    assert_eq!((status, serde_json::from_slice::<serde_json::Value>(&body).unwrap()), (200, page));
    assert_eq!(read_one(&mut stream), (200, br#"{"status":"alive"}"#.to_vec()));
}

/// One answer with a content length.
fn read_one(stream: &mut impl std::io::BufRead) -> (u16, Vec<u8>) {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, body)
}

#[test]
fn clients_errors_leave_nothing_in_the_log() {
    let server = Server::start();
    let before = server.log();
    for bytes in [
        &b"NONSENSE\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        for _ in 0..20 {
            let answer = send_bytes(server.host(), bytes);
            assert!(answer.as_ref().map_or(true, |answer| (400..500).contains(&answer.status)), "{answer:?}");
        }
    }
    // A client that goes away in the middle of a stream with something to send.
    let operator = server.operator();
    let agent = operator.agent(serde_json::Value::Null, permits("docs:*", &["read"]));
    for _ in 0..5 {
        drop(Stream::open(server.base(), OPERATOR_KEY, "", None).unwrap());
        operator.granted(call(&agent.id));
    }
    assert!(
        read_answer(&mut {
            let mut stream = connect(&server);
            stream.write_all(ALIVE).unwrap();
            stream
        })
        .is_ok()
    );
    assert_eq!(server.log(), before);
}

#[test]
fn a_head_has_its_limits() {
    let server = Server::start();
    let lines = |count: usize, length: usize| {
        let line = |n: usize| format!("X-{n}: {}\r\n", "x".repeat(length));
        format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", (0..count).map(line).collect::<String>())
    };
    for (head, wanted) in [
        (lines(90, 100), 200),
        (lines(90, 1_000), 200),
        (lines(200, 1), 431),
        (lines(90, 2_000), 431),
        (lines(1, 200_000), 431),
    ] {
        // If the server stops reading a request, its answer can get lost on the way.
        match send_bytes(server.host(), head.as_bytes()) {
            Ok(answer) => assert_eq!(answer.status, wanted, "{} bytes", head.len()),
            Err(problem) => assert_eq!(wanted, 431, "{problem}"),
        }
    }
}
