//! What the server offers, as plain calls: the same for its HTTP routes and for programs that embed it.
//!
//! A [`Kavach`] acts for one caller. The one that [`crate::App`] hands out acts as an operator; [`Kavach::acting_for`]
//! makes one for a key. Every call finds its tenant here, by the rules of that caller, and nowhere else: a tenant key
//! can reach no actor but its own tenant's.

mod agents;
mod audit;
mod authorize;
mod delegations;
mod export;
mod follow;
mod kept;
mod lists;
mod metrics;
mod newest;
mod policies;
mod resume;
mod search;
mod settled;
mod stats;
mod tenants;
mod trail;
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Handler, Message};
use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;

pub use crate::measure::figures::TenantCounts;
pub use agents::{AgentFilter, Agents};
pub use audit::{Audit, AuditQuery};
pub use delegations::Delegations;
pub use export::{Export, ExportFormat, write_line};
pub use follow::{AuditStream, KEEP_ALIVE, News, WriteEntry};
pub use lists::{Page, PageRequest};
pub use policies::{Policies, PolicyFilter};
pub use search::{Found, SearchPage};
pub use stats::{Named, SlowTenant, Stats};
pub use tenants::{KeyWithSecret, Tenants};

use crate::actors::clock::ClockState;
use crate::actors::messages::{Execute, InjectPanic, InjectStall, Inspect, Verify};
use crate::actors::reply::Reply;
use crate::actors::routes::unknown_tenant;
use crate::actors::tenant::overloaded;
use crate::actors::{Core, Phase, Route, TenantActor};
use crate::domain::author::Author;
use crate::domain::tenant::Caller;
use crate::domain::text::parse_name;
use crate::domain::{Code, Command, Credential, Error, Secret, Tenant, TenantId, TenantRef, TenantTag, Timestamp};
use crate::store::refusal::shutting_down;

/// How long it is good to know whether the data directory can be written: nobody needs a key to ask.
const TRIED_FOR: Duration = Duration::from_secs(1);

/// The server, acting for one caller. Copies are cheap.
#[derive(Clone)]
pub struct Kavach {
    core: Arc<Core>,
    credential: Credential,
    /// Why the caller changes what it changes, where it said so.
    reason: Option<Arc<str>>,
    /// What else is known of the caller, for the trail of what it changes.
    author: Option<Arc<Author>>,
}

