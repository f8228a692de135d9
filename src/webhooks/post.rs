//! One attempt to send a message: an HTTP/1.1 `POST` on a connection of its own.
//!
//! We need no more of an answer than its status, so we read no more than its head. Whatever an endpoint does, an attempt
//! ends within `ATTEMPT` and takes `MAX_HEAD_BYTES`. The address is checked after the name was looked up and is the one
//! that we connect to, so nobody can change it in between. Redirects are not followed.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use super::address::may_reach;

/// How long an attempt may take in all, from the look into DNS to the answer's head.
const ATTEMPT: Duration = Duration::from_secs(15);
/// How long a connection to one address may take, so that another of the name's addresses gets its turn.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 3;
/// Bytes of an answer that are read (16 KiB): more than the heads of ordinary answers.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of an answer that are read.
const MAX_HEADERS: usize = 100;

/// Sends messages.
pub struct Client {
    allowed: Vec<IpNet>,
    tls: OnceCell<TlsConnector>,
}

/// The sender's permit for an attempt.
type Turn = Arc<dyn Send + Sync>;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status, if an answer came.
    pub status: Option<u16>,
    /// The failure in words.
    pub problem: String,
}

impl Failure {
    fn new(problem: impl Into<String>) -> Self {
        Self { status: None, problem: problem.into() }
    }
}

impl Client {
    /// A client that may also reach these networks.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, tls: OnceCell::new() }
    }

    /// Sends a message once, and returns the status of the answer if that says that it was taken (2xx). The turn ends
    /// with the attempt, or with the look-up of a name if that goes on longer: a slow resolver holds a thread.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn post<T: Send + Sync + 'static>(
        &self,
        turn: T,
        url: &Url,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<u16, Failure> {
        let turn: Turn = Arc::new(turn);
        let late = || Failure::new(format!("it did not answer within {} seconds", ATTEMPT.as_secs()));
        let status =
            timeout(ATTEMPT, self.exchange(&turn, url, headers, body)).await.unwrap_or_else(|_| Err(late()))?;
        let problem = match status {
            200..300 => return Ok(status),
            300..400 => format!("it answered {status}, and redirects are not followed: change the webhook's URL"),
            _ => format!("it answered {status}"),
        };
        Err(Failure { status: Some(status), problem })
    }

    async fn exchange(&self, turn: &Turn, url: &Url, headers: &[(&str, String)], body: &[u8]) -> Result<u16, Failure> {
        let with_tls = url.scheme() == "https";
        let addresses = self.addresses(turn, url, with_tls).await?;
        let stream = connect(&addresses).await?;
        let request = request(url, headers, body);
        if !with_tls {
            return status(stream, &request).await;
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
            Some(Host::Ipv4(address)) => Some(ServerName::from(IpAddr::V4(address))),
            Some(Host::Ipv6(address)) => Some(ServerName::from(IpAddr::V6(address))),
            None => None,
        };
        let name = name.ok_or_else(|| Failure::new("its name can't be in a certificate"))?;
        let connector = self.tls.get_or_try_init(tls).await?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|problem| Failure::new(format!("its TLS can't be trusted: {problem}")))?;
        status(stream, &request).await
    }

    /// The addresses that the URL leads to and that a webhook may reach.
    async fn addresses(&self, turn: &Turn, url: &Url, with_tls: bool) -> Result<Vec<SocketAddr>, Failure> {
        let port = url.port_or_known_default().unwrap_or(443);
        let found = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Domain(name)) => look_up(Arc::clone(turn), name.to_owned(), port).await?,
            None => Vec::new(),
        };
        if found.is_empty() {
            return Err(Failure::new("its name leads to no address"));
        }
        let reached = found.into_iter().filter(|address| may_reach(address.ip(), with_tls, &self.allowed));
        let reached: Vec<_> = reached.take(MAX_ADDRESSES).collect();
        if reached.is_empty() {
            // Which address that is stays untold: a tenant's admin has no need to know the server's network.
            let problem = "it leads only to addresses that webhooks may not reach: they must be public, or allowed with \
                           --webhook-allow";
            return Err(Failure::new(problem));
        }
        Ok(reached)
    }
}

async fn look_up(turn: Turn, name: String, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let looked_up = spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Only now: the attempt may be over while this thread still waits.
        drop(turn);
        found
    });
    match looked_up.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(problem)) => Err(Failure::new(format!("its name can't be looked up: {problem}"))),
        Err(_) => Err(Failure::new("its name can't be looked up")),
    }
}

/// TLS 1.2 and 1.3, with the system's root certificates, or those of `SSL_CERT_FILE`.
async fn tls() -> Result<TlsConnector, Failure> {
    let failed = |problem: String| Failure::new(format!("the server's root certificates can't be read: {problem}"));
    let loaded = spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|problem| failed(problem.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let problem = loaded.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(failed(problem));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| failed(problem.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut problem = Failure::new("it can't be connected to");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => problem = Failure::new(format!("it can't be connected to: {}", error.kind())),
            Err(_) => {
                problem = Failure::new(format!("it can't be connected to within {} seconds", CONNECT.as_secs()));
            }
        }
    }
    Err(problem)
}

