//! Which tenant decides a request. How it decides is the domain's matter.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;

use super::kavach::Kavach;
use super::repeats::keys_of;
use super::tenant_access::invalid_token;
use super::tenant_calls::{not_sent, unreachable};
use crate::actors::messages::{AuthorizeMany, Explain, Explanation};
use crate::actors::worker_channels::Authorize;
use crate::actors::{Route, Unreachable, worker_channels};
use crate::domain::decision::request::Asked;
use crate::domain::idempotency::key::RequestKey;
use crate::domain::tenant::right::agent_may_not;
use crate::domain::{Code, Credential, Decision, Error, Request, Right, TenantId, TenantRef, TenantTag};
use crate::measure::count;

/// Where the decision arrives.
type PendingDecision = oneshot::Receiver<Result<Decision, Error>>;
/// Where the decisions of a batch arrive.
type PendingBatch = oneshot::Receiver<Result<Vec<Option<Decision>>, Error>>;

impl Kavach {
    /// May the agent do this? The decision is recorded before it is returned.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, `FORBIDDEN` for an agent that asks about another, `TENANT_NOT_FOUND` if an operator names an
    /// unknown tenant, or that the tenant can't answer. A denial is not an error.
    pub async fn authorize(&self, request: Request) -> Result<Decision, Error> {
        self.authorize_since(request, Instant::now()).await
    }

    /// [`Self::authorize`], for a request that arrived at `received`.
    pub(crate) async fn authorize_since(&self, request: Request, received: Instant) -> Result<Decision, Error> {
        let decided = self.authorize_of(request, received).await;
        if let Err(error) = &decided {
            self.note_refused(error);
        }
        decided
    }

    /// Counts a call that a full mailbox refused.
    fn note_refused(&self, error: &Error) {
        if error.code() == Code::Overloaded {
            count(&self.core.measures.overloaded);
        }
    }

    async fn authorize_of(&self, request: Request, received: Instant) -> Result<Decision, Error> {
        let Credential::Operator(_) = self.credential else {
            let id = self.own_tenant_id()?;
            let key = request.key.clone();
            let sent = self.send_call(id, request, received, false).map_err(|problem| match problem {
                Unreachable::Unknown => invalid_token(),
                // It is being erased.
                Unreachable::Down(error) if error.code() == Code::TenantNotFound => invalid_token(),
                Unreachable::Down(error) => error,
            })?;
            let decided = self.answer(id, sent).await.map_err(|error| match error.code() {
                // It was erased while the call waited.
                Code::TenantNotFound => invalid_token(),
                _ => error,
            });
            return match key {
                Some(key) => Box::pin(self.or_first(&self.own_tenant()?, *key, decided)).await,
                None => decided,
            };
        };
        self.check_operator_role(Right::Decide)?;
        if let Some(route) = self.tenant_of_agent(request.agent)? {
            match self.decided(&route, request.clone(), received, true).await {
                Err(error) if error.code() == Code::AgentNotFound => {}
                decided => return decided,
            }
        }
        let route = self.home_of(&request)?;
        self.decided(&route, request, received, false).await
    }

    /// Has a tenant decide a request.
    async fn decided(
        &self,
        route: &Route,
        request: Request,
        received: Instant,
        known_only: bool,
    ) -> Result<Decision, Error> {
        let key = request.key.clone();
        let sent = self.send_call(route.id, request, received, known_only);
        let decided = self.answer(route.id, sent.map_err(|problem| unreachable(route.id, problem))?).await;
        match key {
            Some(key) => Box::pin(self.or_first(route, *key, decided)).await,
            None => decided,
        }
    }

