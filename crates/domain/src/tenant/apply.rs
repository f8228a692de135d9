//! How an event changes a tenant. Nothing else does.

use std::sync::Arc;

use crate::agent::{Agent, AgentSpec, GracedToken};
use crate::budget::opening::bounds_in;
use crate::budget::policy::{Policy, PolicyProfile};
use crate::budget::policy_index::PolicyIndex;
use crate::delegation::{Delegation, DelegationProfile, DelegationSpec, forget_ended, position};
use crate::event::{Change, ChangeRecord, Event, Grant, LinkUse, Record};
use crate::id::{AgentId, DelegationId, PolicyId};
use crate::idempotency::memory::RememberedKey;
use crate::instance::lease::LeaseRecord;
use crate::limits::MAX_ENDED_WEIGHT;
use crate::moment::Moment;
use crate::tenant::key::{ApiKey, change_key};
use crate::tenant::{Profile, Tenant, TenantStatus};
use crate::time::Timestamp;
use crate::webhook::outbox::Outbox;
use crate::webhook::{Webhook, WebhookProfile};

/// We look for delegations to forget each time this many were made.
const FORGET_EVERY: u32 = 256;

impl Tenant {
    /// Applies an event. It was decided before, so nothing is checked here; an event about an agent that doesn't exist
    /// changes nothing.
    pub fn apply(&mut self, moment: Moment, event: &Event<'_>) {
        let before = self.wall();
        (self.state.seq, self.state.at, self.state.wall) = (moment.seq, moment.at, moment.other_wall());
        for opened in event.opens() {
            if let Some(policy) = self.place_of_policy(opened.policy).and_then(|place| self.policy_mut(place)) {
                policy.open(opened.period, opened.bounds(), moment);
            }
        }
        if moment.wall < before {
            let turning = self.state.policies.iter_mut().filter(|policy| !event.changes_calendar_of(policy));
            turning.for_each(|policy| policy.turn_to(moment));
            self.shorten_holds(moment.wall);
        }
        if !self.state.used_keys.is_empty() {
            self.key_index.forget_old(&mut self.state.used_keys, moment.at);
        }
        if let Some(key) = event.key() {
            let used = RememberedKey { key, seq: moment.seq, at: moment.at };
            self.key_index.remember(&mut self.state.used_keys, used);
        }
        if !self.state.webhooks.is_empty() {
            self.queue_message(moment, event);
        }
        match event {
            Event::Decided(record) => self.apply_decision(moment, record),
            Event::Used(record) => self.apply_usage(moment, record),
            Event::Delivered(record) => self.apply_delivery(moment, record),
            Event::Leased(record) => self.apply_lease(moment, record),
            Event::Changed(record) => self.apply_change(moment, record),
        }
        self.apply_crossed(event);
    }

    fn apply_decision(&mut self, moment: Moment, record: &Record<'_>) {
        let Some(slot) = record.agent.and_then(|id| self.slot_of(id)) else { return };
        let Some(agent) = self.state.agents.get_mut(slot as usize) else { return };
        agent.last_active_at = Some(moment.wall);
        match &record.granted_by {
            Some(grant) if grant.links.is_empty() => {
                if let Some(window) = agent.window_mut(grant.permission) {
                    window.count(moment.wall);
                }
            }
            Some(grant) => self.count_delegated(grant, moment.wall),
            None => {}
        }
        let held_until = record.extras.as_ref().and_then(|extras| extras.held_until).filter(|_| record.allowed());
        if let Some(ends_at) = held_until {
            self.open_hold(moment, record, ends_at);
        }
        if record.allowed() {
            self.charge_slices(moment, record);
        }
        if record.allowed() && !self.state.policies.is_empty() {
            for place in self.policies_of_decision(record) {
                if let Some(policy) = self.policy_mut(place) {
                    policy.charge(moment, 1, record.cost.unwrap_or_default(), held_until.is_some());
                }
            }
        } else if let Some(id) = record.policy
            && let Some(policy) = self.place_of_policy(id.seq()).and_then(|place| self.policy_mut(place))
            // An instance policy is another tenant's, and has a number of that one's.
            && policy.profile.id == id
        {
            policy.last_denied_at = Some(moment.wall);
        }
        if let (true, Some(id)) = (record.revokes, record.agent) {
            self.revoke_agent(id, moment.wall);
        }
    }

