//! One tenant's whole state. It changes in [`Tenant::apply`] and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::agent::{Agent, AgentSpec, AgentStatus, GracedToken};
use super::census::AgentCounts;
use super::delegation::{Delegation, DelegationProfile, DelegationSpec, forget_ended, position};
use super::error::{Code, Error};
use super::event::{By, Change, Event, Grant, LinkUse, Record};
use super::id::{AgentId, DelegationId, PolicyId, TenantId, TenantRef};
use super::key::ApiKey;
use super::limits::MAX_ENDED_WEIGHT;
use super::links::LinkIndex;
use super::policy::{Policy, PolicyProfile};
use super::policy_index::PolicyIndex;
use super::regexes::RegexCache;
use super::secret::Credential;
use super::settings::Settings;
use super::sharing::{SharedPermissions, read_agents};
use super::slots::Slots;
use super::text::Slug;
use super::time::Timestamp;
use super::usage::Settlements;

/// Delegations are looked through for those to forget whenever so many were made.
const FORGET_EVERY: u32 = 256;

/// When an event happens: its time and its number in the tenant's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never earlier than the event before it.
    pub at: Timestamp,
    /// From 1, without a gap.
    pub seq: u64,
}

/// Whether a tenant's agents may work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// They may.
    #[default]
    Active,
    /// They are stopped; everything can still be read and repaired.
    Suspended,
}

/// What a tenant says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its id; `null` for the default tenant.
    pub id: TenantId,
    /// Its name.
    pub name: Box<str>,
    /// Its slug; the default tenant has none.
    pub slug: Option<Slug>,
    /// Its settings.
    pub settings: Settings,
    /// Whether its agents may work.
    pub status: TenantStatus,
    /// When it began.
    pub created_at: Timestamp,
    /// When its name, settings or status changed last.
    pub updated_at: Timestamp,
}

/// The durable part of a tenant: what a snapshot holds. A copy is cheap, since agents share their profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Number of the last event in it; 0 before the first.
    pub seq: u64,
    /// Time of the last event in it.
    pub at: Timestamp,
    /// The tenant itself.
    pub profile: Profile,
    /// Its live API keys, oldest first.
    pub keys: Vec<ApiKey>,
    /// All its agents, oldest first. An agent's place never changes.
    #[serde(deserialize_with = "read_agents")]
    pub agents: Vec<Agent>,
    /// Its budget policies, oldest first.
    pub policies: Vec<Policy>,
    /// What was settled.
    pub settlements: Settlements,
    /// Its delegations that are not over and the newest of those that are, oldest first. A link's place never changes.
    #[serde(default)]
    pub delegations: Vec<Delegation>,
}

/// A tenant: its state, and look-ups derived from it.
#[derive(Debug, Default)]
pub struct Tenant {
    state: State,
    by_id: Slots,
    by_token: Slots,
    /// Agents that are not revoked.
    unrevoked: usize,
    /// Those of them with an `expiresAt`, soonest first, but for those that had expired at the last change.
    expiring: BTreeSet<(Timestamp, u32)>,
    /// How many had expired by then: each is counted once, not with every question.
    expired: usize,
    policy_index: PolicyIndex,
    links: LinkIndex,
    shared: SharedPermissions,
    regexes: RegexCache,
}

/// Who makes a call, once the credential was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An operator, or the process that embeds the library.
    Operator,
    /// A key of this tenant.
    Key(super::id::KeyId),
    /// The agent at that place, by its token.
    Agent(u32),
}

/// An administrative command: decided against the state, answered from the state after its change.
pub trait Command: Sized {
    /// What the reply is about.
    type Subject;
    /// The answer.
    type Reply;

    /// Checks the command. No change means that all is as the command wants it already.
    ///
    /// # Errors
    /// The rule that refuses it.
    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, Self::Subject), Error>;

    /// The answer, once the change is applied.
    fn reply(tenant: &Tenant, subject: Self::Subject, now: Timestamp) -> Self::Reply;
}

