//! How many calls without a valid key an address may make.
//!
//! A key has 256 random bits, so guessing is hopeless at any rate. A client that tries, or that keeps using an old key,
//! gets 429, and the log says so. Only failed calls are counted and refused. A valid key always passes, whoever shares its
//! address, and never touches this table: the key is checked first.

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
use crate::telemetry::ThrottledLog;

/// Failed calls that an address may make at once: enough for a service that restarts with an old key.
const BURST: u32 = 100;
/// The time after which it may make one more.
const EACH: Duration = Duration::from_secs(1);
/// Addresses to remember, the newest: about a megabyte. A client with more addresses than that gets around the limit.
const MAX_ADDRESSES: usize = 10_000;

/// Counts calls without a valid key by address.
#[derive(Default)]
pub struct AuthThrottle {
    table: Mutex<Table>,
    refused: ThrottledLog,
}

#[derive(Default)]
struct Table {
    /// When each address may make a full [`BURST`] again.
    free: HashMap<Origin, Instant>,
    /// From the oldest to the newest.
    order: VecDeque<Origin>,
}

/// The unit that calls are counted by: an IPv4 address; an IPv6 /64, the least that one customer gets; or all callers with
/// no known address.
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
    /// Counts a failed call. Returns how long to wait if there were too many.
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

    /// Forgets the oldest addresses that may make a full burst again, and one more if the table is full.
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
    /// Returns `answer`, the 401 to a call from that address, or a 429 if there were too many.
    pub fn answer(&self, answer: HttpResponse, address: Option<IpAddr>) -> HttpResponse {
        let (origin, now) = (Origin::of(address), Instant::now());
        let wait = self.table.lock().unwrap_or_else(PoisonError::into_inner).count(origin, now);
        let Some(wait) = wait else { return answer };
        self.refused.warn_with(|times| {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            warn!(%address, times, "too many calls without a valid key: refusing them; the last came from this address");
        });
        too_many(wait)
    }
}

fn too_many(wait: Duration) -> HttpResponse {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let message = "too many calls from this address had no valid key or token; a call with a valid one is not refused";
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
