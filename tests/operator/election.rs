//! One of several operators leads. The request logs show it, and one test has client-go as a rival.

use std::time::{Duration, Instant, SystemTime};

use lab::homelab::Homelab;
use lab::process::{Process, Spawn};
use lab::recorder::{Fault, Gate, Request, Rule, Target};
use serde_json::{Value, json};

use crate::support::conditions::wait_for_reason;
use crate::support::http::metrics;
use crate::support::inventory::{assert_nothing_left, assert_one_of_everything};
use crate::support::lease::{
    LEASE, RENEW_DEADLINE, RETRY, candidate, expendable, holder, is_lease, leader, lease, reigns, seconds, standby,
    steps, time,
};
use crate::support::{DEADLINE, LONG_DEADLINE, serving, side_by_side, wait_until};

/// The time from the last write of the Lease by `before` to the first write by somebody else.
fn handover(lab: &Homelab, before: &str) -> Duration {
    let reigns = reigns(lab);
    let last = reigns.iter().rposition(|(from, ..)| from == before).expect("it led");
    let (_, next, _) = reigns.get(last + 1).expect("somebody follows");
    next.duration_since(reigns[last].1).expect("later")
}

/// The times at which `name` looked at the Lease after `since`, until it took it.
fn looks(lab: &Homelab, name: &str, since: SystemTime) -> Vec<SystemTime> {
    let requests = lab.requests().into_iter().filter(|r| r.from == name && is_lease(r) && time(r) > since);
    let before = requests.take_while(|r| r.method == "GET" || r.status != Some(200));
    before.filter(|r| r.method == "GET").map(|r| time(&r)).collect()
}

/// The number of looks that may find the Lease free. One is enough; a second is needed if the write after it is lost, which
/// happens if the API server stalls.
const FEW_LOOKS: usize = 2;

#[test]
fn of_three_operators_one_acts() {
    let lab = Homelab::new();
    let _operators = ["a", "b", "c"].map(|name| candidate(&lab, name).start());
    let (web, _) = serving(&lab);
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
    let acted: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| !steps(&lab, name).is_empty()).collect();
    let [leader] = acted[..] else { panic!("{acted:?} acted") };
    assert!(reigns(&lab).iter().all(|(from, ..)| from == leader), "only {leader} wrote the Lease");
    for other in ["a", "b", "c"].into_iter().filter(|name| *name != leader) {
        let polls = lab.requests().into_iter().filter(|r| r.from == other && r.path.contains("fieldSelector")).count();
        assert_eq!(polls, 1, "{other} knows that it could list the Services, and asks no more");
        assert!(!lab.requests().iter().any(|r| r.from == other && r.to == Target::Fly), "{other} asks nothing of Fly");
    }
}