impl Kavach {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let credential = Credential::Operator(core.operator);
        Self { core, credential, reason: None, author: None }
    }

    /// The same server, acting for whoever presents that credential. Whether it is good is checked with every call.
    #[must_use]
    pub fn acting_for(&self, credential: Credential) -> Self {
        Self { core: Arc::clone(&self.core), credential, reason: None, author: None }
    }

    /// The same caller with a reason, which is recorded with what it changes.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a text that no name could be.
    pub fn because(&self, reason: &str) -> Result<Self, Error> {
        let reason = parse_name("reason", reason)?;
        Ok(Self { reason: Some(reason.into()), ..self.clone() })
    }

    /// The same server for the same caller, with what the audit trail shows of the caller where it changes something.
    #[must_use]
    pub fn known_as(self, author: Author) -> Self {
        Self { author: Some(Arc::new(author)), ..self }
    }

    fn author(&self) -> Option<Author> {
        self.author.as_deref().cloned()
    }

    /// Tenants and their keys.
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants(self)
    }

    /// Agents.
    pub fn agents(&self) -> Agents<'_> {
        Agents(self)
    }

    /// Delegations.
    pub fn delegations(&self) -> Delegations<'_> {
        Delegations(self)
    }

    /// Budget policies.
    pub fn policies(&self) -> Policies<'_> {
        Policies(self)
    }

    /// The audit trail.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }

    /// What the process is doing.
    pub fn phase(&self) -> Phase {
        self.core.phase()
    }

    /// Tenants that can't be served, with the reason callers get.
    pub fn unavailable_tenants(&self) -> Vec<(TenantId, Error)> {
        // One that is being erased is missed by nobody.
        let missed = |route: &Route| matches!(&route.actor, Err(down) if down.code != Code::TenantNotFound);
        let routes = self.core.routes.all_that(missed).into_iter();
        routes.filter_map(|route| route.actor.err().map(|down| (route.id, down.error()))).collect()
    }

    /// Folders of the data directory that hold a tenant's files but that no tenant's name leads to, with the reasons.
    pub fn refused_folders(&self) -> Vec<(String, String)> {
        self.core.routes.refused()
    }

    /// Finds out who the credential is: an operator, a live key, or a live agent's token.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, or the tenant can't answer.
    pub async fn authenticate(&self) -> Result<Caller, Error> {
        match self.credential {
            Credential::Operator(_) => self.check_operator_key().map(|()| Caller::Operator),
            credential @ (Credential::TenantKey(..) | Credential::AgentToken(..)) => {
                ask(&self.own_tenant()?, |reply| Verify { credential, reply }).await
            }
        }
    }

    /// Whether every tenant's journal can be written, as far as is known.
    pub fn storage_works(&self) -> bool {
        let down = |route: &Route| matches!(&route.actor, Err(down) if down.code == Code::StorageUnavailable);
        self.core.storage_failures.load(std::sync::atomic::Ordering::Relaxed) == 0
            && self.core.routes.all_that(down).is_empty()
    }

    /// Why no event of any tenant can be recorded, where that is so: not even the data directory takes a file.
    ///
    /// It is tried once a second at most, and only while some tenant's storage fails.
    pub(crate) async fn why_unwritable(&self) -> Option<String> {
        if self.storage_works() {
            return None;
        }
        let mut tried = self.core.tried.lock().await;
        if let Some((at, problem)) = &*tried
            && at.elapsed() < TRIED_FOR
        {
            return problem.clone();
        }
        let core = Arc::clone(&self.core);
        let problem = match spawn_blocking(move || core.data.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => {
                Some(format!("nothing can be recorded: the data directory can't be written: {problem}"))
            }
            Err(_) => Some("nothing can be recorded: the data directory could not be tried".to_owned()),
        };
        *tried = Some((Instant::now(), problem.clone()));
        problem
    }

    /// Panics inside a tenant's actor, so that tests can see that no other tenant notices.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or why the tenant can't be asked.
    #[doc(hidden)]
    pub fn inject_panic(&self, tenant: impl Into<TenantRef>) -> Result<(), Error> {
        let route = self.core.routes.find(&tenant.into())?;
        route.actor.map_err(|down| down.error())?.do_send(InjectPanic);
        Ok(())
    }

    /// Stalls a tenant's actor until the other end of the channel says so or is gone, so that tests can see its
    /// mailbox fill.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or why the tenant can't be asked.
    #[doc(hidden)]
    pub fn inject_stall(
        &self,
        tenant: impl Into<TenantRef>,
        until: std::sync::mpsc::Receiver<()>,
    ) -> Result<(), Error> {
        let route = self.core.routes.find(&tenant.into())?;
        route.actor.map_err(|down| down.error())?.do_send(InjectStall(until));
        Ok(())
    }

    /// What the server thinks of the system's clock.
    pub fn clock(&self) -> ClockState {
        match (self.core.clock.held_back() > 0.0, self.core.clock.behind_events() > 0.0) {
            (true, _) => ClockState::HeldBack,
            (false, true) => ClockState::Behind,
            (false, false) => ClockState::Ok,
        }
    }

    /// Adds so many milliseconds to what the system's clock says, so that tests can see what a jump does.
    #[doc(hidden)]
    pub fn inject_clock_step(&self, millis: i64) {
        self.core.clock.step(millis);
    }

    fn check_operator_key(&self) -> Result<(), Error> {
        match &self.credential {
            Credential::Operator(hash) if self.core.operator.matches(hash) => Ok(()),
            _ => Err(invalid_token()),
        }
    }

    /// Lets only an operator go on.
    fn check_operator(&self) -> Result<(), Error> {
        match self.credential {
            Credential::Operator(_) => self.check_operator_key(),
            Credential::TenantKey(..) => Err(Error::new(Code::Forbidden, "this takes an operator key")),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }

    /// The tenant a tenant key or an agent token belongs to.
    fn own_tenant(&self) -> Result<Route, Error> {
        self.with_own_tenant(Route::clone)
    }

    /// Calls `f` with the entry of the tenant a tenant key or an agent token belongs to; it must not wait.
    fn with_own_tenant<R>(&self, f: impl FnOnce(&Route) -> R) -> Result<R, Error> {
        let (Credential::TenantKey(id, _) | Credential::AgentToken(id, _)) = self.credential else {
            return Err(invalid_token());
        };
        self.check_phase()?;
        let is_there = |route: &Route| route.id == id && !route.is_being_erased();
        self.core.routes.with(id.tag(), |route| is_there(route).then(|| f(route))).flatten().ok_or_else(invalid_token)
    }

    fn check_phase(&self) -> Result<(), Error> {
        match self.core.phase() {
            Phase::Ready => Ok(()),
            Phase::Recovering => Err(Error::new(Code::NotReady, "the server is still reading its tenants")),
            Phase::Draining => Err(shutting_down()),
        }
    }

    /// The tenant that a path names. To a tenant key every other one is unknown.
    fn tenant_in_path(&self, name: &TenantRef) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => {
                self.check_operator_key()?;
                self.check_phase()?;
                self.core.routes.find(name)
            }
            Credential::TenantKey(..) | Credential::AgentToken(..) => {
                self.own_tenant().and_then(|own| if own.is_named(name) { Ok(own) } else { Err(unknown_tenant(name)) })
            }
        }
    }

    /// The tenant that a body names, or does not. To a tenant key every other one is a mismatch.
    fn tenant_in_body(&self, name: Option<&TenantRef>) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => self.tenant_in_path(name.unwrap_or(&TenantRef::Default)),
            Credential::TenantKey(..) | Credential::AgentToken(..) => {
                let own = self.own_tenant()?;
                match name {
                    Some(name) if !own.is_named(name) => {
                        Err(Error::field(Code::TenantMismatch, "tenantId", "names another tenant than the key's"))
                    }
                    _ => Ok(own),
                }
            }
        }
    }

    /// The tenant to ask about an id that ends with that tag. `unknown` is the answer where there is none.
    fn tenant_of_id(&self, tag: TenantTag, unknown: impl FnOnce() -> Error) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => {
                self.check_operator_key()?;
                self.check_phase()?;
                self.core.routes.with(tag, Route::clone).ok_or_else(unknown)
            }
            // The id's tag is not looked at, so an id of another tenant and one of no tenant take the same way.
            Credential::TenantKey(..) => self.own_tenant(),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }

    /// Carries out a command.
    async fn execute<C>(&self, route: &Route, command: C) -> Result<C::Reply, Error>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        let (credential, author) = (self.credential, self.author());
        let reason = self.reason.as_deref().map(Into::into);
        ask(route, |reply| Execute { credential, author, command, reason, reply }).await
    }

    /// Looks at a tenant's state.
    async fn inspect<T: Send + 'static>(
        &self,
        route: &Route,
        look: impl FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let credential = self.credential;
        ask(route, |reply| Inspect { credential, look, reply }).await
    }
}

