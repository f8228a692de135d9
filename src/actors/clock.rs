//! The server's clock: the system's, checked against a clock that nobody sets.
//!
//! A jump ahead would open time windows and begin new budget days at once. So we hold back a jump too far for any
//! correction (`FAR_MS`): time goes on by the clock that counts since the machine started, until the jump has been
//! steady for `STEADY_MS`. Meanwhile a call must be allowed at both times, and things expire by the later one, so
//! nothing is granted that either clock denies. An honest jump, such as after the machine was paused, costs its callers
//! that much.
//!
//! We follow a step back at once: what it takes back (`domain::moment`) is what a clock that was ahead had opened.
//!
//! At a start we can't tell a wrong clock from a long stop, so we believe the clock and log what is odd about it. What
//! can't be undone waits: files past the retention are removed only once the clock has been steady for `REMOVAL_MS`
//! after a jump, or after a start more than `LONG_STOP_MS` after the newest event.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use crate::domain::Timestamp;
use crate::domain::limits::MAX_STANDSTILL_MS;
use crate::domain::time::DAY_MS;

const HOUR_MS: i64 = 60 * 60 * 1_000;
/// The jump ahead from which on we hold it back: a wrong time zone is that far, and no correction is.
const FAR_MS: i64 = HOUR_MS;
/// How long a far jump must be steady before we believe it: longer than time services take to correct a clock.
const STEADY_MS: i64 = 10 * 60 * 1_000;
/// How much the clock may vary after the jump and still count as steady.
const VARIES_MS: i64 = 60 * 1_000;
/// How long files stay that are past the retention only by a clock that jumped: time for somebody to notice.
const REMOVAL_MS: i64 = DAY_MS;
/// A start this long after the newest event is odd: it is longer than the rest of an archive opened once a year.
const LONG_STOP_MS: i64 = 400 * DAY_MS;
/// Time between two looks at the other clock. In between, a reading costs no more than the system's clock.
const STRIDE_MS: i64 = 1_000;
/// No reading is within a stride of this.
const NEVER: i64 = i64::MIN;

/// A reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The time.
    pub now: Timestamp,
    /// What the system's clock says, if we hold that back.
    pub doubted: Option<Timestamp>,
}

impl Reading {
    /// The later of both: what has expired by one of them has expired.
    pub fn latest(self) -> Timestamp {
        self.doubted.map_or(self.now, |doubted| doubted.max(self.now))
    }
}

/// What the server makes of the system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// We believe it.
    Ok,
    /// It jumped far ahead, and we don't believe it yet: calls must be allowed at both times.
    HeldBack,
    /// We believe it, but it is behind events recorded while it was ahead.
    Behind,
}

/// How a clock jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JumpKind {
    /// Too far ahead to believe yet.
    HeldBack,
    /// Ahead, and believed.
    Ahead,
    /// Back.
    Back,
    /// From held back to where it was.
    Returned,
}

/// A jump that we hold back.
#[derive(Clone, Copy, Debug)]
struct HeldJump {
    /// The system's clock minus the other one.
    offset: i64,
    /// When it began, by the other clock.
    since: i64,
}

/// Checks the system's clock against the other one. All in milliseconds.
#[derive(Debug)]
struct Guard {
    /// The believed clock minus the other one.
    offset: i64,
    pending: Option<HeldJump>,
    /// When files may be removed, by the other clock.
    removal_from: i64,
    /// What tests add to the system's clock.
    shift: i64,
}

impl Guard {
    fn new(system: i64, other: i64) -> Self {
        Self { offset: system - other, pending: None, removal_from: NEVER, shift: 0 }
    }

    /// The reading, a jump if there was one, and how far the clock was from its expected time.
    fn read(&mut self, system: i64, other: i64) -> (Reading, Option<JumpKind>, i64) {
        let expected = other + self.offset;
        let ahead = system - expected;
        if ahead <= FAR_MS {
            let returned = self.pending.take().is_some();
            self.offset = system - other;
            let noted = match ahead {
                _ if ahead > MAX_STANDSTILL_MS => Some(JumpKind::Ahead),
                _ if ahead < -MAX_STANDSTILL_MS => Some(JumpKind::Back),
                _ => returned.then_some(JumpKind::Returned),
            };
            return (Reading { now: Timestamp::from_millis(system), doubted: None }, noted, ahead);
        }
        let offset = system - other;
        let known = self.pending.filter(|pending| (offset - pending.offset).abs() <= VARIES_MS);
        let pending = known.unwrap_or(HeldJump { offset, since: other });
        if other - pending.since >= STEADY_MS {
            (self.offset, self.pending, self.removal_from) = (offset, None, other + REMOVAL_MS);
            return (Reading { now: Timestamp::from_millis(system), doubted: None }, Some(JumpKind::Ahead), ahead);
        }
        self.pending = Some(pending);
        let reading = Reading { now: Timestamp::from_millis(expected), doubted: Some(Timestamp::from_millis(system)) };
        (reading, known.is_none().then_some(JumpKind::HeldBack), ahead)
    }
}

