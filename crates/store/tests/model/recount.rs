//! Budgets, recounted from the audit trail and nothing else, by the words of the design. Costs come from the digits of
//! the JSON, and the calendar is computed from the number of days, not by the server's library. Of a time zone only its
//! clock is asked; where its dates begin is found by looking at every minute.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
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
    labels: Option<BTreeMap<String, String>>,
    resource: Option<String>,
    actions: Option<Vec<String>>,
    time_zone: Option<String>,
    week_starts_on: Option<String>,
    month_starts_on: Option<i64>,
    temporary: Option<NotedTemporary>,
}

/// Limits by name; `null` is none.
type NotedLimits = BTreeMap<String, Option<Box<RawValue>>>;

#[derive(Debug, Deserialize)]
struct NotedTemporary {
    limits: NotedLimits,
    until: String,
}

impl NotedTemporary {
    fn until(&self) -> i64 {
        millis(&self.until)
    }
}

/// The limits in the order in which they are checked: the name, whether it is of calls, and the span.
pub const LIMITS: [(&str, bool, &str); 10] = [
    ("maxCallsPerDay", true, "day"),
    ("maxCallsPerMonth", true, "month"),
    ("maxTokensCostPerDay", false, "day"),
    ("maxTokensCostPerMonth", false, "month"),
    ("maxCallsPerHour", true, "hour"),
    ("maxCallsPerWeek", true, "week"),
    ("maxCallsTotal", true, "total"),
    ("maxTokensCostPerHour", false, "hour"),
    ("maxTokensCostPerWeek", false, "week"),
    ("maxTokensCostTotal", false, "total"),
];

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

    /// The entry of a call that is still to be decided.
    pub fn pending(agent: &str, owner: &str, action: &str, resource: &str, cost: u128) -> Self {
        let (agent_id, user_id) = (Some(agent.to_owned()), Some(owner.to_owned()));
        let (action, resource) = (action.to_owned(), resource.to_owned());
        Self { kind: "decision".to_owned(), agent_id, user_id, action, resource, cost, ..Self::default() }
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

/// A policy's calendar.
#[derive(Clone, PartialEq)]
struct Calendar {
    zone: Option<Tz>,
    /// From 0 for Monday.
    week: i64,
    month: i64,
}

thread_local! {
    /// First moments of dates.
    static FIRST: RefCell<HashMap<(Tz, i64), i64>> = RefCell::default();
}

impl Calendar {
    fn of(noted: &Parameters) -> Self {
        let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        let week = noted.week_starts_on.as_ref().map_or(0, |day| days.iter().position(|known| known == day).unwrap());
        let zone = noted.time_zone.as_ref().filter(|zone| *zone != "UTC").map(|zone| zone.parse().unwrap());
        Self { zone, week: week as i64, month: noted.month_starts_on.unwrap_or(1) }
    }

    /// Minutes by which the clock is ahead of UTC.
    fn ahead(&self, at: i64) -> i64 {
        let time = DateTime::from_timestamp_millis(at).unwrap().naive_utc();
        self.zone.map_or(0, |zone| i64::from(zone.offset_from_utc_datetime(&time).fix().local_minus_utc()) / 60)
    }

    /// The first moment of a date, in days since 1970.
    fn first(&self, date: i64) -> i64 {
        let Some(zone) = self.zone else { return date * DAY };
        if let Some(known) = FIRST.with_borrow(|known| known.get(&(zone, date)).copied()) {
            return known;
        }
        let mut at = date * DAY - 16 * 3_600_000;
        while at + self.ahead(at) * 60_000 < date * DAY {
            at += 60_000;
        }
        FIRST.with_borrow_mut(|known| known.insert((zone, date), at));
        at
    }

    /// The date that has begun last.
    fn date(&self, at: i64) -> i64 {
        (at / DAY - 2..at / DAY + 3).rev().find(|date| self.first(*date) <= at).unwrap()
    }

    /// First moment of the window, and of the next one.
    fn window(&self, span: &str, at: i64) -> (i64, i64) {
        let date = self.date(at);
        let days = |start: i64, end: i64| (self.first(start), self.first(end));
        match span {
            "hour" => {
                let (ahead, hour) = (self.ahead(at), 60);
                let minute = at.div_euclid(60_000);
                let shown = |minute: i64| (minute + ahead).div_euclid(hour);
                let same = |other: i64| self.ahead(other * 60_000) == ahead && shown(other) == shown(minute);
                let start = (0..=hour).map(|back| minute - back).take_while(|other| same(*other)).last().unwrap();
                let last = (0..=hour).map(|on| minute + on).take_while(|other| same(*other)).last().unwrap();
                (start * 60_000, (last + 1) * 60_000)
            }
            "day" => days(date, date + 1),
            "week" => {
                // 1970 began on a Thursday.
                let start = (date - 6..=date).find(|day| (day + 3 - self.week).rem_euclid(7) == 0).unwrap();
                days(start, start + 7)
            }
            "month" => {
                let starts: Vec<_> = (date - 32..=date + 32).filter(|day| day_of_month(*day) == self.month).collect();
                let at = starts.iter().rposition(|start| *start <= date).unwrap();
                days(starts[at], starts[at + 1])
            }
            _ => (0, i64::MAX),
        }
    }
}

/// The day of the month of a date, in days since 1970.
fn day_of_month(date: i64) -> i64 {
    let (mut year, mut left) = (1970, date);
    while left < 0 {
        year -= 1;
        left += 365 + i64::from(is_leap(year));
    }
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    left + 1
}

/// A policy, as the trail shows it.
#[derive(Debug)]
pub struct Counted {
    /// The place of its creation in the trail.
    born: usize,
    id: String,
    /// Those that hold now, in the order of [`LIMITS`].
    limits: [Option<u128>; 10],
    /// `None` if it is not counted.
    used: [Option<u128>; 10],
    /// What is held of the cost of the day, the month, the hour, the week and all time.
    held: [Option<u128>; 5],
    /// When each window ends.
    ends: [i64; 10],
    /// Until when other limits hold, if they do, and which hold then.
    later: Option<(i64, [Option<u128>; 10])>,
    action: String,
    disabled: bool,
    /// When it last denied a call, since it was last changed or reset.
    denied: Option<i64>,
}

impl Counted {
    fn status(&self) -> &'static str {
        let used_up = (0..10).any(|at| self.limits[at].is_some_and(|max| self.used[at].unwrap() >= max));
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
            "used": self.used.map(|used| used.map(|used| used.to_string())),
            "held": self.held.map(|held| held.map(|held| held.to_string())),
            "lastDenied": self.denied,
        })
    }
}

