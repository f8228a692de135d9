//! TLS: the server over an encrypted connection, and errors about its files at the start.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, version};

use crate::client::send_bytes;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};

/// A self-signed certificate and its key, in a folder that lasts as long as the test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        fs::write(self.certificate(), made.cert.pem()).unwrap();
        fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    fn certificate(&self) -> String {
        self.0.path().join("tls.crt").display().to_string()
    }

    fn key(&self) -> String {
        self.0.path().join("tls.key").display().to_string()
    }

    fn start(&self) -> Server {
        let leak = |text: String| -> &'static str { text.leak() };
        let args = ["--tls-cert", leak(self.certificate()), "--tls-key", leak(self.key())];
        Server::start_with(Options::args(&args))
    }
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Connects as a client that trusts only the certificate in that file.
fn connect(
    server: &Server,
    trusted: &str,
    versions: &[&'static tokio_rustls::rustls::SupportedProtocolVersion],
) -> Result<Secured, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(Path::new(trusted)).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(server.host()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|problem| problem.to_string())?;
    }
    Ok(stream)
}

/// One call on that connection. Returns everything up to the end of its body.
fn ask(stream: &mut Secured, method: &str, path: &str, key: &str, body: &str) -> String {
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.extend_from_slice(&byte);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

#[test]
fn calls_are_served_over_tls_and_plain_ones_are_not() {
    let files = Files::new();
    let mut server = files.start();
    assert!(server.base().starts_with("https://127.0.0.1:"), "{}", server.base());
    for (version, wanted) in [(&version::TLS13, ProtocolVersion::TLSv1_3), (&version::TLS12, ProtocolVersion::TLSv1_2)]
    {
        let mut stream = connect(&server, &files.certificate(), &[version]).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(wanted));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(ask(&mut stream, "GET", "/livez", "", "").starts_with("HTTP/1.1 200 "));
        // The route before the router and one behind it, on one connection.
        let decision =
            ask(&mut stream, "POST", "/v1/authorize", OPERATOR_KEY, r#"{"agentId":"x","action":"a","resource":"r"}"#);
        assert!(decision.contains("AGENT_NOT_FOUND"), "{decision}");
        let long =
            json!({ "requests": vec![json!({ "agentId": "x", "action": "a", "resource": "r".repeat(500) }); 900] });
        let batch = ask(&mut stream, "POST", "/v1/authorize/batch", OPERATOR_KEY, &long.to_string());
        assert_eq!(batch.matches("AGENT_NOT_FOUND").count(), 900);
    }
    // Plain HTTP and other bytes harm nobody; nor does a stalled handshake, which is ended too.
    let mut broken =
        [&b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01"].map(|bytes| {
            let mut stream = TcpStream::connect(server.host()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        });
    let mut stream = connect(&server, &files.certificate(), &[&version::TLS13]).unwrap();
    assert!(ask(&mut stream, "GET", "/livez", "", "").contains("alive"));
    for stream in &mut broken {
        let mut answer = Vec::new();
        // It may be closed or reset.
        if let Err(problem) = stream.read_to_end(&mut answer) {
            assert_eq!(problem.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(send_bytes(server.host(), b"GET /livez HTTP/1.1\r\n\r\n").is_err());
    drop(stream);
    server.stop();
}

#[test]
fn a_new_certificate_is_shown_after_a_signal_and_connections_go_on() {
    let files = Files::new();
    let mut server = files.start();
    let hang_up = |server: &Server| kill_process(server.pid(), Signal::HUP).unwrap();
    let mut old = connect(&server, &files.certificate(), &[&version::TLS13]).unwrap();
    // An unusable certificate changes nothing.
    let certificate = fs::read(files.certificate()).unwrap();
    fs::write(files.certificate(), "no PEM").unwrap();
    hang_up(&server);
    eventually("it is said", || server.log().contains("could not reload the TLS certificate").then_some(()));
    assert!(server.log().contains("tls.crt: holds no certificate"), "{}", server.log());
    fs::write(files.certificate(), certificate).unwrap();
    connect(&server, &files.certificate(), &[&version::TLS13]).unwrap();
    files.renew();
    assert!(connect(&server, &files.certificate(), &[&version::TLS13]).is_err());
    hang_up(&server);
    let mut new =
        eventually("the new one is shown", || connect(&server, &files.certificate(), &[&version::TLS13]).ok());
    for stream in [&mut old, &mut new] {
        assert!(ask(stream, "GET", "/livez", "", "").contains("alive"));
    }
    server.stop();
}

#[test]
fn wrong_tls_flags_are_errors_at_the_start() {
    let files = Files::new();
    let start = |args: &[&str]| {
        let home = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kavach"));
        command.env_remove("KAVACH_TLS_CERT").env_remove("KAVACH_TLS_KEY").env("KAVACH_ADDR", "127.0.0.1:0");
        command.current_dir(home.path());
        let ended = command.args(args).output().unwrap();
        assert!(!ended.status.success());
        assert!(ended.stdout.is_empty(), "no key is shown by a start that failed");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made");
        String::from_utf8(ended.stderr).unwrap()
    };
    let (certificate, key) = (files.certificate(), files.key());
    assert!(start(&["--tls-cert", &certificate]).contains("--tls-key"));
    assert!(start(&["--tls-key", &key]).contains("--tls-cert"));
    let missing = start(&["--tls-cert", "none.crt", "--tls-key", &key]);
    assert!(missing.contains("none.crt: can't be read: "), "{missing}");
    let swapped = start(&["--tls-cert", &key, "--tls-key", &certificate]);
    assert!(swapped.contains("tls.key: holds no certificate"), "{swapped}");
    let load = start(&["load", "--url", "https://127.0.0.1:1"]);
    assert!(load.contains("no TLS"), "{load}");
}