impl Tenant {
    /// The tenant a snapshot holds.
    pub fn restore(state: State) -> Self {
        let mut tenant = Self { state, ..Self::default() };
        for slot in 0..u32::try_from(tenant.state.agents.len()).unwrap_or(u32::MAX) {
            tenant.add_to_index(slot);
        }
        tenant.policy_index = PolicyIndex::build(&tenant.state.policies);
        tenant.renew_links();
        tenant.links = LinkIndex::build(&tenant.state.delegations, tenant.state.at);
        tenant
    }

    /// Gives the links of an older version's snapshot what replay would: their places, and that a link fell with the
    /// agent it goes to.
    fn renew_links(&mut self) {
        let mut links = std::mem::take(&mut self.state.delegations);
        for (link, position) in links.iter_mut().zip(0..) {
            link.place = link.place.max(position);
            let to = self.agent(link.profile.spec.to).map(|agent| &agent.profile);
            // Nothing changes a revoked agent, so its last change is its revocation.
            link.revoked |= to.is_some_and(|to| to.revoked && !link.is_over(to.updated_at));
        }
        self.state.delegations = links;
    }

    /// A copy of the durable part.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// When the next event would happen. Time never runs backwards inside a tenant.
    pub fn next_moment(&self, now: Timestamp) -> Moment {
        Moment { at: now.max(self.state.at), seq: self.state.seq + 1 }
    }

    /// Time of the last event.
    pub fn time(&self) -> Timestamp {
        self.state.at
    }

    /// Number of the last event; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// The tenant's id.
    pub fn id(&self) -> TenantId {
        self.state.profile.id
    }

    /// What it says of itself.
    pub fn profile(&self) -> &Profile {
        &self.state.profile
    }

    /// Whether its agents are stopped.
    pub fn is_suspended(&self) -> bool {
        self.state.profile.status == TenantStatus::Suspended
    }

    /// Whether the name is this tenant's.
    pub fn is_named(&self, name: &TenantRef) -> bool {
        match name {
            TenantRef::Default => self.id().is_default(),
            TenantRef::Id(id) => *id == self.id(),
            TenantRef::Slug(slug) => self.profile().slug.as_ref().is_some_and(|own| own.as_str() == &**slug),
            TenantRef::Impossible => false,
        }
    }

    /// Its live API keys, oldest first.
    pub fn keys(&self) -> &[ApiKey] {
        &self.state.keys
    }

    /// All its agents, oldest first.
    pub fn agents(&self) -> &[Agent] {
        &self.state.agents
    }