fn limit(noted: &NotedLimits, name: &str, is_calls: bool) -> Option<u128> {
    let number = noted.get(name)?.as_ref()?.get();
    Some(if is_calls { number.parse().unwrap() } else { millionths(number) })
}

/// The limits that hold at that time.
fn limits_at(noted: &Parameters, now: i64) -> [Option<u128>; 10] {
    let temporary = noted.temporary.as_ref().filter(|temporary| now < temporary.until());
    LIMITS.map(|(name, is_calls, _)| match temporary {
        Some(temporary) if temporary.limits.contains_key(name) => limit(&temporary.limits, name, is_calls),
        _ => limit(&noted.limits, name, is_calls),
    })
}

/// Whether a policy counts that span.
fn counts(noted: &Parameters, span: &str) -> bool {
    let more = noted.temporary.as_ref();
    ["day", "month"].contains(&span)
        || LIMITS.iter().filter(|(_, _, of)| *of == span).any(|(name, is_calls, _)| {
            limit(&noted.limits, name, *is_calls).is_some()
                || more.is_some_and(|more| limit(&more.limits, name, *is_calls).is_some())
        })
}

/// Whether the policy that was made at `born` charges the call at `place`, by what was known then.
fn charges(trail: &[TrailEntry], born: usize, call: &TrailEntry, place: usize) -> bool {
    let policy = &trail[born];
    let (Some(agent), Some(owner)) = (&call.agent_id, &call.user_id) else { return false };
    let known = |id: &str, kind: [&str; 2]| {
        let about = |entry: &&TrailEntry| entry.resource == id && kind.contains(&&*entry.action);
        trail[..place].iter().rev().find(about)
    };
    let scope = &known(&policy.resource, ["policy.create", "policy.update"]).unwrap().noted;
    let labels = known(agent, ["agent.create", "agent.update"]).and_then(|entry| entry.noted.labels.as_ref());
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    let is_call = call.kind == "decision";
    policy.agent_id.as_ref().is_none_or(|own| own == agent)
        && policy.user_id.as_ref().is_none_or(|own| own == owner)
        && scope.labels.iter().flatten().all(has)
        && scope.actions.as_ref().is_none_or(|actions| is_call && actions.contains(&call.action))
        && scope.resource.as_ref().is_none_or(|pattern| is_call && matches(pattern, &call.resource))
}