#[test]
fn a_leader_that_is_told_to_end_hands_over_at_once() {
    let lab = Homelab::new();
    let mut a = leader(candidate(&lab, "a"));
    let _b = standby(candidate(&lab, "b"));
    let (web, ip) = serving(&lab);
    a.terminate();
    assert_eq!(a.wait(DEADLINE).and_then(|status| status.code()), Some(0));
    let ended = SystemTime::now();
    wait_until("b leads", DEADLINE, || {
        !holder(&lab).is_empty() && reigns(&lab).last().is_some_and(|(from, ..)| from == "b")
    });
    let looks = looks(&lab, "b", ended);
    assert!(looks.len() <= FEW_LOOKS, "b takes it as soon as it looks: {looks:?}");
    let handover = handover(&lab, "a");
    assert!(handover < LEASE, "nobody waited for the Lease to expire: {handover:?}");
    let released = reigns(&lab).into_iter().rfind(|(from, ..)| from == "a").expect("it led");
    assert_eq!(released.2, "", "the Lease was released");
    assert_eq!(web.address(DEADLINE), ip);
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

#[test]
fn a_leader_that_is_killed_is_followed_as_soon_as_the_lease_expires() {
    let lab = Homelab::new();
    let a = leader(candidate(&lab, "a"));
    let _b = standby(candidate(&lab, "b"));
    let (web, ip) = serving(&lab);
    let before = lease(&lab).expect("a Lease");
    a.kill();
    let killed = SystemTime::now();
    wait_until("b leads", LONG_DEADLINE, || reigns(&lab).last().is_some_and(|(from, ..)| from == "b"));
    let handover = handover(&lab, "a");
    assert!(handover >= LEASE, "not before the Lease expired: {handover:?}");
    // By its third look b has certainly seen the last write, and its wait for the Lease has begun.
    let looks = looks(&lab, "b", killed);
    let late: Vec<_> = looks.iter().filter(|look| **look >= looks[2] + LEASE).collect();
    assert!(late.len() <= FEW_LOOKS, "b takes it as soon as it looks: {late:?}");
    let after = lease(&lab).expect("a Lease");
    let transitions = |lease: &Value| lease["spec"]["leaseTransitions"].as_u64();
    assert_eq!(transitions(&after), transitions(&before).map(|before| before + 1));
    assert_eq!(after["spec"]["leaseDurationSeconds"], LEASE.as_secs());
    assert_eq!(web.address(DEADLINE), ip);
    assert_one_of_everything(&lab);
}

/// The leader is frozen until its Lease has expired, at each request of a creation: as the request is sent, or as its
/// reply is under way.
#[test]
fn a_paused_leader_begins_no_step_after_waking() {
    let points = [
        ("POST", "/v1/apps$", true),
        ("POST", "/ip_assignments$", false),
        ("POST", "/machines$", true),
        ("POST", "/secrets$", false),
        ("PATCH", "/deployments/", true),
    ];
    side_by_side(points.len(), points, |(method, path, answered)| {
        let lab = Homelab::new();
        let a = leader(candidate(&lab, "a"));
        let _b = standby(candidate(&lab, "b"));
        let gate = Gate::default();
        let fault = if answered { Fault::HoldReply(gate.clone()) } else { Fault::Hold(gate.clone()) };
        lab.faults([Rule::new(fault).from("a").method(method).path(path)]);
        let web = lab.service("web").port(8080).create();
        let held = gate.wait(DEADLINE).expect("a sends it");
        a.pause();
        web.address(LONG_DEADLINE);
        wait_for_reason(&web, "Serving");
        let woken = SystemTime::now();
        a.resume();
        gate.open();
        wait_until("a stands by", DEADLINE, || a.log().contains("standing by"));
        web.delete();
        web.wait_gone(DEADLINE);
        let begun: Vec<Request> = steps(&lab, "a").into_iter().filter(|r| time(r) > woken).collect();
        assert!(begun.is_empty(), "after {held:?}: {begun:#?}");
        assert_nothing_left(&lab);
    });
}

#[test]
fn a_leader_that_loses_the_api_server_stands_by_and_leads_again() {
    let lab = Homelab::new();
    let mut a = leader(expendable(&lab, "a"));
    let (web, ip) = serving(&lab);
    lab.faults([Rule::new(Fault::Refuse).from("a").to(Target::Kubernetes).times(u32::MAX)]);
    wait_until("a steps down and says so", DEADLINE, || {
        a.log().contains("the Lease was not renewed in time: standing by")
    });
    wait_until("its metrics say so too", DEADLINE, || metrics(&a).contains("\nfly_tunnel_operator_leader 0\n"));
    let b = leader(candidate(&lab, "b"));
    let stepped_down = SystemTime::now();
    lab.faults([]);
    web.set_ports(&[8081]);
    wait_until("b makes the change", DEADLINE, || steps(&lab, "b").iter().any(|r| r.path.ends_with("/machines")));
    wait_until("a sees who leads", DEADLINE, || a.log().contains("standing by, as "));
    let begun: Vec<Request> = steps(&lab, "a").into_iter().filter(|r| time(r) > stepped_down).collect();
    assert!(begun.is_empty(), "{begun:#?}");
    let told = a.log().len();
    b.kill();
    wait_until("a leads again", LONG_DEADLINE, || a.log()[told..].contains("leading"));
    assert_eq!(a.exit_status(), None, "it is the same process");
    assert_eq!(web.address(DEADLINE), ip);
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

/// The leader's term ends while a request is under way, and it leads again later.
#[test]
fn a_pass_that_outlives_its_term_begins_no_step_and_is_begun_anew() {
    let lab = Homelab::new();
    // A request may take 30 s, and the term ends 10 s after the Lease could last be renewed, so a request can outlast
    // it.
    let a = candidate(&lab, "a").env("LEADER_ELECT_LEASE_DURATION", "40s").env("LEADER_ELECT_RENEW_DEADLINE", "10s");
    let a = a.start();
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::HoldReply(gate.clone())).to(Target::Fly).method("POST").path("/v1/apps$")]);
    let web = lab.service("web").port(8080).create();
    gate.wait(DEADLINE).expect("the App is asked for");
    lab.recorder().add_fault(Rule::new(Fault::Refuse).to(Target::Kubernetes).path("/leases").times(u32::MAX));
    wait_until("its term is over", DEADLINE, || metrics(&a).contains("\nfly_tunnel_operator_leader 0\n"));
    let over = SystemTime::now();
    gate.open();
    wait_until("the reply is there", DEADLINE, || a.log().contains("Fly: POST /v1/apps: 201"));
    lab.faults([]);
    web.address(DEADLINE);
    let (_, again, _) = reigns(&lab).into_iter().find(|(_, written, _)| *written > over).expect("it leads again");
    let begun: Vec<Request> = steps(&lab, "a").into_iter().filter(|r| time(r) > over && time(r) < again).collect();
    assert!(begun.is_empty(), "{begun:#?}");
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

