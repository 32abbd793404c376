//! Reading the recorder's log.

use std::time::{Duration, SystemTime};

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};

use crate::DEADLINE;

/// When a request had arrived.
pub fn arrival(request: &Request) -> SystemTime {
    humantime::parse_rfc3339(&request.time).expect("the recorder writes RFC 3339")
}

/// How much later than another time, or nothing if it was not.
pub fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// The first page of the list that each poll reads.
pub fn is_poll(request: &Request) -> bool {
    is_list_of_services(request) && !request.path.contains("continue=")
}

/// Any page of it.
pub fn is_list_of_services(request: &Request) -> bool {
    request.method == "GET" && request.path.starts_with("/api/v1/services?") && request.path.contains("fieldSelector=")
}

/// A Service's status is given an address.
pub fn shows_address(request: &Request) -> bool {
    request.method == "PATCH" && request.path.contains("/status?") && request.body.contains("\"ip\":")
}

/// An frpc is made, or made anew.
pub fn applies_frpc(request: &Request) -> bool {
    request.method == "PATCH" && request.path.contains("/deployments/")
}

/// A look at one Machine: it boots, or its checks are awaited.
pub fn is_wait(request: &Request) -> bool {
    let path = request.path.split('?').next().unwrap_or_default();
    request.to == Target::Fly
        && request.method == "GET"
        && path.split_once("/machines/").is_some_and(|(_, machine)| !machine.contains('/'))
}

/// A look at one App, with which each comparison of a tunnel with Fly begins.
pub fn is_look_at_app(request: &Request) -> bool {
    request.to == Target::Fly
        && request.method == "GET"
        && request.path.strip_prefix("/v1/apps/").is_some_and(|app| !app.contains('/'))
}

pub fn count(requests: &[Request], wanted: impl Fn(&Request) -> bool) -> usize {
    requests.iter().filter(|request| wanted(request)).count()
}

/// Waits until `number` requests, of those from `from` on, are `wanted`.
pub fn wait_for(lab: &Homelab, from: usize, number: usize, wanted: impl Fn(&Request) -> bool) {
    // The log may be long, and each request is a reason to look: each is looked at once.
    let (mut looked_at, mut found) = (from, 0);
    let all = lab.recorder().wait_requests(DEADLINE, |log| {
        found += count(&log[looked_at..], &wanted);
        looked_at = log.len();
        (found >= number).then_some(())
    });
    all.unwrap_or_else(|| panic!("only {found} of {number} requests came within {DEADLINE:?}"));
}

/// Waits until the operator does nothing but poll for a whole interval. Gives the length of the log.
pub fn wait_quiet(lab: &Homelab, from: usize) -> usize {
    let quiet = lab.recorder().wait_requests(DEADLINE, |log| {
        let new = &log[from..];
        let last = new.iter().rposition(|request| !is_list_of_services(request)).map_or(0, |last| last + 1);
        (count(&new[last..], is_poll) >= 2).then_some(log.len())
    });
    quiet.expect("the operator comes to rest in time")
}
