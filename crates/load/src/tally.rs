//! The counts of a run.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;
use hdrhistogram::errors::CreationError;
use memchr::memmem::Finder;

/// The longest latency that is recorded exactly, in nanoseconds: a day, which no run takes.
const MAX_LATENCY: u64 = 24 * 60 * 60 * 1_000_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// Most different codes or errors that are counted separately; a server may send any number.
const MAX_KINDS: usize = 256;
/// Longest text that counts as a code, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// Answers with a status of success, and the decisions in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered with a status of success.
    pub requests: u64,
    /// Decisions that say yes.
    pub allowed: u64,
    /// Decisions that say no.
    pub denied: u64,
    /// Requests with another status, or without an answer.
    pub errors: u64,
}

/// Why a request had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection could be opened for it.
    Connect,
    /// Its connection was closed or broke.
    Closed,
    /// The bytes received were not an HTTP answer.
    Malformed,
    /// No answer came by the end of the run and its grace period, or no connection was ever free.
    Timeout,
}

impl NoAnswer {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
        }
    }
}

/// Numbers by name, for a few names.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Vec<(Box<str>, u64)>);

impl Kinds {
    fn add(&mut self, name: &str) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| **known == *name) {
            *count += 1;
        } else if self.0.len() < MAX_KINDS {
            self.0.push((name.into(), 1));
        } else if let Some((_, count)) = self.0.last_mut() {
            *count += 1;
        }
    }

    /// The numbers in the order of their names.
    pub fn sorted(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(name, count)| (name.to_string(), *count)).collect()
    }
}

/// The counts of a run. A request is part of the result if it was due within the window.
pub struct RunTally {
    /// Start and end of what counts, in nanoseconds since the run began.
    pub window: Range<u64>,
    /// Nanoseconds from when a request was due to its answer with a status of success, or to when it was given up.
    pub latency: Histogram<u64>,
    /// The requests that were due within the window.
    pub counted: Counts,
    /// All requests, from the first to the last.
    pub total: Counts,
    /// The denied decisions of the window by code.
    pub denials: Kinds,
    /// The requests of the window that were not answered with a status of success, by status and code or by kind.
    pub errors: Kinds,
    /// Bytes sent since the run began.
    pub bytes_sent: u64,
    /// Bytes received since the run began.
    pub bytes_received: u64,
    allowed_member: Finder<'static>,
    code_member: Finder<'static>,
}

impl RunTally {
    /// Empty counts.
    ///
    /// # Errors
    /// None: the bounds of the latencies are constants.
    pub fn new(window: Range<u64>) -> Result<Self, CreationError> {
        Ok(Self {
            window,
            latency: Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS)?,
            counted: Counts::default(),
            total: Counts::default(),
            denials: Kinds::default(),
            errors: Kinds::default(),
            bytes_sent: 0,
            bytes_received: 0,
            allowed_member: Finder::new(b"\"allowed\":"),
            code_member: Finder::new(b"\"code\":\""),
        })
    }

    /// Counts the answer to a request that was due at `due`.
    pub fn answered(&mut self, due: u64, now: u64, status: u16, body: &[u8]) {
        let counts = self.window.contains(&due);
        if !(200..300).contains(&status) {
            self.total.errors += 1;
            if counts {
                self.counted.errors += 1;
                let code = codes(&self.code_member, body).next();
                self.errors.add(&code.map_or_else(|| status.to_string(), |code| format!("{status} {code}")));
            }
            return;
        }
        // A quote within a JSON string is escaped, so these can only be members.
        let (mut allowed, mut denied) = (0, 0);
        for at in self.allowed_member.find_iter(body) {
            match body.get(at + self.allowed_member.needle().len()) {
                Some(b't') => allowed += 1,
                Some(b'f') => denied += 1,
                _ => {}
            }
        }
        self.total.add(allowed, denied);
        if !counts {
            return;
        }
        self.counted.add(allowed, denied);
        self.latency.saturating_record(now.saturating_sub(due));
        if denied > 0 {
            for code in codes(&self.code_member, body) {
                self.denials.add(code);
            }
        }
    }

    /// Counts a request that was due at `due` and got no answer. If it was given up, it waited at least until now.
    pub fn failed(&mut self, due: u64, now: u64, failure: NoAnswer) {
        self.total.errors += 1;
        if self.window.contains(&due) {
            self.counted.errors += 1;
            self.errors.add(failure.name());
            if failure == NoAnswer::Timeout {
                self.latency.saturating_record(now.saturating_sub(due));
            }
        }
    }
}

impl Counts {
    fn add(&mut self, allowed: u64, denied: u64) {
        self.requests += 1;
        self.allowed += allowed;
        self.denied += denied;
    }
}

/// The codes that a body names.
fn codes<'a>(member: &'a Finder<'_>, body: &'a [u8]) -> impl Iterator<Item = &'a str> {
    member.find_iter(body).filter_map(|at| {
        let rest = body.get(at + member.needle().len()..)?;
        let end = rest.iter().take(MAX_CODE_BYTES).position(|byte| *byte == b'"')?;
        str::from_utf8(rest.get(..end)?).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_counted_and_what_they_quote_is_not() {
        let mut tally = RunTally::new(100..200).unwrap();
        let denied = br#"{"allowed":false,"code":"ARGUMENT_NOT_ALLOWED","reason":"'\"allowed\":true,\"code\":\"X\"'"}"#;
        tally.answered(99, 150, 200, denied);
        tally.answered(100, 150, 200, denied);
        tally.answered(199, 900, 200, br#"{"results":[{"allowed":true},{"allowed":false,"code":"RATE_LIMITED"}]}"#);
        tally.answered(150, 160, 200, b"fixed bytes of another server");
        tally.answered(200, 210, 200, br#"{"allowed":true}"#);
        let counted = Counts { requests: 3, allowed: 1, denied: 2, errors: 0 };
        assert_eq!((tally.counted, tally.total.requests, tally.total.denied), (counted, 5, 3));
        let by_code = [("ARGUMENT_NOT_ALLOWED".to_owned(), 1), ("RATE_LIMITED".to_owned(), 1)];
        assert_eq!(tally.denials.sorted(), BTreeMap::from(by_code));
        assert_eq!((tally.latency.len(), tally.latency.min(), tally.latency.max()), (3, 10, 701));
    }

    #[test]
    fn an_error_is_named_by_status_and_code_and_flatters_no_latency() {
        let mut tally = RunTally::new(0..100).unwrap();
        tally.answered(1, 2, 503, br#"{"status":503,"code":"OVERLOADED"}"#);
        tally.answered(1, 2, 502, b"bad gateway");
        tally.failed(1, 2, NoAnswer::Closed);
        tally.failed(1, 1_000_001, NoAnswer::Timeout);
        tally.failed(200, 300, NoAnswer::Timeout);
        let errors = [("502", 1), ("503 OVERLOADED", 1), ("closed", 1), ("timeout", 1)];
        assert_eq!(tally.errors.sorted(), errors.map(|(name, count)| (name.to_owned(), count)).into());
        assert_eq!((tally.counted.errors, tally.total.errors), (4, 5));
        // The one that was given up has waited that long at least.
        assert_eq!(tally.latency.len(), 1);
        assert!(tally.latency.max() >= 1_000_000);
    }

    #[test]
    fn a_server_that_sends_any_number_of_codes_fills_no_memory() {
        let mut kinds = Kinds::default();
        (0..10_000).for_each(|n| kinds.add(&n.to_string()));
        assert_eq!(kinds.0.len(), MAX_KINDS);
        assert_eq!(kinds.0.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
    }
}
