//! The naive model. Slow on purpose: it remembers nothing that it can find by looking at everything.

use std::collections::BTreeMap;

use kavach_domain::Code;
use kavach_domain::limits::{MAX_GRACE_SECONDS, MAX_GRACED_TOKENS, MAX_STANDSTILL_MS, MAX_WEBHOOKS};
use serde::Serialize;
use serde_json::{Value, json};

use super::hooks::{Hook, Message};

/// Length of a segment of the sliding hour.
const BUCKET_MS: i64 = 5 * 60 * 1_000;
const BUCKETS: i64 = 12;
/// How long an idempotency key is remembered.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Constraints {
    pub max_calls_per_hour: Option<u32>,
    pub allowed_arg_patterns: Option<Vec<String>>,
    pub time_window: Option<Window>,
    pub ip_allowlist: Option<Vec<String>>,
    pub require_approval: Option<bool>,
    pub arguments: Option<BTreeMap<String, Value>>,
    pub other_arguments: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    pub start: String,
    pub end: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Permission {
    pub resource: String,
    pub actions: Vec<String>,
    pub constraints: Option<Constraints>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    Autonomous,
    Delegated,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    Active,
    Revoked,
    Suspended,
    Expired,
}

/// What a client says about an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub owner: String,
    pub name: String,
    pub kind: AgentKind,
    pub permissions: Vec<Permission>,
    pub expires_at: Option<i64>,
    pub metadata: Option<Value>,
}

/// A change of an agent; an outer `None` leaves the field alone.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    pub owner: Option<String>,
    pub name: Option<String>,
    pub kind: Option<AgentKind>,
    pub permissions: Option<Vec<Permission>>,
    pub expires_at: Option<Option<i64>>,
    pub metadata: Option<Option<Value>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub max_agents: Option<u32>,
    pub max_delegation_depth: Option<u32>,
    pub audit_retention_days: Option<u32>,
    pub allowed_agent_types: Option<Vec<AgentKind>>,
}

/// A change of settings; an outer `None` leaves the setting alone.
#[derive(Clone, Debug, Default)]
pub struct SettingsPatch {
    pub max_agents: Option<Option<u32>>,
    pub max_delegation_depth: Option<Option<u32>>,
    pub audit_retention_days: Option<Option<u32>>,
    pub allowed_agent_types: Option<Option<Vec<AgentKind>>>,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub id: String,
    pub spec: Spec,
    /// For each permission a number, which an identical one keeps when all are replaced.
    pub places: Vec<usize>,
    pub revoked: bool,
    pub suspended: bool,
    pub created: i64,
    pub updated: i64,
    pub last_active: Option<i64>,
}

/// A token that was ever issued.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub agent: usize,
    /// The first moment at which it is no longer valid.
    pub until: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub text: String,
    pub created: i64,
    pub revoked: bool,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The agent, if the call names one of this tenant.
    pub agent: Option<usize>,
    pub action: String,
    pub resource: String,
    /// How the request names the tenant.
    pub tenants: Vec<String>,
    pub arguments: Option<Value>,
    pub ip: Option<String>,
}

/// The expected answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: Option<Code>,
    /// Position of the permission that grants the call.
    pub granted_by: Option<usize>,
    pub retry_after: Option<u64>,
    /// What the reason must contain, in the words that clients look for.
    pub says: String,
}

pub struct Model {
    /// Names that the tenant answers to.
    pub names: Vec<String>,
    pub is_default: bool,
    pub tag: u32,
    pub name: String,
    pub settings: Settings,
    pub suspended: bool,
    pub created: i64,
    pub updated: i64,
    /// Time and number of the last event.
    pub at: i64,
    pub seq: u64,
    pub keys: Vec<Key>,
    pub agents: Vec<Agent>,
    pub tokens: Vec<Token>,
    /// Every granted call: the permission's number and the time.
    pub granted: Vec<(usize, i64)>,
    /// Those that are not deleted.
    pub hooks: Vec<Hook>,
    /// Idempotency keys: whose, which, and the request, with the number and the time of its event.
    used_keys: Vec<(String, u8, String, u64, i64)>,
    next_place: usize,
}