/// The bytes of the request. Neither the URL nor a header's value can hold a line break: a URL is percent-encoded, and we
/// make the values.
fn request(url: &Url, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut head = format!("POST {}{query} HTTP/1.1\r\nhost: {host}{port}\r\n", url.path());
    let length = body.len();
    for (name, value) in headers {
        // Writing to a string can't fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        head,
        "user-agent: kavach/{version}\r\naccept: */*\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n",
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request and reads the status of its answer.
async fn status<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> Result<u16, Failure> {
    let broken = |problem: io::Error| Failure::new(format!("the connection broke off: {}", problem.kind()));
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    // It may have answered before it read all of the request, and closed: then the answer counts.
    let sent = sent.await;
    let mut head = Vec::new();
    loop {
        while let Some((code, length)) = parsed(&head)? {
            // What comes before the answer itself, such as 103.
            if code >= 200 {
                return Ok(code);
            }
            head.drain(..length);
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Err(Failure::new(format!("the head of its answer is over {MAX_HEAD_BYTES} bytes")));
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(0) => {
                sent.map_err(broken)?;
                return Err(Failure::new("it closed the connection without an answer"));
            }
            Ok(length) => head.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(problem) => return Err(broken(problem)),
        }
    }
}

/// The status and the length of an answer's head; `None` if there is more to come.
fn parsed(bytes: &[u8]) -> Result<Option<(u16, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(response.code.map(|code| (code, length))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(problem) => Err(Failure::new(format!("its answer is not HTTP: {problem}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(bytes: &'static [u8]) -> Result<u16, Failure> {
        let (own, mut other) = tokio::io::duplex(64 << 10);
        let endpoint = tokio::spawn(async move {
            let mut request = [0; 4];
            other.read_exact(&mut request).await.unwrap();
            // Somebody who hangs up while it still talks is no failure.
            let _ = other.write_all(bytes).await;
        });
        let status = status(own, b"POST").await;
        endpoint.await.unwrap();
        status
    }

    #[tokio::test]
    async fn the_status_is_that_of_the_answer_itself() {
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(204));
        assert_eq!(answer(b"HTTP/1.0 500 Oh\r\nx: y\r\n\r\nbody").await, Ok(500));
        assert_eq!(
            answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await,
            Ok(200)
        );
        for nothing in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"] {
            assert!(answer(nothing).await.unwrap_err().problem.contains("without an answer"));
        }
        assert!(answer(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap_err().problem.contains("not HTTP"));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off() {
        let (own, mut other) = tokio::io::duplex(1 << 10);
        let endpoint = tokio::spawn(async move {
            let _ = other.write_all(b"HTTP/1.1 200 OK\r\n").await;
            let mut sent = 0;
            while other
                .write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
                .await
                .is_ok()
            {
                sent += 1;
            }
            sent
        });
        let failure = status(own, b"POST").await.unwrap_err();
        assert!(failure.problem.contains("bytes") || failure.problem.contains("not HTTP"), "{failure:?}");
        assert!(endpoint.await.unwrap() * 70 < 2 * MAX_HEAD_BYTES);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let endpoint = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 307 X\r\nlocation: https://example.com/\r\n\r\n").unwrap();
        });
        let failure = Client::new(vec!["127.0.0.0/8".parse().unwrap()]).post((), &url, &[], b"{}").await.unwrap_err();
        endpoint.join().unwrap();
        assert_eq!(failure.status, Some(307));
        assert!(failure.problem.contains("redirects are not followed"), "{failure:?}");
    }

    #[tokio::test]
    async fn an_endpoint_that_never_answers_is_left() {
        tokio::time::pause();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let failure = client.post((), &url, &[], b"{}").await.unwrap_err();
        assert!(failure.problem.contains("within"), "{failure:?}");
    }

    #[tokio::test]
    async fn no_name_leads_to_a_private_address() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        for scheme in ["https", "http"] {
            for host in ["localhost", "127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
                let url = Url::parse(&format!("{scheme}://{host}:{port}/")).unwrap();
                let failure = Client::new(Vec::new()).post((), &url, &[], b"{}").await.unwrap_err();
                assert!(failure.problem.contains("may not reach"), "{url}: {failure:?}");
            }
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }

    #[test]
    fn a_request_names_its_host_and_nothing_can_be_put_into_it() {
        let url = Url::parse("https://example.com:8443/a b\r\nx: y?c=d e").unwrap();
        let request = request(&url, &[("webhook-id", "msg_1".to_owned())], b"{}");
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.starts_with("POST /a%20bx:%20y?c=d%20e HTTP/1.1\r\nhost: example.com:8443\r\nwebhook-id: msg_1\r\n"),
            "{text}"
        );
        assert!(text.ends_with("content-length: 2\r\nconnection: close\r\n\r\n{}"));
    }
}
