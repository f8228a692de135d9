//! The composition root: puts the parts together, starts them in order, and stops them in order. `server` adds HTTP.

use std::io;
use std::sync::Arc;

use actix_rt::Arbiter;
use actix_rt::task::spawn_blocking;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::actors::clock::Clock;
use crate::actors::lease_exchange::MailboxExchange;
use crate::actors::log_keeper::LogKeeper;
use crate::actors::registry_messages::{CloseAll, OpenAll};
use crate::actors::resources::Resources;
use crate::actors::{Core, Registry};
use crate::domain::{Secret, SecretHash};
use crate::journal::{Compressor, DataDir, LogError, LogOptions, Syncer, unwritable};
use crate::measure::Measures;
use crate::service::{CourierThread, Kavach};
use crate::settings::ServerSettings;

/// The file in the data directory that holds the operator key's hash.
const OPERATOR_FILE: &str = "operator.json";

/// Kavach, running inside this process without HTTP. Call [`App::close`] at the end.
///
/// Start it inside an `actix_rt` system, and keep that running: on its thread tenants come and go.
///
/// ```
/// use kavach::domain::agent::commands::NewAgent;
/// use kavach::domain::tenant::commands::NewTenant;
/// use kavach::domain::{AgentType, Code, Request, permission::PermissionSpec};
/// use kavach::service::AuditQuery;
/// use kavach::{App, ServerSettings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = std::env::temp_dir().join(format!("kavach-example-{}", std::process::id()));
/// actix_rt::System::new().block_on(async {
///     let app = App::open(&ServerSettings::new(&folder)).await?;
///     let kavach = app.kavach();
///
///     // A tenant, and an agent in it that may read and export reports.
///     let new = NewTenant { name: "Acme".into(), slug: "acme".into(), settings: None };
///     let acme = kavach.tenants().create(new).await?;
///     let (bot, token) = kavach
///         .agents()
///         .create(NewAgent {
///             tenant_id: Some("acme".into()),
///             owner_id: "user-1".into(),
///             name: "acme-data-bot".into(),
///             kind: AgentType::Autonomous,
///             permissions: vec![PermissionSpec {
///                 resource: "reports:*".into(),
///                 actions: vec!["read".into(), "export".into()],
///                 constraints: None,
///             }],
///             expires_at: None,
///             metadata: None,
///             labels: None,
///         })
///         .await?;
///     let id = bot.agent.profile.id;
///     assert!(token.reveal().starts_with("kv_"));
///
///     // May it? Every decision is recorded before you get it.
///     let read = Request::new("read", "reports:2026:q1")?.for_agent(id);
///     assert!(kavach.authorize(read.clone()).await?.allowed);
///     let delete = Request::new("delete", "reports:2026:q1")?.for_agent(id);
///     assert_eq!(kavach.authorize(delete).await?.code, Some(Code::PermissionDenied));
///
///     // Suspending the tenant stops all its agents; activating it lets them continue.
///     kavach.tenants().suspend("acme").await?;
///     assert_eq!(kavach.authorize(read.clone()).await?.code, Some(Code::TenantSuspended));
///     kavach.tenants().activate("acme").await?;
///     assert!(kavach.authorize(read).await?.allowed);
///
///     // All of it is in the tenant's audit trail, newest first, and in no other tenant's.
///     let query = AuditQuery { tenant: Some(acme.id.into()), ..AuditQuery::default() };
///     assert_eq!(kavach.audit().query(query).await?.items.len(), 4);
///
///     kavach.tenants().delete("acme", "acme").await?;
///     app.close().await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct App {
    core: Arc<Core>,
    /// Where the tenants' actors live, if there are no HTTP workers.
    arbiters: Vec<Arbiter>,
    new_operator_key: Option<Secret>,
    /// Sends messages to webhooks.
    courier: CourierThread,
}

impl App {
    /// Opens a data directory, and finds out which tenants it has.
    ///
    /// # Errors
    /// What is wrong with the directory: another process holds it, or it can't be written. The error is a sentence.
    pub async fn open(settings: &ServerSettings) -> io::Result<Self> {
        let mut app = Self::assemble(settings)?;
        for _ in 0..settings.worker_count() {
            let arbiter = Arbiter::new();
            app.core.add_arbiter(arbiter.handle());
            app.arbiters.push(arbiter);
        }
        app.load().await?;
        Ok(app)
    }