/// The clock of a process.
#[derive(Debug)]
pub struct Clock {
    /// The last reading checked against the other clock; [`NEVER`] if each must be.
    last: AtomicI64,
    guard: Mutex<Guard>,
    /// The latest time of an event that is recorded, or is about to be.
    latest: AtomicI64,
    ahead: AtomicU64,
    back: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        let guard = Mutex::new(Guard::new(system_millis(), other_millis()));
        let (last, latest) = (AtomicI64::new(NEVER), AtomicI64::new(0));
        Self { last, guard, latest, ahead: AtomicU64::new(0), back: AtomicU64::new(0) }
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.read().now
    }

    /// The time now, and the system's time if that is held back.
    pub fn read(&self) -> Reading {
        let system = system_millis();
        let last = self.last.load(Ordering::Relaxed);
        // For each thread its reading follows some check; which one does not matter.
        if system >= last && system.saturating_sub(last) < STRIDE_MS {
            return Reading { now: Timestamp::from_millis(system), doubted: None };
        }
        self.look_closely()
    }

    fn lock(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn look_closely(&self) -> Reading {
        let mut guard = self.lock();
        let (system, other) = (system_millis() + guard.shift, other_millis());
        let (reading, noted, ahead) = guard.read(system, other);
        let fast = reading.doubted.is_none() && guard.shift == 0;
        self.last.store(if fast { system } else { NEVER }, Ordering::Relaxed);
        drop(guard);
        if let Some(noted) = noted {
            self.note(noted, ahead, reading);
        }
        reading
    }

    fn note(&self, noted: JumpKind, ahead: i64, reading: Reading) {
        let (seconds, now) = (ahead.abs() / 1_000, reading.now);
        match noted {
            JumpKind::HeldBack => warn!(
                seconds,
                %now,
                "the system's clock jumped ahead; it is not believed before it has been steady for {} minutes, and until \
                 then a call is allowed only where it is by both times",
                STEADY_MS / 60_000
            ),
            JumpKind::Ahead => {
                self.ahead.fetch_add(1, Ordering::Relaxed);
                warn!(seconds, %now, "the system's clock jumped ahead");
            }
            JumpKind::Back => {
                self.back.fetch_add(1, Ordering::Relaxed);
                self.recorded(now.plus_millis(-ahead));
                warn!(
                    seconds,
                    %now,
                    "the system's clock was set back; time windows, expiry and budgets follow it, and new events keep the \
                     latest time there was until it is past"
                );
            }
            JumpKind::Returned => info!(%now, "the system's clock is back at the expected time"),
        }
    }

    /// Notes the time of a tenant's last event.
    pub fn recorded(&self, at: Timestamp) {
        self.latest.fetch_max(at.millis(), Ordering::Relaxed);
    }

    /// Checks the clock against the newest event, after all tenants are loaded.
    pub fn check_start(&self) {
        let (now, latest) = (self.now(), self.latest.load(Ordering::Relaxed));
        let newest = Timestamp::from_millis(latest);
        if latest > 0 && now.millis() - latest > LONG_STOP_MS {
            let mut guard = self.lock();
            guard.removal_from = other_millis() + REMOVAL_MS;
            warn!(%now, %newest, "the system's clock is more than a year ahead of the newest event: see that it is right");
        }
        if self.behind_events() > 0.0 {
            warn!(
                %now,
                %newest,
                "the system's clock is behind the newest event: it is wrong, or it was; time windows, expiry and budgets \
                 follow it, and new events of that tenant keep the latest time there was until it is past"
            );
        }
    }

    /// Whether files past the retention may be removed for good.
    pub fn may_remove(&self) -> bool {
        let doubted = self.read().doubted.is_some();
        !doubted && other_millis() >= self.lock().removal_from
    }

    /// Seconds by which the system's clock is ahead and held back.
    pub fn held_back(&self) -> f64 {
        let Reading { now, doubted } = self.read();
        doubted.map_or(0.0, |doubted| (doubted.millis() - now.millis()) as f64 / 1e3)
    }

    /// Seconds by which the clock is behind the newest event, if that is more than is waited out.
    pub fn behind_events(&self) -> f64 {
        let behind = self.latest.load(Ordering::Relaxed).saturating_sub(self.now().millis());
        if behind > MAX_STANDSTILL_MS { behind as f64 / 1e3 } else { 0.0 }
    }

    /// How often it jumped ahead and was believed, and how often it was set back.
    pub fn jumps(&self) -> [u64; 2] {
        [&self.ahead, &self.back].map(|count| count.load(Ordering::Relaxed))
    }

    /// Adds that many milliseconds to the system's clock, so that tests can make it jump.
    #[cfg(feature = "test-hooks")]
    pub fn step(&self, millis: i64) {
        self.lock().shift += millis;
        self.last.store(NEVER, Ordering::Relaxed);
    }
}

