//! Budgets, recounted from the audit trail and nothing else, by the words of the design. Costs come from the digits of
//! the JSON, and the calendar is computed from the number of days, not by the server's library.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const DAY: i64 = 86_400_000;

/// An audit entry as a client reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrailEntry {
    pub id: String,
    pub kind: String,
    pub agent_id: Option<String>,
    pub user_id: Option<String>,
    pub action: String,
    pub resource: String,
    pub result: String,
    pub policy_id: Option<String>,
    pub r#ref: Option<String>,
    timestamp: String,
    clock_time: Option<String>,
    held_until: Option<String>,
    tokens_cost: Option<Box<RawValue>>,
    parameters: Option<Box<RawValue>>,
    #[serde(skip)]
    pub at: i64,
    /// What the clock said.
    #[serde(skip)]
    pub wall: i64,
    #[serde(skip)]
    pub cost: u128,
    /// When its hold ends, or to when it was prolonged.
    #[serde(skip)]
    pub until: Option<i64>,
    #[serde(skip)]
    noted: Parameters,
}

/// The `parameters` of entries about policies, agents and usage.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    limits: NotedLimits,
    action: String,
    disabled: bool,
    period: String,
    owner_id: String,
    calls: u128,
    hold: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NotedLimits {
    max_calls_per_day: Option<u128>,
    max_calls_per_month: Option<u128>,
    max_tokens_cost_per_day: Option<Box<RawValue>>,
    max_tokens_cost_per_month: Option<Box<RawValue>>,
}

impl TrailEntry {
    pub fn read(json: &str) -> Self {
        let mut entry: Self = serde_json::from_str(json).unwrap_or_else(|problem| panic!("{problem}: {json}"));
        entry.at = millis(&entry.timestamp);
        entry.wall = entry.clock_time.as_ref().map_or(entry.at, |text| millis(text));
        entry.until = entry.held_until.as_ref().map(|text| millis(text));
        entry.cost = entry.tokens_cost.as_ref().map_or(0, |number| millionths(number.get()));
        if entry.kind != "decision" {
            let parameters = entry.parameters.as_ref().map_or("{}", |json| json.get());
            entry.noted = serde_json::from_str(parameters).unwrap_or_else(|problem| panic!("{problem}: {parameters}"));
        }
        entry
    }

    fn is_allowed_call(&self) -> bool {
        self.kind == "decision" && self.result == "allowed"
    }

    /// Whether it tells that the hold of a decision ended, or what a decision really cost.
    fn ends(&self, decision: &str) -> bool {
        self.r#ref.as_deref() == Some(decision) && self.noted.hold != "extended"
    }
}

/// Decimal digits as a number of millionths.
pub fn millionths(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<6}").parse().unwrap_or_else(|_| panic!("no decimal: {text}"))
}

/// `2026-03-01T09:30:00.000Z` in milliseconds since 1970.
fn millis(text: &str) -> i64 {
    let part = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let clock = ((part(11, 13) * 60 + part(14, 16)) * 60 + part(17, 19)) * 1_000 + part(20, 23);
    days_before(part(0, 4), part(5, 7)) * DAY + (part(8, 10) - 1) * DAY + clock
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of that month.
fn days_before(year: i64, month: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>()
}

/// First moment of the month, and of the next one.
fn month_of(at: i64) -> (i64, i64) {
    let day = at / DAY;
    let (mut year, mut month, mut left) = (1970, 1, day);
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    while month < 12 && days_before(year, month + 1) <= day {
        month += 1;
    }
    let first = days_before(year, month);
    (first * DAY, (first + days_in(year, month)) * DAY)
}

/// First moment of the day, and of the next one.
fn day_of(at: i64) -> (i64, i64) {
    (at / DAY * DAY, (at / DAY + 1) * DAY)
}

/// A policy, as the trail shows it.
#[derive(Debug)]
pub struct Counted {
    id: String,
    agent: Option<String>,
    owner: Option<String>,
    /// Calls of the day and of the month, cost of the day and of the month.
    limits: [Option<u128>; 4],
    used: [u128; 4],
    /// What is held of the cost of the day and of the month.
    held: [u128; 2],
    action: String,
    disabled: bool,
    /// When it last denied a call, since it was last changed or reset.
    denied: Option<i64>,
}

impl Counted {
    fn is_about(&self, agent: &str, owner: &str) -> bool {
        self.agent.as_ref().is_none_or(|own| own == agent) && self.owner.as_ref().is_none_or(|own| own == owner)
    }

    fn status(&self) -> &'static str {
        let used_up = (0..4).any(|at| self.limits[at].is_some_and(|max| self.used[at] >= max));
        match (self.disabled, used_up) {
            (true, _) => "disabled",
            (false, true) => "triggered",
            (false, false) => "active",
        }
    }

    pub fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "limits": self.limits.map(|max| max.map(|max| max.to_string())),
            "action": self.action,
            "status": self.status(),
            "used": self.used.map(|used| used.to_string()),
            "held": self.held.map(|held| held.to_string()),
            "lastDenied": self.denied,
        })
    }
}

