//! One tenant's whole state. It changes in [`Tenant::apply`] and nowhere else.

mod apply;
mod caller;
pub mod census;
mod command;
pub mod commands;
mod holds;
pub mod if_unchanged;
pub mod key;
pub mod key_commands;
pub mod key_update;
pub mod right;
pub mod role;
pub mod settings;
mod state;
mod state_validation;

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::agent::{Agent, AgentCounts};
use crate::budget::policy::Policy;
use crate::budget::policy_index::PolicyIndex;
use crate::budget::scope_index::ScopeIndex;
use crate::budget::settlement::Settlements;
use crate::delegation::Delegation;
use crate::delegation::index::LinkIndex;
use crate::error::{Code, Error};
use crate::id::{AgentId, TenantId, TenantRef};
use crate::idempotency::memory::{KeyIndex, KeyMemory};
use crate::instance::lent::LentOut;
use crate::instance::slice::Slice;
use crate::moment::Moment;
use crate::permission::interning::SharedPermissions;
use crate::permission::regexes::RegexCache;
use crate::secret::Credential;
use crate::slot_lookup::SlotLookup;
use crate::tenant::key::ApiKey;
use crate::time::Timestamp;
use crate::webhook::Webhook;

pub use caller::Caller;
pub use command::{Command, Creates, Repeatable, first_answer, first_profile};
pub use right::Right;
pub use role::{KeyRole, OperatorRole};
pub use state::{Profile, State, TenantStatus};

/// A tenant: its state, and lookups derived from it.
#[derive(Debug, Default)]
pub struct Tenant {
    state: State,
    by_id: SlotLookup,
    by_token: SlotLookup,
    /// Agents that are not revoked.
    unrevoked: usize,
    /// Unrevoked agents with an `expiresAt`, soonest first, except those that had expired at the last change.
    expiring: BTreeSet<(Timestamp, u32)>,
    /// Those that had expired: a clock set back may revive some, and we don't want to count them for every question.
    expired: BTreeSet<(Timestamp, u32)>,
    policy_index: PolicyIndex,
    hold_ends: holds::HoldEnds,
    links: LinkIndex,
    key_index: KeyIndex,
    shared: SharedPermissions,
    regexes: RegexCache,
}

impl Tenant {
    /// Restores a tenant from a snapshot.
    pub fn restore(state: State) -> Self {
        let mut tenant = Self { state, ..Self::default() };
        for slot in 0..u32::try_from(tenant.state.agents.len()).unwrap_or(u32::MAX) {
            tenant.add_to_index(slot);
        }
        tenant.policy_index = PolicyIndex::build(&tenant.state.policies);
        tenant.key_index = KeyIndex::build(&tenant.state.used_keys);
        tenant.hold_ends = holds::index(&tenant.state.holds);
        tenant.renew_links();
        tenant.links = LinkIndex::build(&tenant.state.delegations, tenant.state.at);
        tenant
    }

    /// Gives links from an older version's snapshot what replay would: their places, and their revocation together with
    /// the agent they go to.
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

    /// The moment of the next event, with the clock at `now`.
    pub fn next_moment(&self, now: Timestamp) -> Moment {
        Moment::after(self.state.seq, self.state.at, now)
    }

    /// Place in the order (`at`) of the last event.
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

    /// Its name, settings and status.
    pub fn profile(&self) -> &Profile {
        &self.state.profile
    }

    /// Whether the tenant is suspended.
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

    /// Its API keys that were not revoked, oldest first.
    pub fn keys(&self) -> &[ApiKey] {
        &self.state.keys
    }

    /// The keys of operators that were not revoked, oldest first, besides the first. Only the default tenant has some.
    pub fn operator_keys(&self) -> &[ApiKey<OperatorRole>] {
        &self.state.operator_keys
    }

    /// When that caller's key ends by itself; `None` if it does not, or is another tenant's to know.
    pub fn caller_until(&self, caller: Caller) -> Option<Timestamp> {
        let Caller::Key(id, _) = caller else { return None };
        self.keys().iter().find(|key| key.id == id)?.expires_at
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
    pub(crate) fn slot_of(&self, id: AgentId) -> Option<u32> {
        self.by_id.find(&id, |slot| self.agent_in(slot).is_some_and(|agent| agent.profile.id == id))
    }

    /// The agent at that place.
    pub fn agent_in(&self, slot: u32) -> Option<&Agent> {
        self.state.agents.get(slot as usize)
    }

    /// How many agents are active at that time.
    pub fn active_agents(&self, at: Timestamp) -> usize {
        let since = self.expiring.range(..=(at, u32::MAX)).count();
        let back = self.expired.range((at, u32::MAX)..).count();
        (self.unrevoked + back).saturating_sub(self.expired.len() + since)
    }

    /// Numbers of its agents at that time.
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
        let next = [&self.expired, &self.expiring].map(|agents| agents.range((at, u32::MAX)..).next());
        next.into_iter().flatten().map(|(expiry, _)| *expiry).min()
    }

