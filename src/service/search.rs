//! Searches: which agents, resources or actions a decision says yes to. What is found is what [`Kavach::authorize`]
//! would allow at that moment; nothing is recorded or charged.
//!
//! A search takes its tenant's thread for a millisecond at a time, so calls go on between its steps.

use std::sync::Arc;
use std::time::Instant;

use super::kavach::Kavach;
use super::tenant_access::agent_may_not;
use crate::actors::Route;
use crate::actors::turns::Turn;
use crate::domain::decision::request::Asked;
use crate::domain::decision::search::Candidates;
use crate::domain::limits::{MAX_SEARCH_MICROS, SEARCH_STEP_MICROS};
use crate::domain::{AgentId, Code, Credential, Error, Request, Tenant, Timestamp};

/// Which part of what can be found is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPage {
    /// At most so much of it.
    pub limit: usize,
    /// What the page before said is next.
    pub from: Option<String>,
}

/// A part of what can be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// Ids of agents, resources, or actions. In the latter two a `*` stands for every value in its place.
    pub items: Vec<String>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
    /// Whether there may be more that would have taken too much work to find.
    pub cut_off: bool,
}

/// What one step found.
struct SearchStep {
    /// Each with its place.
    found: Vec<(usize, String)>,
    /// The first place that was not looked at; `None` where there is none.
    next: Option<usize>,
    micros: u128,
}

impl SearchStep {
    /// Looks at one place after the other, until enough was found or the time of a step is over.
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
    /// Agents that may do what the request says; which agent it names does not count. They are of the key's tenant, and
    /// for an operator of the one that the request names, else of the default one. A page starts at a number of agents.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent token, `TENANT_NOT_FOUND`, `INVALID_FIELD` for a place where no page starts.
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
        let (items, next) = self.sift(&route, page.limit, from, step).await?;
        Ok(SearchResult { items, next: next.map(|place| place.to_string()), cut_off: false })
    }

    /// Resources `{kind}:…` on which the request's agent may do its action; which resource it names does not count.
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

    /// Actions that the request's agent may do on its resource; which action it names does not count.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent token.
    pub async fn search_actions(&self, request: Request, page: &SearchPage) -> Result<SearchResult, Error> {
        let resource = request.resource().to_owned();
        let list = move |tenant: &Tenant, agent, now| tenant.actions_to_try(agent, &resource, now);
        self.search_texts(request, page, list, |request, action| request.about(action, request.resource())).await
    }

    /// Lists what is worth a decision, and then decides each.
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
                    // What no request may name, such as too long a text, no decision says yes to. Each request is made
                    // when it is its turn: it holds the arguments once more.
                    let text = tries.get(place)?;
                    let asked = ask(&request, text).ok()?;
                    tenant.would_allow(&asked, now).then(|| text.clone())
                })
            }
        };
        let (items, next) = self.sift(&route, page.limit, 0, step).await?;
        let next = next.and_then(|place| tries.get(place)).cloned();
        Ok(SearchResult { items, next, cut_off })
    }

    /// Takes one step after the other until the page is full, all was looked at, or it took long enough.
    async fn sift(
        &self,
        route: &Route,
        limit: usize,
        from: usize,
        step: impl Fn(&Tenant, Timestamp, usize, usize) -> SearchStep + Clone + Send + 'static,
    ) -> Result<(Vec<String>, Option<usize>), Error> {
        let (mut found, mut from, mut micros): (Vec<(usize, String)>, _, _) = (Vec::new(), Some(from), 0);
        // One more than wanted tells whether there is a next page, and where it begins.
        while let Some(place) = from.filter(|_| found.len() <= limit && micros < MAX_SEARCH_MICROS) {
            let (step, wanted) = (step.clone(), limit.saturating_add(1) - found.len());
            let taken = self.inspect(route, move |tenant, now| Ok(step(tenant, now, place, wanted))).await?;
            found.extend(taken.found);
            (from, micros) = (taken.next, micros + taken.micros);
        }
        let next = found.get(limit).map(|(place, _)| *place).or(from);
        Ok((found.into_iter().take(limit).map(|(_, item)| item).collect(), next))
    }

    /// Waits until this search may take time of its tenant's thread.
    async fn search_turn(&self, route: &Route) -> Result<Turn, Error> {
        let turn = self.core.searches.take(self.party(Some(route.id))).await;
        turn.map_err(|_| Error::new(Code::InternalError, "searches have ended"))
    }

    fn check_searcher(&self) -> Result<(), Error> {
        match self.credential {
            Credential::Operator(_) => self.check_operator_key(),
            Credential::TenantKey(..) => Ok(()),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }
}

fn bad_place() -> Error {
    Error::field(Code::InvalidField, "page.token", "must be the next_token of a page")
}
