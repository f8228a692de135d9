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

use super::connection_affinity::ServeConnection;
use super::connection_limit::{ConnectionLimit, ConnectionSlot, WorkerConnections};
use super::connection_timeouts::STALL_SECONDS;
use super::request_gate::RequestGate;
use super::{TimedStream, Tls};
use crate::telemetry::ThrottledLog;

/// How long what a client still sends is thrown away after an answer that did not wait for it. A connection that is
/// closed with bytes unread takes the answer along.
const LINGER: Duration = Duration::from_secs(1);

/// What a client gets where there are as many connections as there may be.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How the connections of a process are served.
#[derive(Clone)]
pub struct ConnectionServer {
    limit: Arc<ConnectionLimit>,
    tls: Option<Tls>,
    ending: watch::Receiver<bool>,
    refused: Arc<ThrottledLog>,
}

impl ConnectionServer {
    /// So many connections, with TLS or without. Where `ending` says so, each ends after what it is at.
    pub fn new(limit: Arc<ConnectionLimit>, tls: Option<Tls>, ending: watch::Receiver<bool>) -> Self {
        Self { limit, tls, ending, refused: Arc::default() }
    }

    /// Makes the calling thread a worker that serves connections by that application.
    ///
    /// # Errors
    /// The application can't be made.
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
        let connections = WorkerConnections::new(limit);
        actix_rt::spawn(WorkerConnections::keep_looking(Rc::downgrade(&connections)));
        let app =
            map_config(app, |()| AppConfig::default()).map_err(|problem| Response::from(problem.error_response()));
        let http = HttpService::build()
            // The timer of a connection sees to both, and to what these leave out.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
            .graceful_shutdown_signal(move || {
                let mut ending = ending.clone();
                async move {
                    // Ends as well where the server was dropped.
                    let _ = ending.wait_for(|ending| *ending).await;
                }
            })
            .on_connect_ext(|gate: &RequestGate<Transport>, extensions| {
                extensions.insert(Rc::clone(gate.timer()));
            })
            .h1(app)
            .new_service(())
            .await?;
        let door = Rc::new(Admission { connections, tls, refused });
        let (http, behind) = (Rc::new(http), Rc::clone(&door));
        let serve: ServeConnection = Rc::new(move |stream| {
            let (http, door) = (Rc::clone(&http), Rc::clone(&behind));
            Box::pin(async move {
                let Some((stream, seat)) = door.enter(stream) else { return };
                let peer = stream.peer_addr().ok();
                if let Some(wire) = door.open(stream, &seat, peer).await
                    && let Err(problem) = http.call((RequestGate::new(wire, Rc::clone(seat.timer())), peer)).await
                {
                    // That is no problem of the server's.
                    debug!(?peer, %problem, "a connection broke");
                }
            })
        });
        Ok(ConnectionWorker { door, serve })
    }
}

/// What one worker does with connections.
pub struct ConnectionWorker {
    door: Rc<Admission>,
    serve: ServeConnection,
}

impl ConnectionWorker {
    /// Waits for the first bytes of a new connection. `None`: none came in time, or there is no room.
    pub async fn let_in(&self, stream: TcpStream) -> Option<TcpStream> {
        let (stream, seat) = self.door.enter(stream)?;
        let timer = seat.timer();
        timer.begins();
        let has_bytes = poll_fn(|context| {
            if timer.is_over_at(context) {
                return Poll::Ready(false);
            }
            stream.poll_read_ready(context).map(|ready| ready.is_ok())
        });
        has_bytes.await.then_some(stream)
    }

    /// How it serves one that has something to say, whichever worker let it in.
    pub fn serve(&self) -> ServeConnection {
        Rc::clone(&self.serve)
    }
}

/// Where connections come in.
struct Admission {
    connections: Rc<WorkerConnections>,
    tls: Option<Tls>,
    refused: Arc<ThrottledLog>,
}

impl Admission {
    /// Gives a connection a seat, or refuses it.
    fn enter(&self, stream: TcpStream) -> Option<(TcpStream, ConnectionSlot)> {
        if let Some(seat) = self.connections.enter() {
            return Some((stream, seat));
        }
        self.refused.warn_with(|times| {
            let most = self.connections.limit().most();
            warn!(most, times, "connections were refused: there are as many as there may be");
        });
        // Within TLS it would be no answer.
        if self.tls.is_none() {
            refuse(stream);
        }
        None
    }

    /// What serves HTTP on a stream.
    async fn open(&self, stream: TcpStream, seat: &ConnectionSlot, peer: Option<SocketAddr>) -> Option<Transport> {
        // An answer is written in one piece: to hold its end back for the client's word on its beginning gains nothing.
        let _ = stream.set_nodelay(true);
        // A client that vanished without a word is found out as soon as one that takes nothing.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_SECONDS * 1000);
        let timer = seat.timer();
        let stream = TimedStream::new(stream, Rc::clone(timer));
        let Some(tls) = &self.tls else { return Some(Transport::Plain(stream)) };
        timer.begins();
        match tls.acceptor().accept(stream).await {
            Ok(stream) => {
                timer.is_through();
                Some(Transport::Tls(Box::new(stream)))
            }
            Err(problem) => {
                debug!(?peer, %problem, "a TLS handshake failed");
                None
            }
        }
    }
}

/// Says that there is no room. Nothing was written yet, so the kernel takes it at once; where it does not, the client
/// sees a closed connection.
fn refuse(stream: TcpStream) {
    let _ = stream.into_std().and_then(|mut stream| stream.write(NO_ROOM));
}

/// A connection's bytes as HTTP sees them.
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