fn limits(noted: &NotedLimits) -> [Option<u128>; 4] {
    let cost = |number: &Option<Box<RawValue>>| number.as_ref().map(|number| millionths(number.get()));
    [
        noted.max_calls_per_day,
        noted.max_calls_per_month,
        cost(&noted.max_tokens_cost_per_day),
        cost(&noted.max_tokens_cost_per_month),
    ]
}

/// The agent's owner.
pub fn owner(trail: &[TrailEntry], agent: &str) -> Option<String> {
    let noted =
        |entry: &&TrailEntry| entry.resource == agent && ["agent.create", "agent.update"].contains(&&*entry.action);
    trail.iter().rev().find(noted).map(|entry| entry.noted.owner_id.clone())
}

/// Whether the agent was revoked, by somebody or by a policy.
pub fn is_revoked(trail: &[TrailEntry], agent: &str) -> bool {
    let actions: HashMap<_, _> = actions_over_time(trail);
    trail.iter().enumerate().any(|(place, entry)| {
        let by_hand = entry.action == "agent.revoke" && entry.resource == agent;
        let by_policy = entry.kind == "decision"
            && entry.agent_id.as_deref() == Some(agent)
            && entry.policy_id.as_ref().is_some_and(|id| action_at(&actions[id], place) == "revoke");
        by_hand || by_policy
    })
}

fn actions_over_time(trail: &[TrailEntry]) -> HashMap<String, Vec<(usize, String)>> {
    let mut actions: HashMap<String, Vec<(usize, String)>> = HashMap::new();
    for (place, entry) in trail.iter().enumerate() {
        if ["policy.create", "policy.update"].contains(&&*entry.action) {
            actions.entry(entry.resource.clone()).or_default().push((place, entry.noted.action.clone()));
        }
    }
    actions
}

fn action_at(actions: &[(usize, String)], place: usize) -> &str {
    actions.iter().rev().find(|(at, _)| *at < place).map(|(_, action)| &**action).unwrap()
}

/// All policies that exist at that time, oldest first, with their usage.
pub fn policies(trail: &[TrailEntry], now: i64) -> Vec<Counted> {
    let mut found = Vec::new();
    for (born, entry) in trail.iter().enumerate().filter(|(_, entry)| entry.action == "policy.create") {
        let later = &trail[born + 1..];
        let about = |entry: &&TrailEntry| entry.resource == entry_id(&trail[born]);
        if later.iter().filter(about).any(|entry| entry.action == "policy.delete") {
            continue;
        }
        let newest = later.iter().filter(about).rfind(|entry| entry.action == "policy.update");
        let noted = &newest.unwrap_or(entry).noted;
        let mut policy = Counted {
            id: entry.resource.clone(),
            agent: entry.agent_id.clone(),
            owner: entry.user_id.clone(),
            limits: limits(&noted.limits),
            used: [0; 4],
            held: [0; 2],
            action: noted.action.clone(),
            disabled: noted.disabled,
            denied: last_denied(later, entry_id(entry)),
        };
        let day = count(trail, born, &policy, "month", day_of, now);
        let month = count(trail, born, &policy, "day", month_of, now);
        policy.used = [day.calls, month.calls, day.cost, month.cost];
        policy.held = [day.held, month.held];
        found.push(policy);
    }
    found
}

/// When the policy last denied a call, if it was not changed or reset since.
fn last_denied(later: &[TrailEntry], policy: &str) -> Option<i64> {
    let is_change = |entry: &&TrailEntry| entry.resource == policy && entry.action.starts_with("policy.");
    let denies = |entry: &&TrailEntry| entry.kind == "decision" && entry.policy_id.as_deref() == Some(policy);
    let last = later.iter().rfind(|entry| is_change(entry) || denies(entry))?;
    denies(&last).then_some(last.wall)
}

fn entry_id(created: &TrailEntry) -> &str {
    &created.resource
}

