//! A tenant that calls now and then, and what its calls take.

use std::time::{Duration, Instant};

use actix_rt::System;
use kavach::Kavach;

use crate::common::usual_request;

/// Time between two calls.
const PAUSE: Duration = Duration::from_millis(2);

/// Calls now and then, from its own thread, as long as `goes_on` says so of the number of calls made. Returns the
/// microseconds of each call.
pub fn probe(kavach: &Kavach, mut goes_on: impl FnMut(usize) -> bool + Send) -> Vec<f64> {
    let calls = async move {
        let mut times = Vec::new();
        while goes_on(times.len()) {
            actix_rt::time::sleep(PAUSE).await;
            let start = Instant::now();
            assert!(kavach.authorize(usual_request(0)).await.unwrap().allowed);
            times.push(start.elapsed().as_nanos() as f64 / 1_000.0);
        }
        times
    };
    std::thread::scope(|scope| scope.spawn(|| System::new().block_on(calls)).join().unwrap())
}

/// The time that so many percent of the calls do not exceed.
pub fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() - 1) * percent / 100]
}
