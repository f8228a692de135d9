//! Searches: which agents, resources or actions would be allowed. A search finds what [`Kavach::authorize`] would allow
//! at that moment, and records and charges nothing.
//!
//! It takes its tenant's thread for a millisecond at a time, so calls are served between its steps.

use std::sync::Arc;
use std::time::Instant;

use super::kavach::Kavach;
use crate::actors::Route;
use crate::actors::fair_semaphore::Turn;
use crate::domain::decision::request::Asked;
use crate::domain::decision::search::Candidates;
use crate::domain::limits::{MAX_SEARCH_MICROS, SEARCH_STEP_MICROS};
use crate::domain::tenant::right::agent_may_not;
use crate::domain::{AgentId, Code, Credential, Error, Request, Right, Tenant, Timestamp};

/// Which page of the results to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPage {
    /// The most results to return.
    pub limit: usize,
    /// `next` of the previous page.
    pub from: Option<String>,
}

/// One page of results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// Ids of agents, resources, or actions. In resources and actions, `*` stands for any value in its place.
    pub items: Vec<String>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<String>,
    /// Whether the search stopped early because finding more would have taken too much work.
    pub cut_off: bool,
}

/// What one step of a search found.
struct SearchStep {
    /// Results, each with its place in the list of candidates.
    found: Vec<(usize, String)>,
    /// The first place not tried yet; `None` if all were.
    next: Option<usize>,
    micros: u128,
}

impl SearchStep {
    /// Tries one place after the other, until it has found enough or the step's time is up.
    fn take(places: std::ops::Range<usize>, wanted: usize, mut look: impl FnMut(usize) -> Option<String>) -> Self {
        let begin = Instant::now();
        let (mut found, mut micros) = (Vec::new(), 0);
        for place in places {
            if found.len() >= wanted || micros >= SEARCH_STEP_MICROS {
                return Self { found, next: Some(place), micros };
            }
            found.extend(look(place).map(|item| (place, item)));
            micros = begin.elapsed().as_micros();
        }
        Self { found, next: None, micros }
    }
}

impl Kavach {
    /// Agents that may do what the request asks; the agent it names is ignored. For a tenant key, agents of its own
    /// tenant; for an operator, of the tenant that the request names, or of the default tenant. A page's start is a number
    /// of agents.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent token, `TENANT_NOT_FOUND`, `INVALID_FIELD` if the page's start is malformed.
    pub async fn search_agents(&self, request: Request, page: &SearchPage) -> Result<SearchResult, Error> {
        self.check_searcher()?;
        let from = page.from.as_deref().map(|from| from.parse::<usize>().map_err(|_| bad_place()));
        let from = from.transpose()?.unwrap_or(0);
        let route = self.home_of(&request)?;
        let step = move |tenant: &Tenant, now, from: usize, wanted| {
            let mut request = request.clone();
            let agents = if tenant.is_suspended() { &[] } else { tenant.agents() };
            SearchStep::take(from.min(agents.len())..agents.len(), wanted, |place| {
                let id = agents.get(place)?.profile.id;
                request.agent = Asked::Agent(id);
                tenant.would_allow(&request, now).then(|| id.to_string())
            })
        };
        let _turn = self.search_turn(&route).await?;
        let (items, next) = self.run_steps(&route, page.limit, from, step).await?;
        Ok(SearchResult { items, next: next.map(|place| place.to_string()), cut_off: false })
    }

    /// Resources `{kind}:…` on which the request's agent may perform its action; the resource it names is ignored.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent token.
    pub async fn search_resources(
        &self,
        request: Request,
        kind: &str,
        page: &SearchPage,
    ) -> Result<SearchResult, Error> {
        let (action, kind) = (request.action().to_owned(), kind.to_owned());
        let list = move |tenant: &Tenant, agent, now| tenant.resources_to_try(agent, &action, &kind, now);
        self.search_texts(request, page, list, |request, resource| request.about(request.action(), resource)).await
    }