    /// The agent with that id.
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agent_in(self.slot_of(id)?)
    }

    /// The place of the agent with that id.
    pub(super) fn slot_of(&self, id: AgentId) -> Option<u32> {
        self.by_id.find(&id, |slot| self.agent_in(slot).is_some_and(|agent| agent.profile.id == id))
    }

    /// The agent at that place.
    pub fn agent_in(&self, slot: u32) -> Option<&Agent> {
        self.state.agents.get(slot as usize)
    }

    /// Agents that are active at that time.
    pub fn active_agents(&self, at: Timestamp) -> usize {
        let since = self.expiring.range(..=(at, u32::MAX)).count();
        self.unrevoked.saturating_sub(self.expired + since)
    }

    /// How many agents it has at that time.
    pub fn agent_counts(&self, at: Timestamp) -> AgentCounts {
        let active = self.active_agents(at);
        AgentCounts {
            active,
            revoked: self.state.agents.len().saturating_sub(self.unrevoked),
            expired: self.unrevoked.saturating_sub(active),
        }
    }

    /// When the next agent after that time expires.
    pub fn next_expiry(&self, at: Timestamp) -> Option<Timestamp> {
        self.expiring.range((at, u32::MAX)..).next().map(|(expiry, _)| *expiry)
    }

    /// Its budget policies, oldest first.
    pub fn policies(&self) -> &[Policy] {
        &self.state.policies
    }

    /// What was settled.
    pub fn settlements(&self) -> &Settlements {
        &self.state.settlements
    }

    pub(super) fn settlements_mut(&mut self) -> &mut Settlements {
        &mut self.state.settlements
    }

    pub(super) fn policy_mut(&mut self, place: u32) -> Option<&mut Policy> {
        self.state.policies.get_mut(place as usize)
    }

    /// Places of the policies about the agent of that owner, oldest first.
    pub(super) fn policies_about_owner(&self, agent: AgentId, owner: &str) -> SmallVec<[u32; 8]> {
        self.policy_index.about(agent, owner)
    }

    /// Its delegations that are not over and the newest of those that are, oldest first.
    pub fn delegations(&self) -> &[Delegation] {
        &self.state.delegations
    }

    /// Where its delegations are found.
    pub(super) fn links(&self) -> &LinkIndex {
        &self.links
    }

    /// Compiled regular expressions.
    pub(super) fn regexes(&self) -> &RegexCache {
        &self.regexes
    }

    /// Finds out who calls. The operator's own hash is checked before: this tenant does not know it.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for a key or token this tenant does not know, or no longer.
    pub fn authenticate(&self, credential: &Credential, now: Timestamp) -> Result<Caller, Error> {
        // A clock that steps back must not wake a token whose grace was over for an event before.
        let now = self.next_moment(now).at;
        let found = match credential {
            Credential::Operator(_) => Some(Caller::Operator),
            Credential::TenantKey(_, hash) => {
                self.state.keys.iter().find(|key| key.hash.matches(hash)).map(|key| Caller::Key(key.id))
            }
            Credential::AgentToken(_, hash) => self
                .by_token
                .find(hash, |slot| self.agent_in(slot).is_some_and(|agent| agent.profile.accepts(hash, now)))
                .map(Caller::Agent),
        };
        found.ok_or_else(|| Error::new(Code::InvalidToken, "the key or token is not valid"))
    }

    /// Lets an event happen. It was decided before, so nothing is checked here; an event about an agent that is not
    /// there changes nothing.
    pub fn apply(&mut self, moment: Moment, event: &Event<'_>) {
        self.state.seq = moment.seq;
        self.state.at = moment.at;
        match event {
            Event::Decided(record) => self.apply_decision(moment, record),
            Event::Used(record) => self.apply_usage(moment, record),
            Event::Changed(record) => self.apply_change(moment, record.by, &record.change),
        }
    }

    fn apply_decision(&mut self, moment: Moment, record: &Record<'_>) {
        let Some(slot) = record.agent.and_then(|id| self.slot_of(id)) else { return };
        let Some(agent) = self.state.agents.get_mut(slot as usize) else { return };
        agent.last_active_at = Some(moment.at);
        match &record.granted_by {
            Some(grant) if grant.links.is_empty() => {
                if let Some(window) = agent.window_mut(grant.permission) {
                    window.count(moment.at);
                }
            }
            Some(grant) => self.count_delegated(grant, moment.at),
            None => {}
        }
        if record.allowed()
            && !self.state.policies.is_empty()
            && let Some(agent) = self.agent_in(slot)
        {
            let (id, owner) = (agent.profile.id, Arc::clone(&agent.profile.spec.owner));
            for place in self.policies_about_owner(id, &owner) {
                if let Some(policy) = self.policy_mut(place) {
                    policy.usage.charge(moment.at, 1, record.cost.unwrap_or_default());
                }
            }
        }
        if let (true, Some(id)) = (record.revokes, record.agent) {
            self.revoke_agent(id, moment.at);
        }
    }

    /// Counts a call in every permission on the way to the agent whose own one it rests on.
    fn count_delegated(&mut self, grant: &Grant, at: Timestamp) {
        let mut root = None;
        for LinkUse { link, permission } in &grant.links {
            let Some(link) = self.link_mut(*link) else { return };
            root = Some(link.profile.spec.from);
            if let Some(window) = link.window_mut(*permission) {
                window.count(at);
            }
        }
        let root = root.and_then(|id| self.slot_of(id)).and_then(|slot| self.state.agents.get_mut(slot as usize));
        if let Some(window) = root.and_then(|agent| agent.window_mut(grant.permission)) {
            window.count(at);
        }
    }

    fn revoke_agent(&mut self, id: AgentId, at: Timestamp) {
        self.change_agent(id, |agent| {
            let profile = Arc::make_mut(&mut agent.profile);
            profile.revoked = true;
            profile.updated_at = at;
        });
        // A link to it will never count again either, and would take up a place among those that may be open.
        let lists = [self.links.leaving(id), self.links.arriving(id)];
        let links = lists.into_iter().flat_map(|links| self.open_links(links, at)).map(|(place, _)| place);
        self.revoke_links(links.collect(), at);
    }

    /// Revokes links and all that stand on them. What is over by then stays as it is, so that the cost follows what
    /// counts.
    fn revoke_links(&mut self, first: Vec<u32>, at: Timestamp) {
        for place in self.links.falling_with(first, at, |place| self.delegation_at(place)) {
            if let Some(at) = position(&self.state.delegations, place)
                && let Some(link) = self.state.delegations.get_mut(at)
            {
                link.revoked = true;
                self.links.close(link);
            }
        }
    }

    fn link_mut(&mut self, place: u32) -> Option<&mut Delegation> {
        let at = position(&self.state.delegations, place)?;
        self.state.delegations.get_mut(at)
    }

    /// The next link's place; `None` where there were as many as there are numbers.
    pub(super) fn next_place(&self) -> Option<u32> {
        // The newest link is never forgotten.
        self.state.delegations.last().map_or(Some(0), |newest| newest.place.checked_add(1))
    }

    fn add_link(&mut self, id: DelegationId, spec: DelegationSpec, at: Timestamp) {
        let Some(place) = self.next_place() else { return };
        // When it is done follows from the events alone, since it changes the state.
        if place.is_multiple_of(FORGET_EVERY) {
            self.links.forget(&forget_ended(&mut self.state.delegations, at, MAX_ENDED_WEIGHT));
        }
        let below = spec.stands_on.iter().filter_map(|place| self.delegation_at(*place));
        let ends_at = below.filter_map(|link| link.profile.ends_at).chain(spec.expires_at).min();
        let profile = DelegationProfile { id, spec, ends_at, created_at: at };
        self.state.delegations.push(Delegation::new(place, profile));
        if let Some(link) = self.state.delegations.last() {
            self.links.add(link, &self.state.delegations, at);
        }
    }

    fn change_policy(&mut self, id: PolicyId, change: impl FnOnce(&mut Policy)) {
        if let Some(policy) = self.state.policies.iter_mut().find(|policy| policy.profile.id == id) {
            change(policy);
        }
    }

    fn apply_change(&mut self, moment: Moment, by: By, change: &Change) {
        let at = moment.at;
        while self.expiring.first().is_some_and(|(expires, _)| *expires <= at) {
            self.expiring.pop_first();
            self.expired += 1;
        }
        let profile = &mut self.state.profile;
        match change {
            Change::TenantCreated { id, name, slug, settings } => {
                *profile = Profile {
                    id: *id,
                    name: name.clone(),
                    slug: slug.clone(),
                    settings: settings.clone(),
                    status: TenantStatus::Active,
                    created_at: at,
                    updated_at: at,
                };
            }
            Change::TenantUpdated { name, settings } => {
                profile.name = name.clone();
                profile.settings = settings.clone();
                profile.updated_at = at;
            }
            Change::TenantSuspended => {
                profile.status = TenantStatus::Suspended;
                profile.updated_at = at;
            }
            Change::TenantActivated => {
                profile.status = TenantStatus::Active;
                profile.updated_at = at;
            }
            Change::KeyCreated { key, name, hash, prefix } => {
                let (name, prefix) = (name.clone(), prefix.clone());
                self.state.keys.push(ApiKey { id: *key, name, hash: *hash, prefix, created_at: at });
            }
            Change::KeyRevoked { key } => self.state.keys.retain(|known| known.id != *key),
            Change::AgentCreated { agent, spec, token } => {
                let slot = u32::try_from(self.state.agents.len()).unwrap_or(u32::MAX);
                let spec = self.sharing(spec);
                self.state.agents.push(Agent::new(*agent, spec, *token, at));
                self.add_to_index(slot);
            }
            Change::AgentUpdated { agent, spec } => {
                let spec = self.sharing(spec);
                self.change_agent(*agent, |agent| agent.replace_spec(spec, at));
            }
            Change::AgentRevoked { agent } => self.revoke_agent(*agent, at),
            Change::DelegationCreated { delegation, spec } => self.add_link(*delegation, (**spec).clone(), at),
            Change::DelegationRevoked { delegation, from: _, to: _ } => {
                self.revoke_links(self.links.place(*delegation).into_iter().collect(), at);
            }
            Change::PolicyCreated { policy, agent, owner, limits, action } => {
                let place = u32::try_from(self.state.policies.len()).unwrap_or(u32::MAX);
                let policy = Policy::new(PolicyProfile {
                    id: *policy,
                    agent: *agent,
                    owner: owner.clone(),
                    limits: limits.clone(),
                    action: *action,
                    disabled: false,
                    by,
                    created_at: at,
                    updated_at: at,
                });
                self.policy_index.insert(place, &policy);
                self.state.policies.push(policy);
            }
            Change::PolicyUpdated { policy, limits, action, disabled } => self.change_policy(*policy, |policy| {
                let profile = Arc::make_mut(&mut policy.profile);
                profile.limits = limits.clone();
                profile.action = *action;
                profile.disabled = *disabled;
                profile.updated_at = at;
            }),
            Change::PolicyDeleted { policy } => {
                self.state.policies.retain(|known| known.profile.id != *policy);
                self.policy_index = PolicyIndex::build(&self.state.policies);
            }
            Change::PolicyReset { policy, period } => {
                self.change_policy(*policy, |policy| policy.usage.reset(moment, *period));
            }
            Change::TokenRotated { agent, token, grace_until } => self.change_agent(*agent, |agent| {
                let profile = Arc::make_mut(&mut agent.profile);
                let old = std::mem::replace(&mut profile.token, *token);
                // Without grace every older token ends, those still in a grace too: one of them may have leaked.
                profile.graced.retain(|graced| grace_until.is_some() && graced.until > at);
                profile.graced.extend(grace_until.map(|until| GracedToken { token: old, until }));
                profile.updated_at = at;
            }),
        }
    }

    /// The same spec, its permissions shared with the agents that have equal ones.
    fn sharing(&mut self, spec: &AgentSpec) -> AgentSpec {
        AgentSpec { permissions: self.shared.share(&spec.permissions), ..spec.clone() }
    }

    fn change_agent(&mut self, id: AgentId, change: impl FnOnce(&mut Agent)) {
        let Some(slot) = self.slot_of(id) else { return };
        self.unindex_agent(slot);
        if let Some(agent) = self.state.agents.get_mut(slot as usize) {
            change(agent);
        }
        self.index_agent(slot);
    }

    /// Makes an agent known that was just added.
    fn add_to_index(&mut self, slot: u32) {
        if let Some(agent) = self.state.agents.get(slot as usize) {
            self.by_id.insert(&agent.profile.id, slot);
        }
        self.index_agent(slot);
    }

    fn index_agent(&mut self, slot: u32) {
        let Some(agent) = self.state.agents.get(slot as usize) else { return };
        let profile = &agent.profile;
        self.by_token.insert(&profile.token, slot);
        for graced in &profile.graced {
            self.by_token.insert(&graced.token, slot);
        }
        if !profile.revoked {
            self.unrevoked += 1;
            self.expiring.extend(profile.spec.expires_at.map(|expires| (expires, slot)));
        }
    }

    fn unindex_agent(&mut self, slot: u32) {
        let Some(agent) = self.state.agents.get(slot as usize) else { return };
        let profile = &agent.profile;
        self.by_token.remove(&profile.token, slot);
        for graced in &profile.graced {
            self.by_token.remove(&graced.token, slot);
        }
        if !profile.revoked {
            self.unrevoked = self.unrevoked.saturating_sub(1);
            if let Some(expires) = profile.spec.expires_at
                && !self.expiring.remove(&(expires, slot))
            {
                self.expired = self.expired.saturating_sub(1);
            }
        }
    }
}

impl Agent {
    /// Whether the agent is live at that time.
    pub fn status(&self, at: Timestamp) -> AgentStatus {
        self.profile.status(at)
    }
}

impl Caller {
    /// Who is written down as the one who changed something. Agents change nothing.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent.
    pub fn as_author(self) -> Result<By, Error> {
        match self {
            Self::Operator => Ok(By::Operator),
            Self::Key(key) => Ok(By::Key(key)),
            Self::Agent(_) => Err(Error::new(Code::Forbidden, "an agent token may only ask for its own decisions")),
        }
    }
}
