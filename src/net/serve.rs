//! How a connection is served, from its first byte to its last.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_rt::net::TcpStream;
use actix_server::GracefulShutdownSignal;
use actix_service::{Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::pace::{Pace, STALL_SECONDS};
use super::roster::{Limit, Roster, Seat};
use super::{Tls, Watched};
use crate::telemetry::Seldom;

/// How long what a client still sends is thrown away after an answer that did not wait for it. A connection that is
/// closed with bytes unread takes the answer along.
const LINGER: Duration = Duration::from_secs(1);

/// What a client gets where there are as many connections as there may be.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A connection that is being served.
pub type Serving = Pin<Box<dyn Future<Output = ()>>>;
/// How one worker serves a connection.
pub type Serve = Rc<dyn Fn(TcpStream) -> Serving>;

/// How the connections of a process are served.
#[derive(Clone)]
pub struct Entrance {
    limit: Arc<Limit>,
    tls: Option<Tls>,
    stopping: GracefulShutdownSignal,
    refused: Arc<Seldom>,
}

impl Entrance {
    /// So many connections, with TLS or without, until that signal comes.
    pub fn new(limit: Arc<Limit>, tls: Option<Tls>, stopping: GracefulShutdownSignal) -> Self {
        Self { limit, tls, stopping, refused: Arc::default() }
    }

    /// Makes the calling thread a worker that serves connections by that application.
    ///
    /// # Errors
    /// The application can't be made.
    pub async fn worker<F>(self, app: F) -> Result<Serve, ()>
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
        let Self { limit, tls, stopping, refused } = self;
        let most = limit.most();
        let roster = Roster::new(limit);
        actix_rt::spawn(Roster::keep_looking(Rc::downgrade(&roster)));
        let app =
            map_config(app, |()| AppConfig::default()).map_err(|problem| Response::from(problem.error_response()));
        let http = HttpService::build()
            // The pace of a connection sees to both, and to what these leave out.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(|wire: &Wire, extensions| {
                extensions.insert(Rc::clone(wire.pace()));
            })
            .h1(app)
            .new_service(())
            .await?;
        let http = Rc::new(http);
        Ok(Rc::new(move |stream: TcpStream| -> Serving {
            let Some(seat) = roster.enter() else {
                refused.warn_with(|times| {
                    warn!(most, times, "connections were refused: there are as many as there may be");
                });
                // Within TLS it would be no answer.
                if tls.is_none() {
                    refuse(stream);
                }
                return Box::pin(std::future::ready(()));
            };
            let (http, tls) = (Rc::clone(&http), tls.clone());
            Box::pin(async move {
                let peer = stream.peer_addr().ok();
                if let Some(wire) = open(stream, &seat, tls.as_ref(), peer).await
                    && let Err(problem) = http.call((wire, peer)).await
                {
                    debug!(?peer, %problem, "a connection broke");
                }
            })
        }))
    }
}

/// Says that there is no room. Nothing was written yet, so the kernel takes it at once; where it does not, the client
/// sees a closed connection.
fn refuse(stream: TcpStream) {
    let _ = stream.into_std().and_then(|mut stream| stream.write(NO_ROOM));
}

/// What serves HTTP on a stream.
async fn open(stream: TcpStream, seat: &Seat, tls: Option<&Tls>, peer: Option<SocketAddr>) -> Option<Wire> {
    // An answer is written in one piece: to hold its end back for the client's word on its beginning gains nothing.
    let _ = stream.set_nodelay(true);
    // A client that vanished without a word is found out as soon as one that takes nothing.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_SECONDS * 1000);
    let pace = seat.pace();
    let stream = Watched::new(stream, Rc::clone(pace));
    let Some(tls) = tls else { return Some(Wire::Plain(stream)) };
    pace.begins();
    match tls.acceptor().accept(stream).await {
        Ok(stream) => {
            pace.is_through();
            Some(Wire::Tls(Box::new(stream)))
        }
        Err(problem) => {
            debug!(?peer, %problem, "a TLS handshake failed");
            None
        }
    }
}

/// A connection's bytes as HTTP sees them.
pub(super) enum Wire {
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

impl Wire {
    fn pace(&self) -> &Rc<Pace> {
        match self {
            Self::Plain(stream) => stream.pace(),
            Self::Tls(stream) => stream.get_ref().0.pace(),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire(..)")
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
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