impl Model {
    pub fn new(names: Vec<String>, is_default: bool, tag: u32, name: &str, settings: Settings, at: i64) -> Self {
        Self {
            names,
            is_default,
            tag,
            name: name.to_owned(),
            settings,
            suspended: false,
            created: at,
            updated: at,
            at,
            seq: 1,
            keys: Vec::new(),
            agents: Vec::new(),
            tokens: Vec::new(),
            granted: Vec::new(),
            hooks: Vec::new(),
            used_keys: Vec::new(),
            next_place: 0,
        }
    }

    /// The order of events never runs backwards.
    pub fn order(&self, clock: i64) -> i64 {
        clock.max(self.at)
    }

    /// The time of all decisions: the clock's, except for small steps back, which are waited out.
    pub fn time(&self, clock: i64) -> i64 {
        if self.at - clock <= MAX_STANDSTILL_MS { self.order(clock) } else { clock }
    }

    /// The id that the next event makes: a UUIDv7 of its time, its number and the tenant's tag.
    pub fn next_id(&self, prefix: &str, clock: i64) -> String {
        let seq = 0x8000_0000 | (self.seq + 1);
        format!("{prefix}_{:012x}7000{seq:08x}{:08x}", self.order(clock), self.tag)
    }

    /// An event of which webhooks are told, unless `kind` is empty.
    fn event(&mut self, at: i64, kind: &'static str) {
        self.at = self.at.max(at);
        self.seq += 1;
        let message = Message { seq: self.seq, at: self.at, kind };
        for hook in self.hooks.iter_mut().filter(|hook| !kind.is_empty() && hook.asks_for(kind)) {
            hook.waiting.push(message);
        }
    }

    pub fn status(&self, agent: usize, at: i64) -> Status {
        let agent = &self.agents[agent];
        match agent.spec.expires_at {
            _ if agent.revoked => Status::Revoked,
            _ if agent.suspended => Status::Suspended,
            _ if self.is_expired(&agent.spec, at) => Status::Expired,
            _ => Status::Active,
        }
    }

    fn is_expired(&self, spec: &Spec, at: i64) -> bool {
        spec.expires_at.is_some_and(|expires| at >= expires)
    }

    /// Suspended agents keep their place.
    pub fn active_agents(&self, at: i64) -> usize {
        self.agents.iter().filter(|agent| !agent.revoked && !self.is_expired(&agent.spec, at)).count()
    }

    /// The owner of a token, if it is valid.
    pub fn authenticate(&self, token: &str, clock: i64) -> Option<usize> {
        let at = self.time(clock);
        let found = self.tokens.iter().find(|known| known.text == token)?;
        found.until.is_none_or(|until| at < until).then_some(found.agent)
    }

    /// The owner of a key, if it is valid.
    pub fn authenticate_key(&self, text: &str) -> Option<&str> {
        self.keys.iter().find(|key| key.text == text && !key.revoked).map(|key| key.id.as_str())
    }

    fn check_type(&self, kind: AgentKind) -> Result<(), Vec<Code>> {
        match &self.settings.allowed_agent_types {
            Some(allowed) if !allowed.contains(&kind) => Err(vec![Code::AgentTypeNotAllowed]),
            _ => Ok(()),
        }
    }

    fn check_room(&self, at: i64) -> Result<(), Vec<Code>> {
        match self.settings.max_agents {
            Some(most) if self.active_agents(at) >= most as usize => Err(vec![Code::AgentLimitExceeded]),
            _ => Ok(()),
        }
    }

    fn new_places(&mut self, count: usize) -> Vec<usize> {
        self.next_place += count;
        (self.next_place - count..self.next_place).collect()
    }

    /// An error lists every code that fits: if two things are wrong, the tenant may name either.
    pub fn create_agent(&mut self, spec: Spec, token: &str, clock: i64) -> Result<usize, Vec<Code>> {
        check_permissions(&spec.permissions)?;
        let at = self.time(clock);
        self.check_type(spec.kind)?;
        if spec.expires_at.is_none_or(|expires| expires > at) {
            self.check_room(at)?;
        }
        let id = self.next_id("agt", clock);
        let places = self.new_places(spec.permissions.len());
        let agent =
            Agent { id, spec, places, revoked: false, suspended: false, created: at, updated: at, last_active: None };
        self.agents.push(agent);
        self.tokens.push(Token { text: token.to_owned(), agent: self.agents.len() - 1, until: None });
        self.event(at, "agent.created");
        Ok(self.agents.len() - 1)
    }