/// Milliseconds since the epoch, by the system's clock.
fn system_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the machine started, sleep included. Nobody sets this clock.
fn other_millis() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_767_960_000_000;
    const YEARS: i64 = 64 * 365 * DAY_MS;

    fn reading(now: i64) -> Reading {
        Reading { now: Timestamp::from_millis(now), doubted: None }
    }

    fn held(now: i64, doubted: i64) -> Reading {
        Reading { doubted: Some(Timestamp::from_millis(doubted)), ..reading(now) }
    }

    #[test]
    fn a_far_jump_ahead_is_held_back_until_it_was_steady() {
        let mut guard = Guard::new(START, 0);
        let later = |seconds: i64| (START + seconds * 1_000, seconds * 1_000);
        let (time, other) = later(5);
        assert_eq!(guard.read(time, other), (reading(time), None, 0));
        for seconds in [6, 7, 60, 605] {
            let (time, other) = later(seconds);
            let noted = (seconds == 6).then_some(JumpKind::HeldBack);
            assert_eq!(guard.read(time + YEARS, other), (held(time, time + YEARS), noted, YEARS));
        }
        let (time, other) = later(606);
        assert_eq!(guard.read(time + YEARS, other), (reading(time + YEARS), Some(JumpKind::Ahead), YEARS));
        assert_eq!(guard.removal_from, other + REMOVAL_MS);
        // Back again: at once.
        let (time, other) = later(607);
        assert_eq!(guard.read(time, other), (reading(time), Some(JumpKind::Back), -YEARS));
    }

    #[test]
    fn a_jump_that_is_taken_back_or_drifts_is_never_believed() {
        let mut guard = Guard::new(START, 0);
        assert_eq!(guard.read(START + YEARS, 0).1, Some(JumpKind::HeldBack));
        assert_eq!(guard.read(START + 1_000, 1_000), (reading(START + 1_000), Some(JumpKind::Returned), 0));
        for minute in 0..60 {
            let (other, ahead) = (minute * 60_000 + 2_000, YEARS + minute * 2 * VARIES_MS);
            assert_eq!(guard.read(START + other + ahead, other).0, held(START + other, START + other + ahead));
        }
    }

    #[test]
    fn a_correction_is_followed_at_once() {
        let mut guard = Guard::new(START, 0);
        let mut time = START;
        for (step, noted) in [
            (200, None),
            (-200, None),
            (MAX_STANDSTILL_MS, None),
            (MAX_STANDSTILL_MS + 1, Some(JumpKind::Ahead)),
            (FAR_MS, Some(JumpKind::Ahead)),
            (-MAX_STANDSTILL_MS - 1, Some(JumpKind::Back)),
            (-YEARS / 4, Some(JumpKind::Back)),
        ] {
            time += step;
            assert_eq!(guard.read(time, 0), (reading(time), noted, step));
        }
    }

    proptest! {
        /// However the clock steps, it never shows a time further ahead than its jumps allow unless that time was
        /// steady.
        #[test]
        fn time_goes_ahead_by_no_more_than_the_other_clock_allows(
            steps in prop::collection::vec((0i64..300_000, prop::option::weighted(0.4, -2 * YEARS..2 * YEARS)), 1..60),
        ) {
            let (mut guard, mut other, mut shift) = (Guard::new(START, 0), 0, 0);
            let (mut believed, mut stable_since) = (START, 0);
            for (passes, jump) in steps {
                other += passes;
                if let Some(jump) = jump {
                    (shift, stable_since) = (jump, other);
                }
                let system = START.saturating_add(other).saturating_add(shift);
                let (Reading { now, doubted }, ..) = guard.read(system, other);
                let ahead = now.millis() - (believed + passes);
                prop_assert!(ahead <= FAR_MS || other - stable_since >= STEADY_MS, "{ahead}");
                prop_assert_eq!(doubted.unwrap_or(now), Timestamp::from_millis(system));
                believed = now.millis();
            }
        }
    }
}
