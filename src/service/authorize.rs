//! Authorize: which tenant decides a request, and nothing of how.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Kavach, answer, ask, not_sent, send};
use crate::actors::messages::{Authorize, AuthorizeMany, Explain, Explanation};
use crate::actors::{Route, lanes};
use crate::domain::decision::request::Asked;
use crate::domain::{Code, Credential, Decision, Error, Request, TenantRef, TenantTag};
use crate::measure::count;

/// Where the answer to a call arrives.
type Answer = oneshot::Receiver<Result<Decision, Error>>;

impl Kavach {
    /// May the agent do that? The decision is recorded before it is answered.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, `FORBIDDEN` for an agent that asks about another, `TENANT_NOT_FOUND` where an operator names
    /// no agent's tenant, or that the tenant can't answer. A denial is no error.
    pub async fn authorize(&self, request: Request) -> Result<Decision, Error> {
        self.authorize_since(request, Instant::now()).await
    }

    /// The same for a request that arrived at that instant.
    pub(crate) async fn authorize_since(&self, request: Request, received: Instant) -> Result<Decision, Error> {
        let decided = self.authorize_of(request, received).await;
        if let Err(error) = &decided {
            self.note_refused(error);
        }
        decided
    }

    /// Counts a call that a mailbox had no room for.
    fn note_refused(&self, error: &Error) {
        if error.code() == Code::Overloaded {
            count(&self.core.measures.overloaded);
        }
    }

    async fn authorize_of(&self, request: Request, received: Instant) -> Result<Decision, Error> {
        let Credential::Operator(_) = self.credential else {
            let sent = self.with_own_tenant(|route| self.send_call(route, request, received, false))?;
            return answer(sent?).await;
        };
        if let Some(route) = self.tenant_of_agent(request.agent)? {
            match answer(self.send_call(&route, request.clone(), received, true)?).await {
                Err(error) if error.code() == Code::AgentNotFound => {}
                decided => return decided,
            }
        }
        let route = self.home_of(&request)?;
        answer(self.send_call(&route, request, received, false)?).await
    }

    /// Sends a call to a tenant's actor, which may live on another worker.
    fn send_call(&self, route: &Route, request: Request, received: Instant, known_only: bool) -> Result<Answer, Error> {
        let actor = route.actor.as_ref().map_err(|down| down.error())?;
        let (caller, answer) = oneshot::channel();
        let reply = self.core.lanes.reply_to(caller);
        let waiting = route.measures.waits();
        let call = Authorize { credential: self.credential, request, received, known_only, reply, waiting };
        lanes::send(actor, route.lane, call).map_err(|problem| not_sent(&problem))?;
        Ok(answer)
    }