    /// Its budget policies, oldest first.
    pub fn policies(&self) -> &[Policy] {
        &self.state.policies
    }

    /// The settlements that it remembers.
    pub fn settlements(&self) -> &Settlements {
        &self.state.settlements
    }

    /// The idempotency keys that it remembers, and their look-up.
    pub(crate) fn used_keys(&self) -> (&KeyMemory, &KeyIndex) {
        (&self.state.used_keys, &self.key_index)
    }

    /// Its webhooks, oldest first.
    pub fn webhooks(&self) -> &[Webhook] {
        &self.state.webhooks
    }

    pub(crate) fn webhooks_mut(&mut self) -> &mut Vec<Webhook> {
        &mut self.state.webhooks
    }

    /// Its slices of instance policies, by policy.
    pub fn slices(&self) -> &[Slice] {
        &self.state.slices
    }

    pub(crate) fn slices_mut(&mut self) -> &mut Vec<Slice> {
        &mut self.state.slices
    }

    /// What it has lent of its instance policies.
    pub fn lent_out(&self) -> &LentOut {
        &self.state.lent
    }

    pub(crate) fn lent_out_mut(&mut self) -> &mut LentOut {
        &mut self.state.lent
    }

    pub(crate) fn settlements_mut(&mut self) -> &mut Settlements {
        &mut self.state.settlements
    }

    pub(crate) fn policy_mut(&mut self, place: u32) -> Option<&mut Policy> {
        self.state.policies.get_mut(place as usize)
    }

    /// What the clock said at the last event.
    pub(crate) fn wall(&self) -> Timestamp {
        self.state.wall.unwrap_or(self.state.at)
    }

    pub(crate) fn policy_at(&self, place: u32) -> Option<&Policy> {
        self.state.policies.get(place as usize)
    }

    /// The policy that the event of that number created.
    pub(crate) fn policy_of(&self, number: u64) -> Option<&Policy> {
        self.policy_at(self.place_of_policy(number)?)
    }

    /// The place of the policy that the event of that number created.
    pub(crate) fn place_of_policy(&self, number: u64) -> Option<u32> {
        let place = self.state.policies.binary_search_by_key(&number, |policy| policy.profile.id.seq()).ok()?;
        u32::try_from(place).ok()
    }

    /// Places of the policies whose windows follow a time zone.
    pub(crate) fn zoned_policies(&self) -> &[u32] {
        self.policy_index.zoned()
    }

    /// The policies with a scope.
    pub(crate) fn scope_index(&self) -> &ScopeIndex {
        self.policy_index.scoped()
    }

    /// Places of the policies without a scope that apply to this owner's agent, oldest first.
    pub(crate) fn policies_about_owner(&self, agent: AgentId, owner: &str) -> SmallVec<[u32; 8]> {
        self.policy_index.about(agent, owner)
    }

    /// All its delegations that are not over and the newest of the others, oldest first.
    pub fn delegations(&self) -> &[Delegation] {
        &self.state.delegations
    }

    /// Lookups of its delegations.
    pub(crate) fn links(&self) -> &LinkIndex {
        &self.links
    }

    /// Compiled regular expressions.
    pub(crate) fn regexes(&self) -> &RegexCache {
        &self.regexes
    }

    /// Identifies the caller. An operator's key is checked before: the tenant does not know it.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for a key or token that this tenant never knew, or no longer accepts.
    pub fn authenticate(&self, credential: &Credential, now: Timestamp) -> Result<Caller, Error> {
        // A small step back must not wake a token that was no longer valid for an earlier event.
        let now = self.next_moment(now).wall;
        let found = match credential {
            Credential::Operator(operator) => Some((*operator).into()),
            Credential::TenantKey(_, hash) => {
                let known = self.state.keys.iter().find(|key| key.hash.matches(hash));
                known.filter(|key| key.is_live(now)).map(|key| Caller::Key(key.id, key.role))
            }
            Credential::AgentToken(_, hash) => self
                .by_token
                .find(hash, |slot| self.agent_in(slot).is_some_and(|agent| agent.profile.accepts(hash, now)))
                .map(Caller::Agent),
        };
        found.ok_or_else(|| Error::new(Code::InvalidToken, "the key or token is not valid"))
    }

    /// Adds a new agent to the lookups.
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
            if let Some(expires) = profile.spec.expires_at {
                self.expiring.remove(&(expires, slot));
                self.expired.remove(&(expires, slot));
            }
        }
    }
}