    /// Sends a request to a tenant's actor, which may live on another worker.
    fn send_call(
        &self,
        tenant: TenantId,
        request: Request,
        received: Instant,
        known_only: bool,
    ) -> Result<PendingDecision, Unreachable> {
        let (caller, answer) = oneshot::channel();
        let sent = self.core.reach(tenant, self.visit(), |resident| {
            let reply = self.core.channels.reply_to(caller);
            let waiting = resident.measures.waits();
            let call = Authorize { credential: self.credential, request, received, known_only, reply, waiting };
            worker_channels::send(&resident.mailbox, resident.channel, call)
        })?;
        sent.map(|()| answer).map_err(|problem| Unreachable::Down(not_sent(&problem)))
    }

    /// Decides many requests independently, and returns the decisions in the same order. A request whose tenant can't
    /// answer is denied with the code that says why.
    ///
    /// # Errors
    /// Those of [`Kavach::authorize`] that concern the whole batch.
    pub async fn authorize_batch(&self, requests: Vec<Request>, received: Instant) -> Result<Vec<Decision>, Error> {
        let credential = self.credential;
        if !matches!(credential, Credential::Operator(_)) {
            return self.authorize_own(requests, None, received).await;
        }
        self.check_operator(Right::Decide)?;
        self.check_phase()?;
        let mut decisions: Vec<Option<Decision>> = vec![None; requests.len()];
        let mut by_tenant: BTreeMap<TenantTag, Vec<usize>> = BTreeMap::new();
        for (at, request) in requests.iter().enumerate() {
            if let Asked::Agent(id) = request.agent {
                by_tenant.entry(id.tag()).or_default().push(at);
            }
        }
        let mut asked = Vec::new();
        for (tag, places) in by_tenant {
            let Some(route) = self.core.directory.route(tag) else { continue };
            let part: Vec<Request> = places.iter().filter_map(|at| requests.get(*at).cloned()).collect();
            let keys = keys_of(&part);
            let sent = self.send_batch(&route, part, received, true, None);
            asked.push((route, places, keys, sent));
        }
        for (route, places, keys, sent) in asked {
            let decided = self.batch_answer(&route, keys, sent).await;
            let decided = decided.unwrap_or_else(|error| vec![Some(self.refused(&error)); places.len()]);
            for (at, decision) in places.into_iter().zip(decided) {
                if let Some(slot) = decisions.get_mut(at) {
                    *slot = decision;
                }
            }
        }
        // Requests about agents that no tenant knows go to the tenant that each names, one by one: they are rare.
        for (slot, request) in decisions.iter_mut().zip(requests).filter(|(slot, _)| slot.is_none()) {
            let decided = match self.home_of(&request) {
                Ok(route) => self.decided(&route, request, received, false).await,
                Err(error) => Err(error),
            };
            *slot = Some(decided.unwrap_or_else(|error| self.refused(&error)));
        }
        Ok(decisions.into_iter().flatten().collect())
    }

    /// Decides a batch of a tenant key or an agent, in one message to its tenant's actor.
    async fn authorize_own(
        &self,
        requests: Vec<Request>,
        until: Option<bool>,
        received: Instant,
    ) -> Result<Vec<Decision>, Error> {
        let (route, keys) = (self.own_tenant()?, keys_of(&requests));
        let sent = self.send_batch(&route, requests, received, false, until);
        let decided = self.batch_answer(&route, keys, sent).await;
        Ok(decided.inspect_err(|error| self.note_refused(error))?.into_iter().flatten().collect())
    }

    /// Waits for the decisions of a batch, whose requests came with these keys.
    async fn batch_answer(
        &self,
        route: &Route,
        keys: Vec<(usize, RequestKey)>,
        sent: Result<PendingBatch, Error>,
    ) -> Result<Vec<Option<Decision>>, Error> {
        let mut decisions = self.answer(route.id, sent?).await?;
        if !keys.is_empty() {
            self.fill_in_firsts(route, keys, &mut decisions).await?;
        }
        Ok(decisions)
    }

