//! A running server: an [`App`] with HTTP in front.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_rt::net::TcpStream;
use actix_rt::time::timeout;
use actix_server::ServerHandle;
use actix_service::{IntoService, Service, ServiceFactory, fn_factory, fn_service, map_config};
use actix_web::dev::AppConfig;
use ipnet::IpNet;
use tokio::sync::watch;
use tracing::info;

use crate::actors::Core;
use crate::api;
use crate::app::App;
use crate::connections::{Connections, Serve};
use crate::domain::TenantId;
use crate::service::Kavach;
use crate::settings::Settings;

/// How long open connections get to end once all tenants are closed.
const CLOSING: Duration = Duration::from_secs(2);
/// Connections a worker takes in at once. More wait in the kernel.
const MAX_CONNECTIONS: usize = 10_000;

/// A running server: an [`App`] with HTTP in front.
pub struct Server {
    app: App,
    http: ServerHandle,
    connections: Arc<Connections>,
    /// Tells the connections to end after what they are at.
    ending: watch::Sender<bool>,
    address: SocketAddr,
}

impl Server {
    /// Listens, then loads the tenants. Until they are loaded `/readyz` says so and calls get 503.
    ///
    /// # Errors
    /// As for [`App::open`], or the address can't be bound.
    pub async fn start(settings: &Settings) -> io::Result<Self> {
        let app = App::assemble(settings)?;
        let workers = settings.worker_count();
        let socket = TcpListener::bind(settings.addr)?;
        let address = socket.local_addr()?;
        let core = Arc::clone(app.core());
        let home = move |tenant: TenantId| core.routes.with(tenant.tag(), |route| route.lane)?;
        let connections = Connections::new(workers, home);
        let ending = watch::Sender::new(false);
        let listener = Listening {
            kavach: app.kavach(),
            trusted_proxies: settings.trusted_proxies.clone(),
            core: Arc::clone(app.core()),
            connections: Arc::clone(&connections),
            ending: ending.subscribe(),
        };
        let running = actix_server::Server::build()
            .workers(workers)
            .max_concurrent_connections(MAX_CONNECTIONS)
            .disable_signals()
            .listen("http", socket, move || listener.worker())?
            .run();
        let http = running.handle();
        actix_rt::spawn(running);
        app.core().wait_for_homes(workers).await;
        app.load().await?;
        info!(%address, workers, "serving");
        Ok(Self { app, http, connections, ending, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parts behind HTTP.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Takes no new connections, answers what is under way, writes everything to disk, and ends.
    pub async fn stop(self) {
        let Self { app, http, connections, ending, address: _ } = self;
        http.pause().await;
        // The tenants go first, since they live on the workers: calls that come now get 503 SHUTTING_DOWN.
        app.close().await;
        // The workers would wait for the connections that came to them, but not for those that were moved to them.
        ending.send_replace(true);
        let _ = timeout(CLOSING, connections.all_closed()).await;
        http.stop(false).await;
    }
}

/// What each worker is made of.
#[derive(Clone)]
struct Listening {
    kavach: Kavach,
    trusted_proxies: Vec<IpNet>,
    core: Arc<Core>,
    connections: Arc<Connections>,
    ending: watch::Receiver<bool>,
}

impl Listening {
    /// Makes the calling thread a worker, and what serves the connections that come to it.
    fn worker(&self) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> + use<> {
        // Tenants' actors live on the workers' own arbiters.
        let lane = self.core.add_worker();
        let (connections, ending) = (Arc::clone(&self.connections), self.ending.clone());
        let service = api::service(self.kavach.clone(), self.trusted_proxies.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let mut ending = ending.clone();
                async move {
                    // Ends as well where the server was dropped.
                    let _ = ending.wait_for(|ending| *ending).await;
                }
            })
            .finish(map_config(service, |()| AppConfig::default()))
            .tcp();
        fn_factory(move || {
            let (made, connections) = (http.new_service(()), Arc::clone(&connections));
            async move {
                let http = made.await?;
                let serve: Serve = Rc::new(move |stream| {
                    let served = http.call(stream);
                    // A connection that broke is no problem of the server's.
                    Box::pin(async move { drop(served.await) })
                });
                connections.join(lane, Rc::clone(&serve));
                let take_in = move |stream| {
                    let taken = Arc::clone(&connections).take_in(stream, lane, Rc::clone(&serve));
                    async move {
                        taken.await;
                        Ok(())
                    }
                };
                Ok(fn_service(take_in).into_service())
            }
        })
    }
}
