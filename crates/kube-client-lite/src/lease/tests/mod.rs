//! The election, tried without a cluster.

mod moves;
mod schedules;

use std::time::Duration;

use super::election::Timings;

const TIMINGS: Timings = Timings {
    lease_duration: Duration::from_secs(60),
    renew_deadline: Duration::from_secs(40),
    retry_period: Duration::from_secs(10),
};