/// Whether the pattern matches the resource.
fn matches(pattern: &str, resource: &str) -> bool {
    let (first, rest) = pattern.split_once(':').unwrap_or((pattern, ""));
    let (segment, others) = resource.split_once(':').unwrap_or((resource, ""));
    let fits = first == segment || first == "*" && !segment.is_empty();
    match (pattern.contains(':'), resource.contains(':')) {
        (false, _) if first == "*" => fits,
        (false, false) => fits,
        (true, true) => fits && matches(rest, others),
        _ => false,
    }
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
        let spans = ["hour", "day", "week", "month", "total"];
        let counted = spans.map(|span| (span, counts(noted, span).then(|| count(trail, born, span, now))));
        let of = |span: &str| counted.iter().find(|(of, _)| *of == span).unwrap().1;
        let until = noted.temporary.as_ref().map(NotedTemporary::until).filter(|until| now < *until);
        found.push(Counted {
            born,
            id: entry.resource.clone(),
            limits: limits_at(noted, now),
            used: LIMITS.map(|(_, is_calls, span)| of(span).map(|used| if is_calls { used.calls } else { used.cost })),
            held: ["day", "month", "hour", "week", "total"].map(|span| of(span).map(|used| used.held)),
            ends: LIMITS.map(|(_, _, span)| of(span).map_or(i64::MAX, |used| used.end)),
            later: until.map(|until| (until, limits_at(noted, until))),
            action: noted.action.clone(),
            disabled: noted.disabled,
            denied: last_denied(later, entry_id(entry)),
        });
    }
    found
}

/// When the policy last denied a call, if it was not changed or reset since.
fn last_denied(later: &[TrailEntry], policy: &str) -> Option<i64> {
    let is_change = |entry: &&TrailEntry| {
        entry.action == "policy.reset_all" || entry.resource == policy && entry.action.starts_with("policy.")
    };
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
    end: i64,
    calls: u128,
    cost: u128,
    /// The part of the cost that is held.
    held: u128,
    /// The first entry that counts in it.
    since: usize,
}

impl Used {
    fn of((start, end): (i64, i64), since: usize) -> Self {
        Self { start, end, since, ..Self::default() }
    }

    fn charge(&mut self, calls: u128, cost: u128) {
        (self.calls, self.cost) = (self.calls + calls, u128::from(u64::MAX).min(self.cost + cost));
    }