    fn unrevoked(&self, agent: usize) -> Result<&Agent, Vec<Code>> {
        match self.agents.get(agent) {
            None => Err(vec![Code::AgentNotFound]),
            Some(agent) if agent.revoked => Err(vec![Code::AgentIsRevoked]),
            Some(agent) => Ok(agent),
        }
    }

    /// Returns whether anything changed.
    pub fn update_agent(&mut self, agent: usize, patch: Patch, clock: i64) -> Result<bool, Vec<Code>> {
        check_permissions(patch.permissions.as_deref().unwrap_or_default())?;
        let at = self.time(clock);
        let old = self.unrevoked(agent)?.clone();
        let spec = Spec {
            owner: patch.owner.unwrap_or(old.spec.owner.clone()),
            name: patch.name.unwrap_or(old.spec.name.clone()),
            kind: patch.kind.unwrap_or(old.spec.kind),
            permissions: patch.permissions.unwrap_or(old.spec.permissions.clone()),
            expires_at: patch.expires_at.unwrap_or(old.spec.expires_at),
            metadata: patch.metadata.unwrap_or(old.spec.metadata.clone()),
        };
        // Existing agents keep their type.
        if spec.kind != old.spec.kind {
            self.check_type(spec.kind)?;
        }
        let revives = self.is_expired(&old.spec, at) && spec.expires_at.is_none_or(|expires| expires > at);
        if revives {
            self.check_room(at)?;
        }
        if spec == old.spec {
            return Ok(false);
        }
        // An identical permission keeps its calls; if several are identical, each keeps those of one.
        let mut places = Vec::new();
        for permission in &spec.permissions {
            let same = (0..old.places.len())
                .find(|at| old.spec.permissions[*at] == *permission && !places.contains(&old.places[*at]));
            let place = same.map(|at| old.places[at]);
            places.push(place.unwrap_or_else(|| self.new_places(1)[0]));
        }
        let agent = &mut self.agents[agent];
        (agent.spec, agent.places, agent.updated) = (spec, places, at);
        self.event(at, "agent.updated");
        Ok(true)
    }

    pub fn revoke_agent(&mut self, agent: usize, clock: i64) -> Result<bool, Vec<Code>> {
        let at = self.time(clock);
        match self.agents.get_mut(agent) {
            None => Err(vec![Code::AgentNotFound]),
            Some(agent) if agent.revoked => Ok(false),
            Some(agent) => {
                (agent.revoked, agent.updated) = (true, at);
                self.event(at, "agent.revoked");
                Ok(true)
            }
        }
    }

    pub fn suspend_agent(&mut self, agent: usize, suspended: bool, clock: i64) -> Result<bool, Vec<Code>> {
        let at = self.time(clock);
        if self.unrevoked(agent)?.suspended == suspended {
            return Ok(false);
        }
        let agent = &mut self.agents[agent];
        (agent.suspended, agent.updated) = (suspended, at);
        self.event(at, if suspended { "agent.suspended" } else { "agent.activated" });
        Ok(true)
    }

    pub fn rotate(&mut self, agent: usize, token: &str, grace: u64, clock: i64) -> Result<(), Vec<Code>> {
        if grace > MAX_GRACE_SECONDS {
            return Err(vec![Code::InvalidField]);
        }
        let at = self.time(clock);
        self.unrevoked(agent)?;
        let mine = || self.tokens.iter().filter(|token| token.agent == agent);
        let in_grace = mine().filter(|token| token.until.is_some_and(|until| until > at)).count();
        if grace > 0 && in_grace >= MAX_GRACED_TOKENS {
            return Err(vec![Code::RotationLimitExceeded]);
        }
        for old in self.tokens.iter_mut().filter(|token| token.agent == agent && token.until.is_none()) {
            old.until = Some(if grace == 0 { 0 } else { at + grace as i64 * 1_000 });
        }
        // What is over by now stays over, whatever the clock says later.
        for old in self.tokens.iter_mut().filter(|token| token.agent == agent) {
            old.until = old.until.map(|until| if grace == 0 || until <= at { 0 } else { until });
        }
        self.tokens.push(Token { text: token.to_owned(), agent, until: None });
        self.agents[agent].updated = at;
        self.event(at, "agent.rotated");
        Ok(())
    }