/// The usage in one window.
#[derive(Clone, Copy, Default)]
struct Used {
    start: i64,
    calls: u128,
    cost: u128,
    /// The part of the cost that is held.
    held: u128,
    /// The first entry that counts in it.
    since: usize,
}

impl Used {
    fn charge(&mut self, calls: u128, cost: u128) {
        (self.calls, self.cost) = (self.calls + calls, u128::from(u64::MAX).min(self.cost + cost));
    }

    /// Whether the decision at that place, in the window from `start`, counts in it.
    fn has(&self, place: usize, start: i64) -> bool {
        place >= self.since && start == self.start
    }
}

/// Where a hold stands.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldState {
    Open,
    /// At that cost, by the entry with that id.
    Settled(u128, String),
    /// By the entry with that id.
    Released(String),
    Expired,
}

/// The places of decisions whose holds have not ended by an entry, with their ends by time. Some may have passed.
pub fn open_holds(trail: &[TrailEntry]) -> Vec<(usize, i64)> {
    let mut open: Vec<(usize, i64)> = Vec::new();
    for (place, entry) in trail.iter().enumerate() {
        // Under a clock that was set back no hold lasts longer than a new one could.
        if place > 0 && entry.wall < trail[place - 1].wall {
            open.iter_mut().for_each(|(_, until)| *until = (*until).min(entry.wall + DAY));
        }
        open.retain(|(decision, _)| !entry.ends(&trail[*decision].id));
        match (&entry.r#ref, entry.until) {
            (Some(decision), Some(until)) => {
                open.iter_mut().filter(|(at, _)| trail[*at].id == *decision).for_each(|hold| hold.1 = until);
            }
            (None, Some(until)) => open.push((place, until)),
            (_, None) => {}
        }
    }
    open
}

/// What became of the hold of the decision at that place; `None` if it has none.
pub fn hold_state(trail: &[TrailEntry], place: usize, now: i64) -> Option<HoldState> {
    trail[place].until?;
    if let Some((_, until)) = open_holds(trail).into_iter().find(|(at, _)| *at == place) {
        return Some(if until > now { HoldState::Open } else { HoldState::Expired });
    }
    let end = trail.iter().find(|entry| entry.ends(&trail[place].id)).unwrap();
    Some(match &*end.noted.hold {
        "released" => HoldState::Released(end.id.clone()),
        "expired" => HoldState::Expired,
        _ => HoldState::Settled(end.cost, end.id.clone()),
    })
}

/// The window that the clock shows, and the one that it showed before.
struct Shown {
    now: Used,
    other: Option<Used>,
}

impl Shown {
    fn turn_to(&mut self, start: i64, place: usize) {
        let Self { now, other } = *self;
        if now.start == start {
            return;
        }
        let opened = match other {
            Some(known) if known.start == start => known,
            // Back to an unknown window: calls counted ahead of it may belong to it.
            Some(_) if start < now.start => Used { start, since: place, held: 0, ..now },
            _ => Used { start, since: place, ..Used::default() },
        };
        *self = Self { now: opened, other: Some(now) };
    }

    fn charge(&mut self, calls: u128, cost: u128) {
        self.now.charge(calls, cost);
        // If the clock goes back there, these calls were made there or before.
        if let Some(other) = self.other.as_mut().filter(|other| other.start < self.now.start) {
            other.charge(calls, cost);
        }
    }

    /// The hold of the decision at that place, in the window from `start`, is over.
    fn end_hold(&mut self, place: usize, start: i64, estimate: u128, actual: u128) {
        if self.now.has(place, start) {
            self.now.held = self.now.held.saturating_sub(estimate);
            self.now.cost = self.now.cost.saturating_sub(estimate.saturating_sub(actual));
        } else if let Some(other) = self.other.as_mut().filter(|other| other.has(place, start)) {
            other.held = other.held.saturating_sub(estimate);
        }
        self.charge(0, actual.saturating_sub(estimate));
    }
}

