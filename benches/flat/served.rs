//! A server as a separate process with one worker, and connections to it. All tenants and all connections are on one
//! thread, which is the worst case.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use actix_rt::System;
use kavach::{Server, ServerSettings};
use tempfile::TempDir;

pub const OPERATOR_KEY: &str = "kvo_a-key-for-a-server-that-lives-for-a-minute-only";

/// A running server. It is killed when this is dropped.
pub struct Served {
    child: Child,
    commands: Mutex<ChildStdin>,
    pub address: String,
    _folder: TempDir,
}

impl Served {
    /// Starts this program again, on data that `prepare` writes.
    pub fn start(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        prepare(folder.path());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--serve").arg(folder.path()).env_remove("RUST_BACKTRACE");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let commands = Mutex::new(child.stdin.take().unwrap());
        Self { child, commands, address: address.trim().to_owned(), _folder: folder }
    }

    /// Makes that tenant's actor panic.
    pub fn inject_panic(&self, slug: &str) {
        writeln!(self.commands.lock().unwrap(), "{slug}").unwrap();
    }

    pub fn connect(&self) -> Connection {
        Connection::to(&self.address).unwrap()
    }

    /// Sends a request on its own connection and keeps only the status of the answer. `None` if the connection broke.
    pub fn read_off(&self, request: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.write_all(request).ok()?;
        let (mut block, mut head) = (vec![0; 1 << 16], Vec::new());
        loop {
            match stream.read(&mut block).ok()? {
                0 => break,
                length if head.len() < 12 => head.extend_from_slice(&block[..length.min(12)]),
                _ => {}
            }
        }
        std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process: it serves, and panics on request by its input, until its input ends.
pub fn child(folder: &str) {
    let mut settings = ServerSettings { workers: Some(1), ..ServerSettings::new(folder) };
    settings.trusted_proxies = vec![IpAddr::from([127, 0, 0, 1]).into()];
    settings.operator_key = Some(OPERATOR_KEY.parse().unwrap());
    System::new().block_on(async {
        let server = Server::start(&settings).await.unwrap();
        println!("{}", server.address());
        let kavach = server.app().kavach();
        let commands = actix_rt::task::spawn_blocking(move || {
            for slug in io::stdin().lines().map_while(Result::ok) {
                // A tenant that is being rebuilt can't panic.
                let _ = kavach.inject_panic(slug.as_str());
            }
        });
        commands.await.unwrap();
    });
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, key: &str, body: &str, last: bool) -> Vec<u8> {
    let close = if last { "Connection: close\r\n" } else { "" };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n{close}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A persistent connection, with one request under way at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn to(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and waits for the whole answer, which must have a length. Returns its status.
    pub fn call(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).unwrap();
        self.buffer.clear();
        let mut block = [0; 1 << 14];
        loop {
            let length = self.stream.read(&mut block).unwrap();
            assert!(length > 0, "the server closed: {}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&block[..length]);
            if let Some(status) = self.whole() {
                return status;
            }
        }
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        let head = self.buffer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &self.buffer[head + 4..]
    }

    /// The status, once the answer is complete.
    fn whole(&self) -> Option<u16> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = answer.parse(&self.buffer).unwrap() else { return None };
        let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |header| std::str::from_utf8(header.value).unwrap().parse().unwrap());
        (self.buffer.len() >= head + length).then(|| answer.code.unwrap())
    }
}
