//! How a connection is served, from its first byte to its last.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_rt::net::TcpStream;
use actix_service::{Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::connection_limit::{ConnectionLimit, ConnectionSlot, WorkerConnections};
use super::connection_timeouts::{ConnectionTimer, STALL_TIMEOUT_SECS};
use super::request_gate::{LINGER, RequestGate};
use super::{TimedStream, Tls};
use crate::telemetry::ThrottledLog;

/// The answer to a connection over the limit.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What the workers need to serve connections. Each worker makes its own [`ConnectionWorker`] from a clone.
#[derive(Clone)]
pub struct ConnectionServer {
    limit: Arc<ConnectionLimit>,
    tls: Option<Tls>,
    ending: watch::Receiver<bool>,
    refused: Arc<ThrottledLog>,
}

impl ConnectionServer {
    /// Serves connections up to a limit, with or without TLS. Once `ending` is `true`, each closes after its current
    /// request.
    pub fn new(limit: Arc<ConnectionLimit>, tls: Option<Tls>, ending: watch::Receiver<bool>) -> Self {
        Self { limit, tls, ending, refused: Arc::default() }
    }

    /// Makes the calling thread a worker that serves connections with application `app`.
    ///
    /// # Errors
    /// The application can't be built.
    pub async fn worker<F>(self, app: F) -> Result<ConnectionWorker, ()>
    where
        F: ServiceFactory<
                Request,
                Config = AppConfig,
                Response = Response<BoxBody>,
                Error = actix_web::Error,
                InitError = (),
            > + 'static,
        F::Future: 'static,
        F::Service: Service<Request, Future: 'static> + 'static,
    {
        let Self { limit, tls, ending, refused } = self;
        let signal = ending.clone();
        let connections = WorkerConnections::new(limit);
        actix_rt::spawn(WorkerConnections::keep_ticking(Rc::downgrade(&connections)));
        let app =
            map_config(app, |()| AppConfig::default()).map_err(|problem| Response::from(problem.error_response()));
        let http = HttpService::build()
            // The connection's timer handles both timeouts, and the cases that actix-http leaves out.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            // Longer than the gate drains.
            .client_disconnect_timeout(LINGER * 2)
            .graceful_shutdown_signal(move || {
                let mut ending = signal.clone();
                async move {
                    // Also ends if the server was dropped.
                    let _ = ending.wait_for(|ending| *ending).await;
                }
            })
            .on_connect_ext(|gate: &RequestGate<Transport>, extensions| {
                extensions.insert(Rc::clone(gate.timer()));
            })
            .h1(app)
            .new_service(())
            .await?;
        let admission = Rc::new(Admission { connections, tls, refused });
        let (http, behind) = (Rc::new(http), Rc::clone(&admission));
        let serve: ServeConnection = Box::new(move |stream, slot| {
            let (http, admission) = (Rc::clone(&http), Rc::clone(&behind));
            Box::pin(async move {
                let peer = stream.peer_addr().ok();
                if let Some(wire) = admission.open(stream, &slot, peer).await
                    && let Err(problem) = http.call((RequestGate::new(wire, Rc::clone(slot.timer())), peer)).await
                {
                    // Clients cause this, so it is not a warning.
                    debug!(?peer, %problem, "a connection broke");
                }
            })
        });
        Ok(ConnectionWorker { admission, ending, serve })
    }
}

/// How HTTP is served on an admitted connection that has sent its first bytes.
type ServeConnection = Box<dyn Fn(TcpStream, ConnectionSlot) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Serves connections on one worker thread.
pub struct ConnectionWorker {
    admission: Rc<Admission>,
    ending: watch::Receiver<bool>,
    serve: ServeConnection,
}

impl ConnectionWorker {
    /// Serves a connection until it ends.
    pub async fn serve(&self, stream: TcpStream) {
        let Some((stream, slot)) = self.admission.enter(stream) else { return };
        if self.has_first_bytes(&stream, slot.timer()).await {
            (self.serve)(stream, slot).await;
        }
    }

    /// Waits for the first bytes. False if none come in time, or before the server stops.
    async fn has_first_bytes(&self, stream: &TcpStream, timer: &ConnectionTimer) -> bool {
        timer.start_head_timeout();
        let mut ending = self.ending.clone();
        let has_bytes = poll_fn(|context| {
            if timer.poll_closing(context) {
                return Poll::Ready(false);
            }
            stream.poll_read_ready(context).map(|ready| ready.is_ok())
        });
        tokio::select! {
            biased;
            has_bytes = has_bytes => has_bytes,
            _ = ending.wait_for(|ending| *ending) => false,
        }
    }
}

/// Admits connections and sets up their streams.
struct Admission {
    connections: Rc<WorkerConnections>,
    tls: Option<Tls>,
    refused: Arc<ThrottledLog>,
}

impl Admission {
    /// Gives a connection a place under the limit, or refuses it.
    fn enter(&self, stream: TcpStream) -> Option<(TcpStream, ConnectionSlot)> {
        if let Some(slot) = self.connections.enter() {
            return Some((stream, slot));
        }
        self.refused.warn_with(|times| {
            let most = self.connections.limit().most();
            warn!(most, times, "refused connections: the limit is reached");
        });
        // A TLS client could not read a plain answer.
        if self.tls.is_none() {
            refuse(stream);
        }
        None
    }

    /// Sets up the stream that HTTP runs over, after the TLS handshake if there is one.
    async fn open(&self, stream: TcpStream, slot: &ConnectionSlot, peer: Option<SocketAddr>) -> Option<Transport> {
        // Answers are written in one piece, so Nagle's algorithm would only delay their ends.
        let _ = stream.set_nodelay(true);
        // Detect a client that vanished as fast as one that reads nothing.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_TIMEOUT_SECS * 1000);
        let timer = slot.timer();
        let stream = TimedStream::new(stream, Rc::clone(timer));
        let Some(tls) = &self.tls else { return Some(Transport::Plain(stream)) };
        timer.start_head_timeout();
        match tls.acceptor().accept(stream).await {
            Ok(stream) => {
                timer.end_handshake();
                Some(Transport::Tls(Box::new(stream)))
            }
            Err(problem) => {
                debug!(?peer, %problem, "a TLS handshake failed");
                None
            }
        }
    }
}

/// Answers that there is no room. The kernel's buffer is empty, so it takes the answer at once; if not, the client just
/// sees the connection close.
fn refuse(stream: TcpStream) {
    let _ = stream.into_std().and_then(|mut stream| stream.write(NO_ROOM));
}

/// A connection's bytes as HTTP sees them: plain, or decrypted.
pub(super) enum Transport {
    Plain(TimedStream),
    Tls(Box<TlsStream<TimedStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