/// Sends a message to a tenant's actor. The answer is what the returned receiver gets.
fn send<M, T>(route: &Route, make: impl FnOnce(Reply<T>) -> M) -> Result<oneshot::Receiver<Result<T, Error>>, Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    let actor: &Addr<TenantActor> = route.actor.as_ref().map_err(|down| down.error())?;
    let (reply, answer) = oneshot::channel();
    match actor.try_send(make(reply)) {
        Ok(()) => Ok(answer),
        Err(problem) => Err(not_sent(&problem)),
    }
}

fn not_sent<M>(problem: &SendError<M>) -> Error {
    match problem {
        SendError::Full(_) => overloaded(),
        SendError::Closed(_) => gone(),
    }
}

/// Waits for an answer. None comes from an actor that ended before it was sure of it.
async fn answer<T>(receiver: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    receiver.await.unwrap_or_else(|_| Err(gone()))
}

async fn ask<M, T>(route: &Route, make: impl FnOnce(Reply<T>) -> M) -> Result<T, Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    answer(send(route, make)?).await
}

fn lost() -> Error {
    Error::new(Code::InternalError, "what was changed is not there after its own change")
}

fn gone() -> Error {
    Error::new(Code::TenantUnavailable, "the tenant can't answer right now; try again in a moment")
}

fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "the key or token is not valid")
}

fn agent_may_not() -> Error {
    Error::new(Code::Forbidden, "an agent token may only ask for its own decisions")
}

fn make_secret(make: impl FnOnce([u8; 32]) -> Secret) -> Result<Secret, Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| Error::new(Code::InternalError, "the system gave no random bytes"))?;
    Ok(make(random))
}