    pub fn update_tenant(&mut self, name: Option<&str>, patch: SettingsPatch, clock: i64) -> Result<bool, Vec<Code>> {
        let bad = patch.max_delegation_depth.flatten() == Some(0)
            || patch.audit_retention_days.flatten() == Some(0)
            || patch.allowed_agent_types.as_ref().is_some_and(|types| types.as_ref().is_some_and(Vec::is_empty))
            || name.is_some_and(|name| name.trim().is_empty());
        if bad {
            return Err(vec![Code::InvalidField]);
        }
        let old = (self.name.clone(), self.settings.clone());
        let settings = &mut self.settings;
        patch.max_agents.into_iter().for_each(|value| settings.max_agents = value);
        patch.max_delegation_depth.into_iter().for_each(|value| settings.max_delegation_depth = value);
        patch.audit_retention_days.into_iter().for_each(|value| settings.audit_retention_days = value);
        patch.allowed_agent_types.into_iter().for_each(|value| settings.allowed_agent_types = value);
        self.name = name.map_or(old.0.clone(), |name| name.trim().to_owned());
        let changed = (&self.name, &self.settings) != (&old.0, &old.1);
        if changed {
            self.updated = self.time(clock);
            self.event(self.updated, "tenant.updated");
        }
        Ok(changed)
    }

    pub fn set_suspended(&mut self, suspended: bool, clock: i64) -> Result<bool, Vec<Code>> {
        if self.is_default && suspended {
            return Err(vec![Code::DefaultTenantFixed]);
        }
        let changed = self.suspended != suspended;
        if changed {
            self.suspended = suspended;
            self.updated = self.time(clock);
            self.event(self.updated, if suspended { "tenant.suspended" } else { "tenant.activated" });
        }
        Ok(changed)
    }

    pub fn create_key(&mut self, name: &str, text: &str, clock: i64) {
        let (id, created) = (self.next_id("key", clock), self.time(clock));
        self.keys.push(Key { id, name: name.to_owned(), text: text.to_owned(), created, revoked: false });
        self.event(created, "key.created");
    }

    pub fn revoke_key(&mut self, key: usize, clock: i64) -> Result<(), Vec<Code>> {
        let at = self.time(clock);
        match self.keys.get_mut(key) {
            Some(key) if !key.revoked => key.revoked = true,
            _ => return Err(vec![Code::KeyNotFound]),
        }
        self.event(at, "key.revoked");
        Ok(())
    }

    /// Whether a tenant key makes the changes of the history: the newest, while it is live.
    fn by_key(&self) -> bool {
        self.keys.last().is_some_and(|key| !key.revoked)
    }

    fn hook(&mut self, hook: usize) -> Result<&mut Hook, Vec<Code>> {
        self.hooks.get_mut(hook).ok_or(vec![Code::WebhookNotFound])
    }

    pub fn create_hook(&mut self, events: Vec<&'static str>, clock: i64) -> Result<(), Vec<Code>> {
        if self.hooks.len() >= MAX_WEBHOOKS {
            return Err(vec![Code::WebhookLimitExceeded]);
        }
        let (id, at, by_key) = (self.next_id("whk", clock), self.time(clock), self.by_key());
        self.event(at, "webhook.created");
        let (waiting, delivered, dead) = (Vec::new(), Vec::new(), Vec::new());
        let (created, updated) = (at, at);
        let hook = Hook {
            id,
            events,
            disabled: false,
            description: None,
            rotation: 0,
            by_key,
            created,
            updated,
            waiting,
            delivered,
            dead,
        };
        self.hooks.push(hook);
        Ok(())
    }

    /// Returns whether anything changed. The commands are an operator's, who takes over what a key set.
    pub fn update_hook(
        &mut self,
        hook: usize,
        events: Option<Vec<&'static str>>,
        disabled: Option<bool>,
        description: Option<Option<&'static str>>,
        clock: i64,
    ) -> Result<bool, Vec<Code>> {
        let (at, by_key) = (self.time(clock), self.by_key());
        let old = self.hook(hook)?.clone();
        let is_given = events.is_some() || disabled.is_some() || description.is_some();
        let new = Hook {
            events: events.unwrap_or(old.events.clone()),
            disabled: disabled.unwrap_or(old.disabled),
            description: description.unwrap_or(old.description),
            ..old.clone()
        };
        let is_new = (&new.events, new.disabled, new.description) != (&old.events, old.disabled, old.description);
        let takes_over = old.by_key && is_given;
        if !is_new && !takes_over {
            return Ok(false);
        }
        // By what it asked for before.
        self.event(at, "webhook.updated");
        let waiting = self.hooks[hook].waiting.clone();
        self.hooks[hook] = Hook { waiting, by_key, updated: at, ..new };
        Ok(true)
    }