    /// Actions that the request's agent may perform on its resource; the action it names is ignored.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent token.
    pub async fn search_actions(&self, request: Request, page: &SearchPage) -> Result<SearchResult, Error> {
        let resource = request.resource().to_owned();
        let list = move |tenant: &Tenant, agent, now| tenant.actions_to_try(agent, &resource, now);
        self.search_texts(request, page, list, |request, action| request.about(action, request.resource())).await
    }

    /// Lists candidates, then decides each of them.
    async fn search_texts(
        &self,
        request: Request,
        page: &SearchPage,
        list: impl FnOnce(&Tenant, AgentId, Timestamp) -> Candidates + Send + 'static,
        ask: fn(&Request, &str) -> Result<Request, Error>,
    ) -> Result<SearchResult, Error> {
        self.check_searcher()?;
        let Asked::Agent(agent) = request.agent else { return Ok(SearchResult::default()) };
        let route = match self.credential {
            Credential::Operator(_) => self.tenant_of_agent(request.agent)?,
            Credential::TenantKey(..) | Credential::AgentToken(..) => Some(self.own_tenant()?),
        };
        let Some(route) = route else { return Ok(SearchResult::default()) };
        let _turn = self.search_turn(&route).await?;
        let Candidates { texts, cut_off } =
            self.inspect(&route, move |tenant, now| Ok(list(tenant, agent, now))).await?;
        let rest = texts.into_iter().filter(|text| page.from.as_ref().is_none_or(|from| text >= from));
        let tries: Arc<Vec<String>> = Arc::new(rest.collect());
        let step = {
            let tries = Arc::clone(&tries);
            move |tenant: &Tenant, now, from: usize, wanted| {
                SearchStep::take(from..tries.len(), wanted, |place| {
                    // A text that no valid request can hold, such as one that is too long, is never allowed. Requests are
                    // made one at a time, since each holds a copy of the arguments.
                    let text = tries.get(place)?;
                    let asked = ask(&request, text).ok()?;
                    tenant.would_allow(&asked, now).then(|| text.clone())
                })
            }
        };
        let (items, next) = self.run_steps(&route, page.limit, 0, step).await?;
        let next = next.and_then(|place| tries.get(place)).cloned();
        Ok(SearchResult { items, next, cut_off })
    }

    /// Takes steps until the page is full, every place was tried, or the search's time is up.
    async fn run_steps(
        &self,
        route: &Route,
        limit: usize,
        from: usize,
        step: impl Fn(&Tenant, Timestamp, usize, usize) -> SearchStep + Clone + Send + 'static,
    ) -> Result<(Vec<String>, Option<usize>), Error> {
        let (mut found, mut from, mut micros): (Vec<(usize, String)>, _, _) = (Vec::new(), Some(from), 0);
        // One more than wanted, to see whether there is a next page and where it starts.
        while let Some(place) = from.filter(|_| found.len() <= limit && micros < MAX_SEARCH_MICROS) {
            let (step, wanted) = (step.clone(), limit.saturating_add(1) - found.len());
            let taken = self.inspect(route, move |tenant, now| Ok(step(tenant, now, place, wanted))).await?;
            found.extend(taken.found);
            (from, micros) = (taken.next, micros + taken.micros);
        }
        let next = found.get(limit).map(|(place, _)| *place).or(from);
        Ok((found.into_iter().take(limit).map(|(_, item)| item).collect(), next))
    }

    /// Waits for the turn of a search, or of another read that asks much.
    pub(super) async fn search_turn(&self, route: &Route) -> Result<Turn, Error> {
        let turn = self.core.searches.take(self.party(Some(route.id))).await;
        turn.map_err(|_| Error::new(Code::InternalError, "the server takes no more searches"))
    }

    fn check_searcher(&self) -> Result<(), Error> {
        match self.credential {
            Credential::Operator(_) => self.check_operator(Right::Read),
            Credential::TenantKey(..) => Ok(()),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }
}

fn bad_place() -> Error {
    Error::field(Code::InvalidField, "page.token", "must be the next_token of a page")
}
