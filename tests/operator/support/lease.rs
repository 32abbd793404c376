//! Operators that elect a leader, and the Lease by which they do it.

use std::time::{Duration, SystemTime};

use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use lab::recorder::Request;
use serde_json::Value;

use super::{DEADLINE, binary, wait_until};

/// The Lease of an operator that is to keep it. It outlives the stalls of an API server on a busy machine: 8 s were seen
/// with 14 runnable processes on 2 cores. A request may take as long as lies between Lease and renew deadline, which is
/// more than such a stall too.
pub const LEASE: Duration = Duration::from_secs(30);
/// A leader that could not renew its [`LEASE`] for this time stops leading.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(20);
/// The Lease of an operator that is to lose it, so that nobody waits long for it. A stall can take it away at any time,
/// and the operator takes it again afterwards, so no test may rely on this Lease being kept.
pub const SHORT_LEASE: Duration = Duration::from_secs(6);
/// The time between two renewals of the Lease, or two looks at it, by an operator.
pub const RETRY: Duration = Duration::from_secs(1);

/// One of several operators. Its requests are logged as from `name`. As a leader it keeps its [`LEASE`].
pub fn candidate<'a>(lab: &'a Homelab, name: &str) -> Operator<'a> {
    electing(lab, name, LEASE, RENEW_DEADLINE)
}

/// One of several operators that is to be killed, or to lose its [`SHORT_LEASE`].
pub fn expendable<'a>(lab: &'a Homelab, name: &str) -> Operator<'a> {
    electing(lab, name, SHORT_LEASE, Duration::from_secs(4))
}

fn electing<'a>(lab: &'a Homelab, name: &str, lease: Duration, renew_deadline: Duration) -> Operator<'a> {
    lab.operator(binary())
        .named(name)
        .env("LEADER_ELECT", "true")
        .env("LEADER_ELECT_LEASE_DURATION", &seconds(lease))
        .env("LEADER_ELECT_RENEW_DEADLINE", &seconds(renew_deadline))
        .env("LEADER_ELECT_RETRY_PERIOD", &seconds(RETRY))
}

/// The duration as a flag takes it.
pub fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

/// The Lease of this lab's class.
pub fn lease(lab: &Homelab) -> Option<Value> {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", lab.operator_namespace());
    let leases = lab.cluster().kube().list(&leases).expect("a list");
    assert!(leases.len() < 2, "one Lease for a class: {leases:#?}");
    leases.into_iter().next()
}

pub fn holder(lab: &Homelab) -> String {
    lease(lab).and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// Starts the operator, and waits until it leads.
pub fn leader(operator: Operator) -> RunningOperator {
    let operator = operator.start();
    wait_until("it leads", DEADLINE, || operator.log().contains("leading"));
    operator
}

/// Starts the operator, and waits until it stands by.
pub fn standby(operator: Operator) -> RunningOperator {
    let operator = operator.start();
    wait_until("it stands by", DEADLINE, || operator.log().contains("standing by"));
    operator
}

pub fn is_lease(request: &Request) -> bool {
    request.path.contains("/leases")
}

/// The requests of that operator that change anything but the Lease.
pub fn steps(lab: &Homelab, from: &str) -> Vec<Request> {
    let requests = lab.requests().into_iter();
    requests.filter(|r| r.from == from && r.method != "GET" && !is_lease(r)).collect()
}

pub fn time(request: &Request) -> SystemTime {
    humantime::parse_rfc3339(&request.time).expect("RFC 3339")
}

/// All writes of the Lease that succeeded: the writer, the time, and the holder that the Lease names since then.
pub fn reigns(lab: &Homelab) -> Vec<(String, SystemTime, String)> {
    let writes = lab.requests().into_iter().filter(|r| is_lease(r) && r.method != "GET");
    let written = writes.filter(|r| r.status.is_some_and(|status| status < 300));
    written
        .map(|r| {
            let lease: Value = serde_json::from_str(&r.body).expect("JSON");
            (r.from.clone(), time(&r), lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}
