//! A running server: an [`App`] with HTTP in front.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_rt::time::timeout;
use actix_server::ServerHandle;
use actix_service::{IntoService, ServiceFactory, fn_factory, fn_service};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::actors::Core;
use crate::api;
use crate::app::App;
use crate::gateway::Gateway;
use crate::net::{ConnectionLimit, ConnectionServer, Tls};
use crate::settings::ServerSettings;

/// How long open connections may take to end once all tenants are closed.
const CLOSING: Duration = Duration::from_secs(2);
/// How many connections may wait to be accepted, while all workers are busy for a moment.
const BACKLOG: i32 = 2048;

/// A running server: an [`App`] with HTTP in front.
pub struct Server {
    app: App,
    http: ServerHandle,
    connections: Arc<ConnectionLimit>,
    /// Tells the connections to end after the request in progress.
    ending: watch::Sender<bool>,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Server {
    /// Listens, then loads the tenants. Until they are loaded `/readyz` says so and calls get 503.
    ///
    /// # Errors
    /// As for [`App::open`], or the address can't be bound.
    pub async fn start(settings: &ServerSettings) -> io::Result<Self> {
        let tls = tls(settings)?;
        let gateway = Gateway::open(settings.forward_auth, settings.forward_auth_rules.as_deref())?;
        let mut app = App::assemble(settings)?;
        let workers = settings.worker_count();
        let socket = TcpListener::bind(settings.addr).map_err(|problem| {
            io::Error::new(problem.kind(), format!("can't listen on {}: {problem}", settings.addr))
        })?;
        rustix::net::listen(&socket, BACKLOG)?;
        let address = socket.local_addr()?;
        let ending = watch::Sender::new(false);
        let connections = ConnectionLimit::of_process();
        let (most, to_accept) = (connections.most(), connections.to_accept(workers));
        let listener = Listening {
            shared: api::Shared::new(app.kavach(), settings, gateway, Arc::clone(&connections)),
            core: Arc::clone(app.core()),
            entrance: ConnectionServer::new(Arc::clone(&connections), tls.clone(), ending.subscribe()),
        };
        let running = actix_server::Server::build()
            .workers(workers)
            .max_concurrent_connections(to_accept)
            .disable_signals()
            .listen("http", socket, move || listener.worker())?
            .run();
        let http = running.handle();
        actix_rt::spawn(running);
        app.core().homes.wait_for(workers).await;
        app.load().await?;
        info!(%address, workers, connections = most, tls = tls.is_some(), "serving");
        Ok(Self { app, http, connections, ending, address, tls })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's URL, without a path.
    pub fn base_url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// The TLS certificate, if it has one.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The parts behind HTTP.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Accepts no more connections, answers calls in flight, writes everything to disk, and stops.
    pub async fn stop(self) {
        let Self { app, http, connections, ending, address: _, tls: _ } = self;
        http.pause().await;
        // Tenants first, since they live on the workers. Calls that come now get 503 SHUTTING_DOWN.
        app.close().await;
        ending.send_replace(true);
        if timeout(CLOSING, connections.all_closed()).await.is_err() {
            warn!("connections were still open after {CLOSING:?}; they are closed now");
        }
        http.stop(false).await;
    }
}

/// TLS, if the settings ask for it.
fn tls(settings: &ServerSettings) -> io::Result<Option<Tls>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(certificate), Some(key)) => Tls::read(certificate, key).map(Some),
        (None, None) => Ok(None),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS needs both a certificate and its key")),
    }
}

/// What each worker is built from.
#[derive(Clone)]
struct Listening {
    shared: api::Shared,
    core: Arc<Core>,
    entrance: ConnectionServer,
}

impl Listening {
    /// Makes the calling thread a worker. Returns what serves the connections that it accepts.
    fn worker(&self) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> + use<> {
        // Tenants' actors live on the workers' own arbiters.
        self.core.add_worker();
        let Self { shared, core: _, entrance } = self.clone();
        fn_factory(move || {
            let made = entrance.clone().worker(api::service(shared.clone()));
            async move {
                let worker = Rc::new(made.await?);
                let take_in = move |stream| {
                    let worker = Rc::clone(&worker);
                    async move {
                        worker.serve(stream).await;
                        Ok(())
                    }
                };
                Ok(fn_service(take_in).into_service())
            }
        })
    }
}
