//! Helpers that read the recorder's log.

use std::time::{Duration, SystemTime};

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};

use crate::DEADLINE;

/// The time at which a request had arrived in full.
pub fn arrival(request: &Request) -> SystemTime {
    humantime::parse_rfc3339(&request.time).expect("the recorder writes RFC 3339")
}

/// How much later the first time is than the second; zero if it is not later.
pub fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// Whether it asks for the first page of the list of Services that each poll reads.
pub fn is_poll(request: &Request) -> bool {
    is_list_of_services(request) && !request.path.contains("continue=")
}

/// Whether it asks for any page of that list.
pub fn is_list_of_services(request: &Request) -> bool {
    request.method == "GET" && request.path.starts_with("/api/v1/services?") && request.path.contains("fieldSelector=")
}

/// Whether it gives an address to the status of a Service.
pub fn shows_address(request: &Request) -> bool {
    request.method == "PATCH" && request.path.contains("/status?") && request.body.contains("\"ip\":")
}

/// Whether it gives up a Service, of whose tunnel nothing is left.
pub fn removes_finalizer(request: &Request) -> bool {
    request.method == "PATCH" && request.body.contains(r#""op":"remove","path":"/metadata/finalizers/"#)
}

/// Whether it writes an event.
pub fn is_event(request: &Request) -> bool {
    request.method == "POST" && request.path.ends_with("/events")
}

/// Whether it creates or changes an frpc Deployment.
pub fn applies_frpc(request: &Request) -> bool {
    request.method == "PATCH" && request.path.contains("/deployments/")
}

/// Whether it reads one Machine, as the operator does while it waits for a boot or for checks.
pub fn is_wait(request: &Request) -> bool {
    let path = request.path.split('?').next().unwrap_or_default();
    request.to == Target::Fly
        && request.method == "GET"
        && path.split_once("/machines/").is_some_and(|(_, machine)| !machine.contains('/'))
}

/// Whether it reads the Machines of one App, by which a settled tunnel is compared with Fly.
pub fn is_look_at_machines(request: &Request) -> bool {
    request.to == Target::Fly
        && request.method == "GET"
        && request.path.strip_prefix("/v1/apps/").is_some_and(|app| app.split('/').nth(1) == Some("machines"))
}

/// Whether it reads one App: each comparison of a whole tunnel with Fly begins with that.
pub fn is_look_at_app(request: &Request) -> bool {
    request.to == Target::Fly
        && request.method == "GET"
        && request.path.strip_prefix("/v1/apps/").is_some_and(|app| !app.contains('/'))
}

pub fn count(requests: &[Request], wanted: impl Fn(&Request) -> bool) -> usize {
    requests.iter().filter(|request| wanted(request)).count()
}

/// Waits until the log, from index `from` on, has `number` requests for which `wanted` holds.
pub fn wait_for(lab: &Homelab, from: usize, number: usize, wanted: impl Fn(&Request) -> bool) {
    // This runs anew after each request, and the log may be long, so it goes on where it stopped and looks at each
    // request once.
    let (mut looked_at, mut found) = (from, 0);
    let all = lab.recorder().wait_requests(DEADLINE, |log| {
        found += count(&log[looked_at..], &wanted);
        looked_at = log.len();
        (found >= number).then_some(())
    });
    all.unwrap_or_else(|| panic!("only {found} of {number} requests came within {DEADLINE:?}"));
}

/// Waits until, for a whole interval, the operator has done nothing but poll. Returns the length of the log.
pub fn wait_quiet(lab: &Homelab, from: usize) -> usize {
    let quiet = lab.recorder().wait_requests(DEADLINE, |log| {
        let new = &log[from..];
        let last = new.iter().rposition(|request| !is_list_of_services(request)).map_or(0, |last| last + 1);
        (count(&new[last..], is_poll) >= 2).then_some(log.len())
    });
    quiet.expect("the operator comes to rest in time")
}