/// A policy's calls and cost in the window that the clock shows. `other` is the period of a reset that leaves this one
/// alone.
fn count(
    trail: &[TrailEntry],
    born: usize,
    policy: &Counted,
    other: &str,
    window_of: fn(i64) -> (i64, i64),
    now: i64,
) -> Used {
    let start_of = |wall: i64| window_of(wall).0;
    let mut shown =
        Shown { now: Used { start: start_of(trail[born].wall), since: born, ..Used::default() }, other: None };
    for (at, entry) in trail.iter().enumerate().skip(born + 1) {
        if entry.wall < trail[at - 1].wall {
            shown.turn_to(start_of(entry.wall), at);
        }
        let is_own = entry.action == "policy.reset" && entry.resource == policy.id;
        if is_own {
            shown.turn_to(start_of(entry.wall), at);
            if entry.noted.period != other {
                shown = Shown { now: Used { start: shown.now.start, since: at, ..Used::default() }, other: None };
            }
            continue;
        }
        let settled = entry.r#ref.as_ref().map(|id| trail.iter().position(|entry| entry.id == *id).unwrap());
        // A settlement belongs to the decision's owner, whoever owns the agent by now.
        let charged = settled.map_or(entry, |place| &trail[place]);
        let (Some(agent), Some(owner)) = (&charged.agent_id, &charged.user_id) else { continue };
        // The decision was never charged to a policy made later.
        if !policy.is_about(agent, owner) || settled.is_some_and(|place| place < born) {
            continue;
        }
        if entry.noted.hold == "extended" {
            continue;
        }
        let calls = match settled {
            None if entry.is_allowed_call() => 1,
            None if entry.kind == "usage" => entry.noted.calls,
            None => continue,
            Some(_) => 0,
        };
        shown.turn_to(start_of(entry.wall), at);
        let Some(place) = settled else {
            shown.charge(calls, entry.cost);
            if entry.until.is_some() {
                shown.now.held = u128::from(u64::MAX).min(shown.now.held + entry.cost);
            }
            continue;
        };
        if charged.until.is_some() {
            shown.end_hold(place, start_of(charged.wall), charged.cost, entry.cost);
            continue;
        }
        match entry.cost.checked_sub(charged.cost) {
            Some(more) => shown.charge(0, more),
            None if shown.now.has(place, start_of(charged.wall)) => {
                shown.now.cost = shown.now.cost.saturating_sub(charged.cost - entry.cost);
            }
            None => {}
        }
    }
    shown.turn_to(start_of(now), trail.len());
    // A hold is over when its time is, with or without an entry.
    for (place, _) in open_holds(trail).into_iter().filter(|(place, until)| *until <= now && *place > born) {
        let decision = &trail[place];
        let (agent, owner) = (decision.agent_id.as_deref().unwrap(), decision.user_id.as_deref().unwrap());
        if policy.is_about(agent, owner) {
            shown.end_hold(place, start_of(decision.wall), decision.cost, 0);
        }
    }
    shown.now
}

/// An exceeded policy, and its limit that takes longest to start anew.
#[derive(Debug)]
pub struct Said {
    pub policy: String,
    pub action: String,
    limit: &'static str,
    pub retry_after: i64,
}

impl Said {
    pub fn shown(&self) -> Value {
        json!([self.policy, self.limit, self.action, self.retry_after])
    }
}

/// The policy that denies a call, if one does, then all that warn.
pub fn verdict(policies: &[Counted], agent: &str, owner: &str, cost: u128, now: i64) -> Vec<Said> {
    let names = ["maxCallsPerDay", "maxCallsPerMonth", "maxTokensCostPerDay", "maxTokensCostPerMonth"];
    let seconds = |end: i64| (end - now + 999) / 1_000;
    let resets = [seconds(day_of(now).1), seconds(month_of(now).1)];
    let mut said = Vec::new();
    for policy in policies.iter().filter(|policy| !policy.disabled && policy.is_about(agent, owner)) {
        let mut exceeded: Vec<(i64, usize)> = Vec::new();
        for at in 0..4 {
            let (used, asked) = (policy.used[at], if at < 2 { 1 } else { cost });
            if policy.limits[at].is_some_and(|max| used >= max || used + asked > max) {
                exceeded.push((resets[at % 2], at));
            }
        }
        // The longest wait; of equals the first.
        let longest = exceeded.iter().map(|(reset, _)| *reset).max();
        let Some((retry_after, at)) = exceeded.into_iter().find(|(reset, _)| Some(*reset) == longest) else { continue };
        let (policy, action) = (policy.id.clone(), policy.action.clone());
        said.push(Said { policy, action, limit: names[at], retry_after });
    }
    let severity = |said: &Said| ["warn", "throttle", "block", "revoke"].iter().position(|name| *name == said.action);
    let (warnings, mut denials): (Vec<_>, Vec<_>) = said.into_iter().partition(|said| said.action == "warn");
    let worst = denials.iter().map(severity).max();
    let denial = denials.iter().position(|said| Some(severity(said)) == worst).map(|at| denials.swap_remove(at));
    denial.into_iter().chain(warnings).collect()
}