    pub fn delete_hook(&mut self, hook: usize, clock: i64) -> Result<(), Vec<Code>> {
        self.hook(hook)?;
        self.event(self.time(clock), "webhook.deleted");
        self.hooks.remove(hook);
        Ok(())
    }

    pub fn rotate_hook(&mut self, hook: usize, clock: i64) -> Result<(), Vec<Code>> {
        let (at, by_key) = (self.time(clock), self.by_key());
        self.hook(hook)?;
        self.event(at, "webhook.rotated");
        let hook = &mut self.hooks[hook];
        (hook.rotation, hook.by_key, hook.updated) = (hook.rotation + 1, by_key, at);
        Ok(())
    }

    fn sending(&mut self, hook: usize) -> Result<(), Vec<Code>> {
        if self.hook(hook)?.disabled { Err(vec![Code::WebhookDisabled]) } else { Ok(()) }
    }

    pub fn test_hook(&mut self, hook: usize, clock: i64) -> Result<(), Vec<Code>> {
        self.sending(hook)?;
        self.event(self.time(clock), "");
        let message = Message { seq: self.seq, at: self.at, kind: "webhook.test" };
        self.hooks[hook].waiting.push(message);
        Ok(())
    }

    /// Returns whether anything changed. `None` is a message that the webhook never had.
    pub fn redeliver(&mut self, hook: usize, seq: Option<u64>, clock: i64) -> Result<bool, Vec<Code>> {
        self.sending(hook)?;
        let seq = seq.ok_or(vec![Code::DeliveryNotFound])?;
        let changed = self.hooks[hook].redeliver(seq);
        if changed {
            self.event(self.time(clock), "");
        }
        Ok(changed)
    }

    pub fn delivered(&mut self, hook: usize, taken: bool, clock: i64) {
        self.event(self.time(clock), "");
        self.hooks[hook].finish(taken);
    }

    /// The number of the event that the key's first request made, in the last day; the error is that it was another
    /// request.
    pub fn first_use(&self, owner: &str, key: u8, request: &str, clock: i64) -> Result<Option<u64>, Code> {
        let at = self.order(clock);
        let is_it = |used: &&(String, u8, String, u64, i64)| used.0 == owner && used.1 == key && used.4 + DAY_MS > at;
        match self.used_keys.iter().rev().find(is_it) {
            None => Ok(None),
            Some((_, _, first, seq, _)) if first == request => Ok(Some(*seq)),
            Some(_) => Err(Code::IdempotencyKeyReused),
        }
    }

    /// The last event was made by that request, with that key.
    pub fn remember(&mut self, owner: String, key: u8, request: String) {
        self.used_keys.push((owner, key, request, self.seq, self.at));
    }

    /// Times of the calls that a permission granted, as seen at that time: if the clock was set back, calls counted in
    /// the hour up to the newest were made by now.
    fn calls(&self, place: usize, at: i64) -> Vec<i64> {
        let bucket = |time: i64| time.div_euclid(BUCKET_MS);
        let mut calls: Vec<i64> = self.granted.iter().filter(|call| call.0 == place).map(|call| call.1).collect();
        let newest = calls.iter().copied().map(bucket).max();
        if let Some(newest) = newest.filter(|newest| *newest > bucket(at)) {
            calls.retain(|call| bucket(*call) > newest - BUCKETS);
            calls.fill(at);
        }
        calls
    }

    /// Calls a permission granted in the last hour.
    pub fn used(&self, place: usize, at: i64) -> usize {
        live(&self.calls(place, at), at)
    }

