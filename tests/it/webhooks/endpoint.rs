//! An endpoint of webhooks: it keeps what it gets, and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::eventually;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The request line and the headers, with lower-case names.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How it was answered.
    pub reply: Reply,
}

/// How an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// It redirects to that URL.
    Redirect(String),
    /// It says nothing, until the caller leaves.
    Nothing,
    /// It begins an answer, and its head or its body never ends.
    EndlessHead,
    EndlessBody,
    /// It hangs up.
    Close,
    /// It takes the message, and is killed before it can say so.
    Die,
}

/// An endpoint on a port of its own.
pub struct Endpoint {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Endpoint {
    /// An endpoint that takes everything.
    pub fn start() -> Self {
        Self::answering(|_| Reply::Status(204))
    }

    /// An endpoint that answers each request, told how many came before it, in its way.
    pub fn answering(answer: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let (kept, answer) = (Arc::clone(&received), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &kept, &*answer));
            }
        });
        Self { port, received }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?a=b", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that came, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What it took, in order.
    pub fn taken(&self) -> Vec<Received> {
        let is_taken = |request: &Received| matches!(request.reply, Reply::Status(200..300) | Reply::Die);
        self.received().into_iter().filter(is_taken).collect()
    }

    /// Waits until it took that many, and returns them.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually("the endpoint takes messages", || Some(self.taken()).filter(|taken| taken.len() >= count))
    }
}

/// A request's line, its headers and its body.
type Parts = (String, Vec<(String, String)>, Vec<u8>);

/// Those of a request; `None` if it breaks off, as that of a server that is killed may.
fn read_request(reader: &mut impl BufRead) -> Option<Parts> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim_end().to_owned(), headers, body))
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Received>>, answer: &(dyn Fn(usize) -> Reply + Send + Sync)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some((line, headers, body)) = read_request(&mut reader) else { return };
    let reply = {
        let mut kept = kept.lock().unwrap();
        let reply = answer(kept.len());
        kept.push(Received { line, headers, body, reply: reply.clone() });
        reply
    };
    // The caller may leave at any time.
    let _ = give(stream, &reply);
}

fn give(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    match reply {
        Reply::Status(status) => write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nhi"),
        Reply::Redirect(url) => write!(stream, "HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n"),
        Reply::Nothing => stream.read_to_end(&mut Vec::new()).map(drop),
        Reply::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")?;
            }
        }
        Reply::EndlessBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        Reply::Close | Reply::Die => Ok(()),
    }
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether one of its signatures is by that secret.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

/// An endpoint with TLS that takes everything, with that certificate.
pub fn secured(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Endpoint {
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::<Mutex<Vec<Received>>>::default();
    let kept = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
            let Some((line, headers, body)) = read_request(&mut reader) else { continue };
            let reply = Reply::Status(200);
            kept.lock().unwrap().push(Received { line, headers, body, reply });
            let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            let _ = reader.get_mut().flush();
        }
    });
    Endpoint { port, received }
}
