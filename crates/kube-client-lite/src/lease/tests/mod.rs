//! The election, tried without a cluster.

mod moves;
mod schedules;
mod takeovers;

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::clock::Now;
use super::election::{Election, Move, Timings, Write};
use super::record::Lease;

const TIMINGS: Timings = Timings {
    lease_duration: Duration::from_secs(60),
    renew_deadline: Duration::from_secs(40),
    retry_period: Duration::from_secs(10),
};

/// Clocks that a test sets: the moment when it began, and seconds after that.
#[derive(Clone, Copy)]
struct Clocks(Now);

impl Clocks {
    fn new() -> Clocks {
        Clocks(Now { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) })
    }

    fn at(self, seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        Now { monotonic: self.0.monotonic + passed, wall: self.0.wall + passed }
    }
}

fn lease(spec: Value) -> Lease {
    serde_json::from_value(json!({ "metadata": { "name": "l", "resourceVersion": "1" }, "spec": spec })).expect("JSON")
}

fn theirs(renewed: &str) -> Lease {
    lease(json!({ "holderIdentity": "them", "leaseDurationSeconds": 60, "renewTime": renewed, "leaseTransitions": 4 }))
}

fn candidate() -> Election {
    Election::new("l", "us", TIMINGS)
}

/// The Lease that is to be written; `None` for any other move.
fn written(next: Move) -> Option<Value> {
    match next {
        Move::Write(Write::Create(lease) | Write::Replace(lease)) => Some(serde_json::to_value(lease).expect("JSON")),
        Move::Read | Move::Stand => None,
    }
}

fn leader(clocks: Clocks) -> Election {
    let mut election = candidate();
    let Move::Write(Write::Create(lease)) = election.read(None, clocks.at(0)) else { panic!("not taken") };
    election.wrote(lease, clocks.at(0), clocks.at(1));
    election
}