    /// The decision, in the order of its checks. Changes nothing.
    pub fn decide(&self, call: &Call, at: i64) -> Answer {
        let denied =
            |code, says: &str| Answer { code: Some(code), granted_by: None, retry_after: None, says: says.to_owned() };
        if call.tenants.iter().any(|named| !self.names.contains(named)) {
            return denied(Code::TenantMismatch, "tenant");
        }
        if self.suspended {
            return denied(Code::TenantSuspended, "suspended");
        }
        let Some(index) = call.agent else { return denied(Code::AgentNotFound, "not found") };
        match self.status(index, at) {
            Status::Revoked => return denied(Code::AgentRevoked, "revoked"),
            Status::Suspended => return denied(Code::AgentSuspended, "suspended"),
            Status::Expired => return denied(Code::AgentExpired, "expired"),
            Status::Active => {}
        }
        let agent = &self.agents[index];
        let mut first_failure = None;
        for (position, permission) in agent.spec.permissions.iter().enumerate() {
            if !matches_permission(permission, &call.resource, &call.action) {
                continue;
            }
            match self.check_constraints(permission.constraints.as_ref(), agent.places[position], call, at) {
                None => {
                    let granted_by = Some(position);
                    return Answer { code: None, granted_by, retry_after: None, says: String::new() };
                }
                Some(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        first_failure.unwrap_or_else(|| denied(Code::PermissionDenied, "No permission "))
    }

    fn check_constraints(&self, limits: Option<&Constraints>, place: usize, call: &Call, at: i64) -> Option<Answer> {
        let limits = limits?;
        let denied = |code, says: String| Some(Answer { code: Some(code), granted_by: None, retry_after: None, says });
        if let Some(Window { start, end }) = &limits.time_window {
            let minutes = at / 60_000;
            let clock = format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
            let inside = if start < end { *start <= clock && clock < *end } else { *start <= clock || clock < *end };
            if !inside {
                return denied(Code::OutsideTimeWindow, format!("only allowed between {start} and {end}"));
            }
        }
        if let Some(list) = &limits.ip_allowlist
            && !call.ip.as_ref().is_some_and(|ip| list.iter().any(|net| in_net(net, ip)))
        {
            return denied(Code::IpNotAllowed, "IP address".to_owned());
        }
        if let Some(patterns) = &limits.allowed_arg_patterns {
            let mut strings = Vec::new();
            collect_strings(call.arguments.as_ref().unwrap_or(&Value::Null), &mut strings);
            let fits = |text: &&str| patterns.iter().any(|pattern| matches_argument(pattern, text));
            if strings.is_empty() || !strings.iter().all(fits) {
                return denied(Code::ArgumentNotAllowed, " does not match pattern ".into());
            }
        }
        let given = call.arguments.clone().filter(|given| !given.is_null()).unwrap_or_else(|| json!({}));
        let rules = limits.arguments.clone().unwrap_or_default();
        let names: Vec<_> = rules.keys().map(String::as_str).collect();
        let holds = |(name, rule): (&String, &Value)| {
            let steps = name.replace("[]", ".[]");
            let steps: Vec<_> = steps.split('.').collect();
            reach(Some(&given), &steps).is_some_and(|found| found.iter().all(|found| rule_holds(rule, *found)))
        };
        if !rules.iter().all(holds)
            || limits.other_arguments.is_some_and(|others| !others_hold(&given, "", &names, others))
        {
            return denied(Code::ArgumentNotAllowed, "Argument '".into());
        }
        if limits.require_approval == Some(true) {
            return denied(Code::RequiresApproval, "approval".to_owned());
        }
        if let Some(max) = limits.max_calls_per_hour {
            let used = self.used(place, at);
            if used >= max as usize {
                let says = format!("Rate limit exceeded: {used}/{max}");
                let retry_after = self.retry_after(place, max, at);
                return Some(Answer { code: Some(Code::RateLimited), granted_by: None, retry_after, says });
            }
        }
        None
    }

    /// Whole seconds until a call fits again: until the first moment at which a bucket leaves and makes room.
    fn retry_after(&self, place: usize, max: u32, at: i64) -> Option<u64> {
        let calls = self.calls(place, at);
        let leave = |call: &i64| (call.div_euclid(BUCKET_MS) + BUCKETS) * BUCKET_MS;
        let mut leaves: Vec<i64> = calls.iter().map(leave).collect();
        leaves.sort_unstable();
        let free = leaves.into_iter().find(|moment| *moment > at && live(&calls, *moment) < max as usize)?;
        Some(((free - at) as u64).div_ceil(1_000))
    }

    /// Records a decision.
    pub fn record(&mut self, call: &Call, answer: &Answer, at: i64) {
        if let Some(index) = call.agent {
            self.agents[index].last_active = Some(at);
            if let Some(place) = answer.granted_by.map(|position| self.agents[index].places[position]) {
                let calls = self.calls(place, at);
                self.granted.retain(|call| call.0 != place);
                self.granted.extend(calls.into_iter().chain([at]).map(|call| (place, call)));
            }
        }
        self.event(at, "");
    }
}

/// How many of those calls count at that time.
fn live(calls: &[i64], at: i64) -> usize {
    let oldest = at.div_euclid(BUCKET_MS) - (BUCKETS - 1);
    calls.iter().filter(|call| call.div_euclid(BUCKET_MS) >= oldest).count()
}

pub fn matches_permission(permission: &Permission, resource: &str, action: &str) -> bool {
    let pattern: Vec<&str> = permission.resource.split(':').collect();
    let resource: Vec<&str> = resource.split(':').collect();
    permission.actions.iter().any(|own| own == "*" || own == action) && matches_segments(&pattern, &resource)
}

fn matches_segments(pattern: &[&str], resource: &[&str]) -> bool {
    match (pattern, resource) {
        // A `*` never stands for an empty segment, and a last one never for several that begin with an empty one.
        (["*"], rest) => rest.first().is_some_and(|segment| !segment.is_empty()),
        ([], []) => true,
        ([first, pattern @ ..], [segment, rest @ ..]) => {
            let fits = if *first == "*" { !segment.is_empty() } else { first == segment };
            fits && matches_segments(pattern, rest)
        }
        _ => false,
    }
}

fn collect_strings<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_strings(item, into)),
        Value::Object(entries) => entries.values().for_each(|item| collect_strings(item, into)),
        _ => {}
    }
}