    fn apply_lease(&mut self, moment: Moment, record: &LeaseRecord) {
        match record {
            LeaseRecord::Lent { policy, lent, .. } => self.apply_lent(moment, *policy, lent),
            LeaseRecord::Held { .. } => self.apply_held(moment, record),
            LeaseRecord::Dropped { policies } => self.apply_dropped(policies),
        }
    }

    /// Counts a call in every permission on the way to the agent that owns the last one.
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
        // A link to it is over for good, and would take up a place among the open ones.
        let lists = [self.links.leaving(id), self.links.arriving(id)];
        let links = lists.into_iter().flat_map(|links| self.open_links(links, at)).map(|(place, _)| place);
        self.revoke_links(links.collect(), at);
    }

    /// Revokes links and all that stand on them. Links that are over stay as they are, so that the cost follows the
    /// open ones.
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

    /// The next link's place; `None` if all numbers are used up.
    pub(crate) fn next_place(&self) -> Option<u32> {
        // The newest link is never forgotten.
        self.state.delegations.last().map_or(Some(0), |newest| newest.place.checked_add(1))
    }

    fn add_link(&mut self, id: DelegationId, spec: DelegationSpec, at: Timestamp) {
        let Some(place) = self.next_place() else { return };
        // Only events decide when this happens, since it changes the state.
        if place.is_multiple_of(FORGET_EVERY) {
            // Goes by the earliest creation time of the newest links. So if the clock is ahead for a while, no link is
            // forgotten that is live once the clock is right.
            let newest = self.state.delegations.iter().rev().take(FORGET_EVERY as usize);
            let over_by = newest.map(|link| link.profile.created_at).min().map_or(at, |earliest| earliest.min(at));
            self.links.forget(&forget_ended(&mut self.state.delegations, over_by, MAX_ENDED_WEIGHT));
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

    fn apply_change(&mut self, moment: Moment, record: &ChangeRecord) {
        let (at, by, change) = (moment.wall, record.by, &record.change);
        let bounds = |policy, span| bounds_in(&record.opens, policy, span);
        while let Some(agent) = self.expiring.first().copied().filter(|(expires, _)| *expires <= at) {
            self.expiring.remove(&agent);
            self.expired.insert(agent);
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
            Change::KeyCreated { key, name, hash, prefix, role, expires_at } => self.state.keys.push(ApiKey {
                id: *key,
                name: name.clone(),
                hash: *hash,
                prefix: prefix.clone(),
                created_at: at,
                role: *role,
                expires_at: *expires_at,
            }),
            Change::OperatorKeyCreated { key, name, hash, prefix, role, expires_at } => {
                self.state.operator_keys.push(ApiKey {
                    id: *key,
                    name: name.clone(),
                    hash: *hash,
                    prefix: prefix.clone(),
                    created_at: at,
                    role: *role,
                    expires_at: *expires_at,
                });
            }
            Change::KeyUpdated { key, name, expires_at } => {
                change_key(&mut self.state.keys, *key, name, *expires_at);
            }
            Change::OperatorKeyUpdated { key, name, expires_at } => {
                change_key(&mut self.state.operator_keys, *key, name, *expires_at);
            }
            Change::OperatorKeyRevoked { key } => self.state.operator_keys.retain(|known| known.id != *key),
            Change::WebhookCreated { webhook, spec } => self.state.webhooks.push(Webhook {
                profile: Arc::new(WebhookProfile {
                    id: *webhook,
                    spec: (**spec).clone(),
                    rotation: 0,
                    rotated_at: None,
                    by,
                    created_at: at,
                    updated_at: at,
                }),
                outbox: Outbox::default(),
            }),
            Change::WebhookUpdated { webhook, spec } => self.change_webhook(*webhook, |webhook| {
                let profile = Arc::make_mut(&mut webhook.profile);
                profile.spec = (**spec).clone();
                profile.by = by;
                profile.updated_at = at;
            }),
            Change::WebhookDeleted { webhook } => self.state.webhooks.retain(|known| known.profile.id != *webhook),
            Change::WebhookRotated { webhook } => self.change_webhook(*webhook, |webhook| {
                let profile = Arc::make_mut(&mut webhook.profile);
                profile.rotation = profile.rotation.saturating_add(1);
                profile.rotated_at = Some(at);
                profile.by = by;
                profile.updated_at = at;
            }),
            // Its message is in the outbox already.
            Change::WebhookTested { .. } => {}
            Change::WebhookRedelivered { webhook, message } => {
                self.change_webhook(*webhook, |webhook| webhook.outbox.redeliver(message.seq(), at));
            }
            // They are about another tenant, which this state knows nothing about.
            Change::TenantDeleted { .. } | Change::TenantRequested { .. } => {}
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
            Change::AgentSuspended { agent } | Change::AgentActivated { agent } => {
                let suspended = matches!(change, Change::AgentSuspended { .. });
                self.change_agent(*agent, |agent| {
                    let profile = Arc::make_mut(&mut agent.profile);
                    profile.suspended = suspended;
                    profile.updated_at = at;
                });
            }
            Change::DelegationCreated { delegation, spec } => self.add_link(*delegation, (**spec).clone(), at),
            Change::DelegationRevoked { delegation, from: _, to: _ } => {
                self.revoke_links(self.links.place(*delegation).into_iter().collect(), at);
            }
            Change::PolicyCreated { policy, agent, owner, limits, action, terms } => {
                let place = u32::try_from(self.state.policies.len()).unwrap_or(u32::MAX);
                let id = *policy;
                let profile = PolicyProfile {
                    id,
                    agent: *agent,
                    owner: owner.clone(),
                    limits: limits.clone(),
                    action: *action,
                    disabled: false,
                    by,
                    created_at: at,
                    updated_at: at,
                    terms: terms.as_deref().cloned().unwrap_or_default(),
                };
                let policy = Policy::new(profile, |span| bounds(id, span));
                self.policy_index.insert(place, &policy);
                self.state.policies.push(policy);
            }
            Change::PolicyUpdated { policy: id, limits, action, disabled, terms } => {
                let terms = terms.as_deref().cloned().unwrap_or_default();
                let mut is_index_stale = false;
                self.change_policy(*id, |policy| {
                    let old = &policy.profile.terms;
                    is_index_stale = old.scope != terms.scope || old.calendar.is_zoned() != terms.calendar.is_zoned();
                    policy.last_denied_at = None;
                    policy.renew(
                        moment,
                        |span| bounds(*id, span),
                        |profile| {
                            profile.limits = limits.clone();
                            profile.action = *action;
                            profile.disabled = *disabled;
                            profile.terms = terms;
                            profile.by = by;
                            profile.updated_at = at;
                        },
                    );
                    policy.tell_anew(at);
                });
                if is_index_stale {
                    self.policy_index = PolicyIndex::build(&self.state.policies);
                }
            }
            Change::PolicyDeleted { policy } => {
                self.state.policies.retain(|known| known.profile.id != *policy);
                self.policy_index = PolicyIndex::build(&self.state.policies);
                self.state.lent.forget(policy.seq());
            }
            Change::PolicyReset { policy, period } => {
                self.change_policy(*policy, |policy| policy.reset(moment, *period));
            }
            Change::PoliciesReset { period } => {
                let resettable = |policy: &&mut Policy| policy.profile.is_reset_with_all(by);
                self.state.policies.iter_mut().filter(resettable).for_each(|policy| policy.reset(moment, *period));
            }
            Change::TokenRotated { agent, token, grace_until } => self.change_agent(*agent, |agent| {
                let profile = Arc::make_mut(&mut agent.profile);
                let old = std::mem::replace(&mut profile.token, *token);
                // Without grace every older token ends, even those in a grace period: one of them may have leaked.
                profile.graced.retain(|graced| grace_until.is_some() && graced.until > at);
                profile.graced.extend(grace_until.map(|until| GracedToken { token: old, until }));
                profile.updated_at = at;
            }),
        }
    }

    /// Copies the spec, sharing its permissions with agents that have equal ones.
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
}