/// If the Lease were released at once, a late reply could come while a second leader works.
#[test]
fn the_lease_is_left_to_expire_where_a_request_is_under_way_at_the_end() {
    let lab = Homelab::new();
    // A request may take 20 s, which is longer than a process that is told to end waits for it.
    let mut a = candidate(&lab, "a").env("LEADER_ELECT_LEASE_DURATION", "40s").start();
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::Hold(gate.clone())).to(Target::Fly).method("POST").path("/machines$")]);
    let web = lab.service("web").port(8080).create();
    gate.wait(DEADLINE).expect("the Machine is asked for");
    a.terminate();
    assert_eq!(a.wait(DEADLINE).and_then(|status| status.code()), Some(0), "{}", a.log());
    assert_ne!(holder(&lab), "", "nobody else may lead yet");
    drop(gate);
    lab.faults([]);
    let _b = candidate(&lab, "b").start();
    web.delete();
    web.wait_gone(DEADLINE * 2);
    assert_nothing_left(&lab);
}

#[test]
fn once_works_until_nothing_is_left_to_do() {
    let lab = Homelab::new();
    let web = lab.service("web").port(8080).create();
    let run = |environment: &[(&str, &str)]| {
        let operator = candidate(&lab, "a").arg("--once").env("RUST_LOG", "info");
        let mut operator =
            environment.iter().fold(operator, |operator, (name, value)| operator.env(name, value)).start();
        let status = operator.wait(DEADLINE).unwrap_or_else(|| panic!("it does not end: {}", operator.log()));
        (status.code(), operator.log())
    };
    let (code, log) = run(&[]);
    assert_eq!(code, Some(0), "{log}");
    web.address(Duration::ZERO);
    wait_for_reason(&web, "Serving");
    assert_eq!(holder(&lab), "", "the Lease is released");

    let bad = lab.service("bad").port(8080).annotation("fly-tunnel-operator.dev/fly-region", "Nowhere at all").create();
    let (code, log) = run(&[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("/bad: InvalidService: "), "{log}");
    bad.delete();
    bad.wait_gone(DEADLINE);

    web.set_ports(&[8081]);
    let (code, log) = run(&[("FLY_API_TOKEN", "fo1_not-this-one")]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("/web: ") && log.contains("token"), "{log}");

    let _leader = leader(candidate(&lab, "b"));
    let (code, log) = run(&[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("{} leads", holder(&lab))), "{log}");
}

/// kube-scheduler, which elects its leader with client-go, as a rival for our Lease. It schedules nothing.
fn rival(lab: &Homelab, lease: &str) -> Process {
    let directory = lab.directory();
    let config = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": lab.cluster().kubeconfig() },
        "leaderElection": {
            "leaderElect": true, "resourceLock": "leases",
            "resourceName": lease, "resourceNamespace": lab.operator_namespace(),
            "leaseDuration": seconds(LEASE), "renewDeadline": seconds(RENEW_DEADLINE), "retryPeriod": seconds(RETRY),
        },
        "profiles": [{ "schedulerName": "nobody-asks-for-it" }],
    });
    let file = directory.join("rival.json");
    std::fs::write(&file, config.to_string()).expect("the lab's directory can be written");
    let spawned = Process::spawn(Spawn {
        program: lab.cluster().bin().join("kube-scheduler"),
        argv0: Some("kube-scheduler".into()),
        args: vec![format!("--config={}", file.display()), "--secure-port=0".into()],
        env: Vec::new(),
        dir: directory.to_owned(),
        log: directory.join("rival.log"),
    });
    spawned.expect("kube-scheduler can be started")
}

#[test]
fn client_go_and_we_wait_for_each_other_and_take_over_from_each_other() {
    let lab = Homelab::new();
    let mut a = leader(candidate(&lab, "a"));
    let name = lease(&lab).expect("a Lease")["metadata"]["name"].as_str().expect("a name").to_owned();
    let ours = holder(&lab);
    let rival_log = || std::fs::read_to_string(lab.directory().join("rival.log")).unwrap_or_default();

    let scheduler = rival(&lab, &name);
    wait_until("client-go waits", DEADLINE, || {
        rival_log().to_lowercase().contains("attempting to acquire leader lease")
    });
    let renewals = || reigns(&lab).len();
    let (before, since) = (renewals(), Instant::now());
    wait_until("a renews for longer than a lease", LONG_DEADLINE, || {
        renewals() > before + 7 && since.elapsed() > LEASE + RETRY
    });
    assert_eq!(holder(&lab), ours);

    a.terminate();
    assert_eq!(a.wait(DEADLINE).and_then(|status| status.code()), Some(0));
    wait_until("client-go leads", DEADLINE, || !["", &*ours].contains(&&*holder(&lab)));
    let theirs = holder(&lab);

    let b = standby(candidate(&lab, "b"));
    assert!(b.log().contains(&format!("the Lease is {theirs}'s")), "{}", b.log());
    let web = lab.service("web").port(8080).create();
    let since = Instant::now();
    wait_until("b waits for longer than a lease", LONG_DEADLINE, || {
        assert_eq!(holder(&lab), theirs);
        since.elapsed() > LEASE + RETRY
    });
    assert!(steps(&lab, "b").is_empty());

    scheduler.kill();
    wait_until("b leads", LONG_DEADLINE, || b.log().contains("leading"));
    web.address(DEADLINE);
    let transitions = lease(&lab).expect("a Lease")["spec"]["leaseTransitions"].as_u64();
    assert_eq!(transitions, Some(2), "from us to client-go and back");
}