/// What a name leads to. `None` inside for what is missing, outside if there is something else on the way.
fn reach<'v>(at: Option<&'v Value>, steps: &[&str]) -> Option<Vec<Option<&'v Value>>> {
    match (steps, at) {
        ([], at) => Some(vec![at]),
        ([_, rest @ ..], None) => reach(None, rest),
        (["[]", rest @ ..], Some(Value::Array(items))) if items.is_empty() => reach(None, rest),
        (["[]", rest @ ..], Some(Value::Array(items))) => {
            let found: Option<Vec<_>> = items.iter().map(|item| reach(Some(item), rest)).collect();
            Some(found?.concat())
        }
        ([name, rest @ ..], Some(Value::Object(members))) if *name != "[]" => reach(members.get(*name), rest),
        _ => None,
    }
}

fn rule_holds(rule: &Value, found: Option<&Value>) -> bool {
    let parts = ["match", "oneOf", "max", "min"];
    let says = parts.iter().any(|part| rule.get(part).is_some());
    let Some(value) = found else { return !says || rule.get("absent").is_some() };
    let number = |part: &str| rule[part].as_f64();
    if !says {
        return rule.get("absent").is_none();
    }
    rule.get("match").is_none_or(|all| {
        let mut patterns = all.as_array().unwrap().iter().map(|pattern| pattern.as_str().unwrap());
        value.as_str().is_some_and(|text| patterns.any(|pattern| matches_argument(pattern, text)))
    }) && rule.get("oneOf").is_none_or(|all| all.as_array().unwrap().contains(value))
        && number("max").is_none_or(|max| value.as_f64().is_some_and(|value| value <= max))
        && number("min").is_none_or(|min| value.as_f64().is_some_and(|value| value >= min))
}

/// Whether what has no name may be there.
fn others_hold(value: &Value, path: &str, names: &[&str], others: &str) -> bool {
    let leads = |path: &str| {
        names.iter().any(|name| {
            *name == path || name.starts_with(&format!("{path}.")) || name.starts_with(&format!("{path}[]"))
        })
    };
    match value {
        _ if names.contains(&path) => true,
        Value::Object(members) => members.iter().all(|(name, value)| {
            let inner = format!("{path}.{name}");
            let inner = inner.trim_start_matches('.');
            if leads(inner) { others_hold(value, inner, names, others) } else { may_be_there(value, others) }
        }),
        Value::Array(items) => items.iter().all(|item| others_hold(item, &format!("{path}[]"), names, others)),
        _ => false,
    }
}