    /// Puts all parts together, with no tenant loaded.
    pub(crate) fn assemble(settings: &ServerSettings) -> io::Result<Self> {
        let data = DataDir::open(&settings.data_dir)?;
        data.check_catalog_version()?;
        let (operator, new_operator_key) = operator_key(settings, &data)?;
        let measures = Measures::new(Clock::default().now(), settings.metrics_per_tenant);
        let mut log_id = [0; 16];
        getrandom::fill(&mut log_id).map_err(io::Error::other)?;
        let log = data.open_log(log_id, LogOptions::default()).map_err(|problem| match problem {
            LogError::Io { source, .. } => io::Error::new(source.kind(), unwritable(data.path(), &source)),
            problem => io::Error::new(io::ErrorKind::InvalidData, problem),
        });
        let log = Arc::new(log?);
        let log_keeper = LogKeeper::start(Arc::clone(&log), Arc::clone(&measures.syncs))?;
        let syncer = Syncer::start(data.path())?;
        let compressor = Compressor::start()?;
        let resources = Resources::new(data, log, log_keeper, syncer, compressor, settings.durability, measures)?
            .allowing_webhooks_to(settings.webhook_allow.clone());
        let resident_tenants = settings.resident_tenants();
        let core = Arc::new(Core::new(resources, operator, settings.worker_count(), resident_tenants));
        let tenants = Arc::downgrade(&core);
        core.log_keeper.keep(move |tenant| tenants.upgrade().is_some_and(|core| core.ask_to_fold(tenant)))?;
        core.leases.connect(Box::new(MailboxExchange::new(&core)));
        Registry::launch(Arc::clone(&core));
        let courier = CourierThread::default();
        Ok(Self { core, arbiters: Vec::new(), new_operator_key, courier })
    }

    pub(crate) async fn load(&mut self) -> io::Result<()> {
        let registry = self.core.registry().ok_or_else(|| io::Error::other("the registry has not started"))?;
        registry.open.send(OpenAll).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        // Keep a new key's hash only now that its owner will see the key: a start that failed shows none.
        if let Some(secret) = &self.new_operator_key {
            let kept = serde_json::to_vec_pretty(&Kept { sha256: secret.hash().to_hex() })?;
            self.core.data.write_file(OPERATOR_FILE, &kept)?;
        }
        self.kavach().load_operator_keys().await;
        self.courier = CourierThread::start(self.kavach());
        Ok(())
    }

    /// The server, acting as an operator.
    pub fn kavach(&self) -> Kavach {
        Kavach::new(Arc::clone(&self.core))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The operator key, if this start made one. Nothing else shows it.
    pub fn new_operator_key(&self) -> Option<&Secret> {
        self.new_operator_key.as_ref()
    }

    /// Answers calls in flight, writes everything to disk with a snapshot of each tenant, and stops.
    pub async fn close(self) {
        // While tenants still answer, so that what was delivered is noted.
        self.courier.stop().await;
        if let Some(registry) = self.core.registry()
            && let Err(problem) = registry.close.send(CloseAll).await
        {
            error!(%problem, "could not close the tenants");
        }
        let core = Arc::clone(&self.core);
        let log_closed = spawn_blocking(move || {
            core.log_keeper.stop();
            core.catalog.stop();
            core.log.close()
        });
        match log_closed.await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => warn!("the log keeps events that some tenant's folder lacks; the next start reads it"),
            Ok(Err(problem)) => error!(%problem, "could not close the log; the next start reads it"),
            Err(problem) => error!(%problem, "could not close the log; the next start reads it"),
        }
        let compressor = self.core.compressor.clone();
        if let Err(problem) = spawn_blocking(move || compressor.close()).await {
            error!(%problem, "could not stop the threads that compress segments");
        }
        for arbiter in self.arbiters {
            arbiter.stop();
            // The thread ends at its next turn. A panic on it was logged where it happened.
            let _ = arbiter.join();
        }
    }
}

/// The content of the operator file.
#[derive(Serialize, Deserialize)]
struct Kept {
    sha256: String,
}

/// The operator key's hash: the configured key's, else the stored one, else a new key's.
fn operator_key(settings: &ServerSettings, data: &DataDir) -> io::Result<(SecretHash, Option<Secret>)> {
    if let Some(key) = &settings.operator_key {
        return Ok((SecretHash::of(key.reveal()), None));
    }
    if let Some(bytes) = data.read_file(OPERATOR_FILE)? {
        let hash = serde_json::from_slice::<Kept>(&bytes).ok().and_then(|kept| SecretHash::from_hex(&kept.sha256));
        let problem = || {
            let sentence =
                "holds no hash of an operator key; set KAVACH_OPERATOR_KEY, or remove the file to get a new key";
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {sentence}", data.path().join(OPERATOR_FILE).display()),
            )
        };
        return Ok((hash.ok_or_else(problem)?, None));
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let secret = Secret::operator_key(random);
    Ok((secret.hash(), Some(secret)))
}