    fn has(&self, at: i64) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether the decision at that place counts in it.
    fn counts(&self, trail: &[TrailEntry], place: usize) -> bool {
        place >= self.since && self.has(trail[place].wall)
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
    /// Goes to the window with these bounds, with the clock at `at`.
    fn turn_to(&mut self, bounds: (i64, i64), at: i64, place: usize) {
        let Self { now, other } = *self;
        let (start, end) = bounds;
        let goes_on = |used: Used| Used { start: start.min(used.start), end, ..used };
        if now.has(at) {
            self.now = goes_on(now);
            return;
        }
        let opened = match other {
            Some(known) if known.has(at) => goes_on(known),
            // After another calendar: no moment is counted twice.
            _ if start < now.end && now.start < end => {
                self.now = goes_on(now);
                return;
            }
            // Back to an unknown window: calls counted ahead of it may belong to it.
            Some(_) if start < now.start => Used { start, end, since: place, held: 0, ..now },
            _ => Used::of(bounds, place),
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

    /// The hold of the decision at that place is over.
    fn end_hold(&mut self, trail: &[TrailEntry], place: usize, actual: u128) {
        let estimate = trail[place].cost;
        if self.now.counts(trail, place) {
            self.now.held = self.now.held.saturating_sub(estimate);
            self.now.cost = self.now.cost.saturating_sub(estimate.saturating_sub(actual));
        } else if let Some(other) = self.other.as_mut().filter(|other| other.counts(trail, place)) {
            other.held = other.held.saturating_sub(estimate);
        }
        self.charge(0, actual.saturating_sub(estimate));
    }
}

/// A policy's calls and cost in the window of that span that the clock shows.
fn count(trail: &[TrailEntry], born: usize, span: &str, now: i64) -> Used {
    let policy = &trail[born].resource;
    let mut calendar = Calendar::of(&trail[born].noted);
    let mut is_counted = counts(&trail[born].noted, span);
    let fresh = |calendar: &Calendar, at: usize| Shown {
        now: Used::of(calendar.window(span, trail[at].wall), at),
        other: None,
    };
    let mut shown = fresh(&calendar, born);
    for (at, entry) in trail.iter().enumerate().skip(born + 1) {
        // The open window's bounds hold until it is over.
        let turn = |shown: &mut Shown, calendar: &Calendar| {
            if !shown.now.has(entry.wall) {
                shown.turn_to(calendar.window(span, entry.wall), entry.wall, at);
            }
        };
        let is_update = entry.action == "policy.update" && entry.resource == *policy;
        // A new calendar goes on from the windows as they are.
        if entry.wall < trail[at - 1].wall && !(is_update && Calendar::of(&entry.noted) != calendar) {
            turn(&mut shown, &calendar);
        }
        if is_update {
            let (new, counts) = (Calendar::of(&entry.noted), counts(&entry.noted, span));
            if new != calendar {
                shown.turn_to(new.window(span, entry.wall), entry.wall, at);
            }
            calendar = new;
            if counts && !is_counted {
                shown = fresh(&calendar, at);
            }
            is_counted = counts;
            continue;
        }
        if entry.action == "policy.reset" && entry.resource == *policy || entry.action == "policy.reset_all" {
            turn(&mut shown, &calendar);
            if [span, "all"].contains(&&*entry.noted.period) {
                shown = Shown { now: Used::of((shown.now.start, shown.now.end), at), other: None };
            }
            continue;
        }
        if entry.noted.hold == "extended" {
            continue;
        }
        let settled = entry.r#ref.as_ref().map(|id| trail.iter().position(|entry| entry.id == *id).unwrap());
        // A settlement belongs to the decision's owner and policies, whatever has changed by now.
        let place = settled.unwrap_or(at);
        let charged = &trail[place];
        let calls = match settled {
            None if entry.is_allowed_call() => 1,
            None if entry.kind == "usage" => entry.noted.calls,
            None => continue,
            Some(_) => 0,
        };
        // The decision was never charged to a policy made later.
        if place < born || !charges(trail, born, charged, place) {
            continue;
        }
        turn(&mut shown, &calendar);
        if settled.is_none() {
            shown.charge(calls, entry.cost);
            if entry.until.is_some() {
                shown.now.held = u128::from(u64::MAX).min(shown.now.held + entry.cost);
            }
            continue;
        }
        if charged.until.is_some() {
            shown.end_hold(trail, place, entry.cost);
            continue;
        }
        match entry.cost.checked_sub(charged.cost) {
            Some(more) => shown.charge(0, more),
            None if shown.now.counts(trail, place) => {
                shown.now.cost = shown.now.cost.saturating_sub(charged.cost - entry.cost);
            }
            None => {}
        }
    }
    if !shown.now.has(now) {
        shown.turn_to(calendar.window(span, now), now, trail.len());
    }
    // A hold is over when its time is, with or without an entry.
    for (place, _) in open_holds(trail).into_iter().filter(|(place, until)| *until <= now && *place > born) {
        if charges(trail, born, &trail[place], place) {
            shown.end_hold(trail, place, 0);
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
    /// Seconds; `None` is never.
    pub retry_after: Option<i64>,
}

impl Said {
    pub fn shown(&self) -> Value {
        json!([self.policy, self.limit, self.action, self.retry_after])
    }
}

/// The policy that denies a call that is not in the trail yet, if one does, then all that warn. `call` is its entry.
pub fn verdict(trail: &[TrailEntry], policies: &[Counted], call: &TrailEntry, now: i64) -> Vec<Said> {
    let (cost, place) = (call.cost, trail.len());
    let mut said = Vec::new();
    for policy in policies.iter().filter(|policy| !policy.disabled && charges(trail, policy.born, call, place)) {
        let mut exceeded: Vec<(i64, usize)> = Vec::new();
        for at in 0..10 {
            let asked = if LIMITS[at].1 { 1 } else { cost };
            let is_over = |max: u128| {
                let used = policy.used[at].unwrap();
                used >= max || used + asked > max
            };
            if policy.limits[at].is_some_and(is_over) {
                // A temporary limit may be in the way only until it ends.
                let lifted = policy.later.filter(|(_, later)| !later[at].is_some_and(is_over)).map(|(until, _)| until);
                exceeded.push((lifted.into_iter().chain([policy.ends[at]]).min().unwrap(), at));
            }
        }
        // The longest wait; of equals the first.
        let longest = exceeded.iter().map(|(end, _)| *end).max();
        let Some((end, at)) = exceeded.into_iter().find(|(end, _)| Some(*end) == longest) else { continue };
        let retry_after = (end < i64::MAX).then(|| (end - now + 999) / 1_000);
        let (policy, action) = (policy.id.clone(), policy.action.clone());
        said.push(Said { policy, action, limit: LIMITS[at].0, retry_after });
    }
    let severity = |said: &Said| ["warn", "throttle", "block", "revoke"].iter().position(|name| *name == said.action);
    let (warnings, mut denials): (Vec<_>, Vec<_>) = said.into_iter().partition(|said| said.action == "warn");
    let worst = denials.iter().map(severity).max();
    let denial = denials.iter().position(|said| Some(severity(said)) == worst).map(|at| denials.swap_remove(at));
    denial.into_iter().chain(warnings).collect()
}
