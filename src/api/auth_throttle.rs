//! How many calls without a good key an address may make.
//!
//! A key has 256 random bits, so nobody guesses one at any rate. Whoever tries, or has an old key, is told to stop, and
//! the log tells of it. Only calls that failed are counted, and only those are refused: a good key always passes, whoever
//! else is behind the same address, and is never looked up here. So a refused call was looked up before like any other.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header::RETRY_AFTER;
use serde_json::json;
use tracing::warn;

use super::error::Problem;
use crate::domain::{Code, Error};
use crate::telemetry::Seldom;

/// Failed calls that an address may make at once: a service that restarts with an old key does not notice.
const BURST: u32 = 100;
/// The time after which it may make one more.
const EACH: Duration = Duration::from_secs(1);
/// Addresses that are remembered, the newest: a megabyte. Whoever has more is not kept out by his addresses.
const MAX_ADDRESSES: usize = 10_000;

/// Calls without a good key, by address.
#[derive(Default)]
pub struct AuthThrottle {
    table: Mutex<Table>,
    refused: Seldom,
}

#[derive(Default)]
struct Table {
    /// When each may make all of [`BURST`] again.
    free: HashMap<Origin, Instant>,
    /// From the oldest to the newest.
    order: VecDeque<Origin>,
}

/// Whose calls are counted together: an IPv4 address, an IPv6 network of 64 bits, which is one customer's at least, or
/// all of whom no address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(Option<IpAddr>);

impl Origin {
    fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        }))
    }
}

impl Table {
    /// Counts a failed call. Answers how long to wait where there were too many.
    fn count(&mut self, origin: Origin, now: Instant) -> Option<Duration> {
        if !self.free.contains_key(&origin) {
            self.make_room(now);
            self.order.push_back(origin);
        }
        let free = self.free.entry(origin).or_insert(now);
        let next = (*free).max(now) + EACH;
        let most = now + EACH * BURST;
        if next > most {
            return Some(next - most);
        }
        *free = next;
        None
    }

    /// Forgets those that may make all their calls again, as far as they are the oldest, and one more if it has to.
    fn make_room(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let is_free = self.free.get(oldest).is_none_or(|free| *free <= now);
            if !is_free && self.order.len() < MAX_ADDRESSES {
                return;
            }
            self.free.remove(oldest);
            self.order.pop_front();
        }
    }
}

impl AuthThrottle {
    /// What is answered to a call without a good key from that address, instead of `answer` where there were too many.
    pub fn answer(&self, answer: HttpResponse, address: Option<IpAddr>) -> HttpResponse {
        let (origin, now) = (Origin::of(address), Instant::now());
        let wait = self.table.lock().unwrap_or_else(PoisonError::into_inner).count(origin, now);
        let Some(wait) = wait else { return answer };
        self.refused.warn_with(|times| {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            warn!(%address, times, "calls without a valid key are refused as too many; the last came from this address");
        });
        too_many(wait)
    }
}

fn too_many(wait: Duration) -> HttpResponse {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let message = "too many calls from this address had no valid key or token; one with a valid one is not refused";
    let error = Error::new(Code::AuthRateLimited, message).with_details(json!({ "retryAfter": seconds }));
    let mut response = HttpResponse::from_error(Problem(error));
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(Some(text.parse().unwrap()))
    }

    #[test]
    fn an_address_may_fail_so_often_and_then_once_a_second() {
        let (mut table, start) = (Table::default(), Instant::now());
        let (one, other) = (origin("192.0.2.1"), origin("192.0.2.2"));
        for _ in 0..BURST {
            assert_eq!(table.count(one, start), None);
        }
        assert_eq!(table.count(one, start), Some(EACH));
        assert_eq!(table.count(one, start + EACH / 4), Some(EACH * 3 / 4), "a refused one does not count");
        assert_eq!(table.count(other, start), None);
        assert_eq!(table.count(one, start + EACH), None);
        assert_eq!(table.count(one, start + EACH), Some(EACH));
        let later = start + EACH * (BURST + 1);
        for _ in 0..BURST {
            assert_eq!(table.count(one, later), None);
        }
        assert!(table.count(one, later).is_some());
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one() {
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff::2"));
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_ne!(Origin::of(None), origin("::"));
    }

    #[test]
    fn the_table_does_not_grow_and_forgets_the_oldest() {
        let (mut table, start) = (Table::default(), Instant::now());
        let nth = |n: usize| Origin::of(Some(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes())));
        for n in 0..3 * MAX_ADDRESSES {
            table.count(nth(n), start);
            assert!(table.free.len() <= MAX_ADDRESSES && table.order.len() == table.free.len(), "{n}");
        }
        assert!(!table.free.contains_key(&nth(0)) && table.free.contains_key(&nth(3 * MAX_ADDRESSES - 1)));
        table.count(nth(0), start + EACH * 2);
        assert_eq!(table.free.len(), 1, "the others may do all again");
    }
}