    /// Sends requests to a tenant's actor in one message.
    fn send_batch(
        &self,
        route: &Route,
        requests: Vec<Request>,
        received: Instant,
        known_only: bool,
        until: Option<bool>,
    ) -> Result<PendingBatch, Error> {
        let credential = self.credential;
        let (reply, answer) = oneshot::channel();
        let sent = self.core.reach(route.id, self.visit(), |resident| {
            let waiting = resident.measures.waits();
            let message = AuthorizeMany { credential, requests, received, known_only, until, reply, waiting };
            resident.mailbox.try_send(message)
        });
        match sent.map_err(|problem| unreachable(route.id, problem))? {
            Ok(()) => Ok(answer),
            Err(problem) => Err(not_sent(&problem)),
        }
    }

    /// Decides requests in order, until one is allowed (`until` is `true`) or denied (`false`). Those after it are not
    /// decided, recorded or charged. Idempotency keys do not count here. Otherwise like [`Kavach::authorize_batch`].
    ///
    /// # Errors
    /// As for [`Kavach::authorize_batch`].
    pub async fn authorize_until(
        &self,
        mut requests: Vec<Request>,
        until: bool,
        received: Instant,
    ) -> Result<Vec<Decision>, Error> {
        requests.iter_mut().for_each(|request| request.key = None);
        if !matches!(self.credential, Credential::Operator(_)) {
            return self.authorize_own(requests, Some(until), received).await;
        }
        self.check_operator(Right::Decide)?;
        self.check_phase()?;
        let mut decisions = Vec::new();
        // Each may belong to another tenant.
        for request in requests {
            let decision = self.authorize_of(request, received).await.unwrap_or_else(|error| self.refused(&error));
            let is_last = decision.allowed == until;
            decisions.push(decision);
            if is_last {
                break;
            }
        }
        Ok(decisions)
    }

    /// What the decision would be now, and why. Nothing is recorded or counted.
    ///
    /// # Errors
    /// As for [`Kavach::authorize`]; `FORBIDDEN` for an agent token.
    pub async fn explain(&self, request: Request) -> Result<Explanation, Error> {
        let credential = self.credential;
        if let Credential::AgentToken(..) = credential {
            return Err(agent_may_not());
        }
        if let Some(route) = self.tenant_of_agent(request.agent)? {
            let copy = request.clone();
            let message = |reply| Explain { credential, request: copy, known_only: true, reply };
            match self.ask(&route, message).await {
                Err(error) if error.code() == Code::AgentNotFound => {}
                explained => return explained,
            }
        }
        let route = self.home_of(&request)?;
        self.ask(&route, |reply| Explain { credential, request, known_only: false, reply }).await
    }

    /// Checks that the caller may name this tenant in a path, and returns it by id.
    pub(crate) fn claim_in_path(&self, name: &TenantRef) -> Result<TenantRef, Error> {
        self.tenant_in_path(name).map(|route| TenantRef::from(route.id))
    }

    /// For an operator, the tenant that the agent's id points to. Only that tenant knows whether the agent exists.
    pub(super) fn tenant_of_agent(&self, agent: Asked) -> Result<Option<Route>, Error> {
        match (self.credential, agent) {
            (Credential::Operator(_), Asked::Agent(id)) => {
                self.check_operator_key()?;
                self.check_phase()?;
                Ok(self.core.directory.route(id.tag()))
            }
            _ => Ok(None),
        }
    }

    /// Where to decide a request about an unknown agent: the key's own tenant; for an operator, the tenant that the
    /// request names, or the default tenant.
    pub(super) fn home_of(&self, request: &Request) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => self.tenant_in_path(request.tenants.first().unwrap_or(&TenantRef::Default)),
            Credential::TenantKey(..) | Credential::AgentToken(..) => self.own_tenant(),
        }
    }

    /// The decision for an item of a batch that no tenant could decide: denied, and not recorded.
    fn refused(&self, error: &Error) -> Decision {
        self.note_refused(error);
        Decision::refused(error)
    }
}