    /// Decides many requests, each on its own, and answers in their order. A request whose tenant can't answer is
    /// denied with the code that says why.
    ///
    /// # Errors
    /// As for [`Kavach::authorize`], where they concern all of the requests.
    pub async fn authorize_batch(&self, requests: Vec<Request>, received: Instant) -> Result<Vec<Decision>, Error> {
        let credential = self.credential;
        if !matches!(credential, Credential::Operator(_)) {
            return self.authorize_own(requests, None, received).await;
        }
        self.check_operator_key()?;
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
            let Some(route) = self.core.routes.with(tag, Route::clone) else { continue };
            let part = places.iter().filter_map(|at| requests.get(*at).cloned()).collect();
            let waiting = route.measures.waits();
            let message = |reply| AuthorizeMany {
                credential,
                requests: part,
                received,
                known_only: true,
                until: None,
                reply,
                waiting,
            };
            asked.push((places, send(&route, message)));
        }
        for (places, sent) in asked {
            let decided = match sent {
                Ok(receiver) => answer(receiver).await,
                Err(error) => Err(error),
            };
            let decided = decided.unwrap_or_else(|error| vec![Some(self.refused(&error)); places.len()]);
            for (at, decision) in places.into_iter().zip(decided) {
                if let Some(slot) = decisions.get_mut(at) {
                    *slot = decision;
                }
            }
        }
        // What no tenant knows is recorded where the request says, one by one: it is rare.
        for (slot, request) in decisions.iter_mut().zip(requests).filter(|(slot, _)| slot.is_none()) {
            let decided = match self.home_of(&request) {
                Ok(route) => match self.send_call(&route, request, received, false) {
                    Ok(receiver) => answer(receiver).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            *slot = Some(decided.unwrap_or_else(|error| self.refused(&error)));
        }
        Ok(decisions.into_iter().flatten().collect())
    }

    /// Decides many requests of a tenant key or an agent in one step of its tenant's actor.
    async fn authorize_own(
        &self,
        requests: Vec<Request>,
        until: Option<bool>,
        received: Instant,
    ) -> Result<Vec<Decision>, Error> {
        let (credential, route) = (self.credential, self.own_tenant()?);
        let (known_only, waiting) = (false, route.measures.waits());
        let message = |reply| AuthorizeMany { credential, requests, received, known_only, until, reply, waiting };
        let decided = ask(&route, message).await.inspect_err(|error| self.note_refused(error))?;
        Ok(decided.into_iter().flatten().collect())
    }

    /// Decides requests one after the other until one is answered so: those after it are neither decided nor recorded
    /// nor charged. Otherwise as [`Kavach::authorize_batch`].
    ///
    /// # Errors
    /// As for [`Kavach::authorize_batch`].
    pub async fn authorize_until(
        &self,
        requests: Vec<Request>,
        until: bool,
        received: Instant,
    ) -> Result<Vec<Decision>, Error> {
        if !matches!(self.credential, Credential::Operator(_)) {
            return self.authorize_own(requests, Some(until), received).await;
        }
        self.check_operator_key()?;
        self.check_phase()?;
        let mut decisions = Vec::new();
        // Each may be another tenant's.
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

    /// What the decision would be, and why. Nothing is recorded or counted.
    ///
    /// # Errors
    /// As for [`Kavach::authorize`]; `FORBIDDEN` for an agent token.
    pub async fn explain(&self, request: Request) -> Result<Explanation, Error> {
        let credential = self.credential;
        if let Credential::AgentToken(..) = credential {
            return Err(super::agent_may_not());
        }
        if let Some(route) = self.tenant_of_agent(request.agent)? {
            let copy = request.clone();
            let message = |reply| Explain { credential, request: copy, known_only: true, reply };
            match ask(&route, message).await {
                Err(error) if error.code() == Code::AgentNotFound => {}
                explained => return explained,
            }
        }
        let route = self.home_of(&request)?;
        ask(&route, |reply| Explain { credential, request, known_only: false, reply }).await
    }

    /// Checks that a path's tenant is one the caller may name, and answers it by its id.
    pub(crate) fn claim_in_path(&self, name: &TenantRef) -> Result<TenantRef, Error> {
        self.tenant_in_path(name).map(|route| TenantRef::from(route.id))
    }

    /// For an operator, the tenant that the agent's id says it belongs to. Only that tenant knows whether it does.
    pub(super) fn tenant_of_agent(&self, agent: Asked) -> Result<Option<Route>, Error> {
        match (self.credential, agent) {
            (Credential::Operator(_), Asked::Agent(id)) => {
                self.check_operator_key()?;
                self.check_phase()?;
                Ok(self.core.routes.with(id.tag(), Route::clone))
            }
            _ => Ok(None),
        }
    }

    /// Where a request is decided whose agent no tenant knows: the key's tenant, and for an operator the one that
    /// the request names, else the default one.
    pub(super) fn home_of(&self, request: &Request) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => self.tenant_in_path(request.tenants.first().unwrap_or(&TenantRef::Default)),
            Credential::TenantKey(..) | Credential::AgentToken(..) => self.own_tenant(),
        }
    }

    /// An item of a batch that no tenant could decide: denied, and recorded nowhere.
    fn refused(&self, error: &Error) -> Decision {
        self.note_refused(error);
        Decision { code: Some(error.code()), reason: Some(error.message().to_owned()), ..Decision::default() }
    }
}