fn may_be_there(value: &Value, others: &str) -> bool {
    match (others, value) {
        ("allow", _) => true,
        ("deny", _) | (_, Value::String(_)) => false,
        (_, Value::Object(members)) => members.is_empty(),
        (_, Value::Array(items)) => items.iter().all(|item| may_be_there(item, others)),
        _ => true,
    }
}

fn matches_argument(pattern: &str, text: &str) -> bool {
    if pattern.starts_with('^') {
        return regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text);
    }
    // A glob never matches these.
    let has_dots = text.split(['/', '\\']).any(|segment| segment == "." || segment == "..");
    if has_dots || text.chars().any(char::is_control) || pattern.contains('/') && text.contains("//") {
        return false;
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    matches_glob(&pattern, &text)
}

fn matches_glob(glob: &[char], text: &[char]) -> bool {
    match (glob, text) {
        ([], []) => true,
        (['*', '*', glob @ ..], _) => (0..=text.len()).any(|taken| matches_glob(glob, &text[taken..])),
        (['*', glob @ ..], _) => (0..=text.len())
            .take_while(|taken| !text[..*taken].contains(&'/'))
            .any(|taken| matches_glob(glob, &text[taken..])),
        (['?', glob @ ..], [c, text @ ..]) => *c != '/' && matches_glob(glob, text),
        ([first, glob @ ..], [c, text @ ..]) => first == c && matches_glob(glob, text),
        _ => false,
    }
}

/// An address as a family and its bits as text. IPv4-mapped IPv6 is IPv4.
fn bits(ip: &str) -> Option<(u8, String)> {
    let octets = match ip.parse().ok()? {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let bits: String = octets.iter().map(|octet| format!("{octet:08b}")).collect();
    let mapped = "0".repeat(80) + &"1".repeat(16);
    Some(match bits.strip_prefix(&mapped) {
        Some(v4) => (4, v4.to_owned()),
        None => (if bits.len() == 32 { 4 } else { 6 }, bits),
    })
}

/// A network as its family and the bits its addresses start with.
fn net_bits(net: &str) -> Option<(u8, String)> {
    let (ip, length) = net.split_once('/').map_or((net, None), |(ip, length)| (ip, Some(length)));
    let (family, mut bits) = bits(ip)?;
    if let Some(length) = length {
        let length: usize = length.parse().ok()?;
        // The prefix of an IPv4-mapped address includes the 96 bits that are cut off.
        let length = if family == 4 && ip.contains(':') { length.checked_sub(96)? } else { length };
        if length > bits.len() {
            return None;
        }
        bits.truncate(length);
    }
    Some((family, bits))
}

fn in_net(net: &str, ip: &str) -> bool {
    let ((net_family, prefix), (family, bits)) = (net_bits(net).unwrap(), bits(ip).unwrap());
    net_family == family && bits.starts_with(&prefix)
}

/// Everything wrong with a client's permissions.
fn check_permissions(permissions: &[Permission]) -> Result<(), Vec<Code>> {
    let mut wrong = Vec::new();
    let mut refuse = |bad: bool, code| wrong.extend(bad.then_some(code));
    for Permission { resource, actions, constraints } in permissions {
        let mut segments = resource.split(':');
        let outer = [segments.clone().next(), segments.clone().next_back()];
        refuse(outer.contains(&Some("")), Code::InvalidField);
        refuse(segments.any(|segment| segment != "*" && segment.contains('*')), Code::InvalidPattern);
        refuse(actions.is_empty(), Code::InvalidField);
        refuse(actions.iter().any(|action| action != "*" && action.contains('*')), Code::InvalidPattern);
        let Some(limits) = constraints else { continue };
        let patterns = limits.allowed_arg_patterns.as_deref().unwrap_or_default();
        let unreadable = |pattern: &String| pattern.starts_with('^') && regex::Regex::new(pattern).is_err();
        refuse(limits.allowed_arg_patterns.as_ref().is_some_and(Vec::is_empty), Code::InvalidField);
        refuse(patterns.iter().any(unreadable), Code::InvalidPattern);
        refuse(limits.time_window.as_ref().is_some_and(|window| window.start == window.end), Code::InvalidPattern);
        let nets = limits.ip_allowlist.as_deref().unwrap_or_default();
        refuse(nets.iter().any(|net| net_bits(net).is_none()), Code::InvalidPattern);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
