//! Many tunnels at once: Fly's limits are kept by us and not found out, one that fails or hangs hinders no other, a Fly that was down
//! meets no storm, and an upgrade moves a bounded number at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::operator::Operator;
use lab::recorder::{Answer, Fault, Gate, Request, Rule, Target};
use serde_json::{Value, json};

use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::apps;
use crate::support::{DEADLINE, LONG_DEADLINE, binary, wait_until};

/// A cluster whose pods are no processes, so that it can hold hundreds. The tests of this file share it.
fn quiet_cluster() -> &'static Arc<Cluster> {
    static QUIET: OnceLock<Arc<Cluster>> = OnceLock::new();
    QUIET.get_or_init(|| Cluster::start(ClusterOptions { traffic: false, ..ClusterOptions::default() }))
}

fn quiet_lab(fly: Settings) -> Homelab {
    Homelab::builder().traffic(false).fly(fly).cluster(quiet_cluster()).start()
}

/// Makes Services with one port each, and no backends.
fn create(lab: &Homelab, prefix: &str, number: usize) {
    let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
    let create_one = |number: usize| {
        let service = json!({
            "metadata": { "name": format!("{prefix}-{number}") },
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerClass": lab.class(),
                "allocateLoadBalancerNodePorts": false,
                "ports": [{ "port": 8080 }],
            },
        });
        lab.cluster().kube().create(&services, &service).expect("the Service is accepted");
    };
    std::thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || (first..number).step_by(4).for_each(create_one));
        }
    });
}

/// Waits until that many Services of the lab serve.
#[track_caller]
fn wait_serving(lab: &Homelab, number: usize) {
    wait_until(&format!("{number} Services serve"), LONG_DEADLINE, || serve(lab) == number);
}

/// How many Services of the lab serve.
fn serve(lab: &Homelab) -> usize {
    let all = lab.cluster().kube().list(&format!("/api/v1/namespaces/{}/services", lab.namespace())).expect("a list");
    all.iter().filter(|service| condition(service).0 == "Serving").count()
}

fn to_fly(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.to == Target::Fly).collect()
}

#[test]
fn two_hundred_services_at_once_meet_no_limit_of_flys() {
    const SERVICES: usize = 200;
    let lab = quiet_lab(Settings { latency: Duration::from_millis(20), ..Settings::default() });
    let _operator = lab.operator(binary()).start();
    create(&lab, "web", SERVICES);
    wait_serving(&lab, SERVICES);
    let requests = lab.requests();
    let refused: Vec<_> = to_fly(&requests).into_iter().filter(|request| request.status == Some(429)).collect();
    assert!(refused.is_empty(), "{} of {}: {:#?}", refused.len(), to_fly(&requests).len(), refused.first());
    assert_eq!(apps(&lab).len(), SERVICES);
    let bought = |what: &str| {
        to_fly(&requests).iter().filter(|request| request.method == "POST" && request.path.ends_with(what)).count()
    };
    assert_eq!((bought("/ip_assignments"), bought("/machines")), (SERVICES, SERVICES));
}

/// Fly takes 100 deletions of Apps a minute. `scripts/bench burst` deletes 200, which takes some minutes.
#[test]
fn apps_are_deleted_no_faster_than_fly_lets_them() {
    const SERVICES: u32 = 12;
    let between = Duration::from_secs(60) / 100;
    let lab = quiet_lab(Settings::default());
    let _operator = lab.operator(binary()).start();
    create(&lab, "web", SERVICES as usize);
    wait_serving(&lab, SERVICES as usize);
    let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
    for number in 0..SERVICES {
        lab.cluster().kube().delete(&format!("{services}/web-{number}")).expect("it is deleted");
    }
    wait_until("all are gone", LONG_DEADLINE, || lab.cluster().kube().list(&services).expect("a list").is_empty());
    let requests = lab.requests();
    let deletions = requests.iter().filter(|r| r.method == "DELETE" && r.path.ends_with("?force=true"));
    let of_apps = deletions.filter(|request| !request.path.contains("/machines/"));
    let times: Vec<_> = of_apps.map(|r| humantime::parse_rfc3339(&r.time).expect("RFC 3339")).collect();
    let took = times.iter().max().and_then(|last| last.duration_since(times[0]).ok()).expect("some were deleted");
    assert!(took >= between * (SERVICES - 1), "{} were deleted in {took:?}", times.len());
    let failed = requests.iter().any(|r| r.path.ends_with("/events") && r.body.contains("SyncLoadBalancerFailed"));
    assert!(!failed, "to wait is no failure");
}

/// Two workers: a request about one Service hangs, each request about another fails, and the others are made, changed and taken down.
#[test]
fn a_tunnel_that_hangs_holds_one_worker_and_one_that_fails_holds_none() {
    let lab = quiet_lab(Settings::default());
    let gate = Gate::default();
    let fails = Answer { status: 500, headers: Default::default(), body: json!({ "error": "internal" }).to_string() };
    lab.faults([
        Rule::new(Fault::Hold(gate.clone())).to(Target::Fly).path("-hangs-").times(u32::MAX),
        Rule::new(Fault::Answer(fails)).to(Target::Fly).path("-fails-").times(u32::MAX),
    ]);
    let _operator = lab.operator(binary()).arg("--workers=2").env("RESYNC_INTERVAL", "1h").start();
    let bad = ["hangs", "fails"].map(|name| lab.service(name).port(8080).create());
    gate.wait(DEADLINE).expect("its first request to Fly hangs");
    wait_for_reason(&bad[1], "FlyUnavailable");
    for name in ["web", "shop", "mail"] {
        // While the gate is closed: Fly's client waits for half a minute.
        let service = lab.service(name).port(8080).create();
        wait_for_reason(&service, "Serving");
        service.delete();
        service.wait_gone(LONG_DEADLINE);
    }
    let requests = lab.requests();
    let of = |name: &str| to_fly(&requests).into_iter().filter(|r| r.path.contains(name)).collect::<Vec<_>>();
    let under_way = of("-hangs-").iter().filter(|request| request.status.is_none()).count();
    assert!(under_way >= 1, "it hangs all the while");
    // Each failure is followed by a longer pause, so one that fails asks seldom.
    assert!(of("-fails-").len() < 30, "{}", of("-fails-").len());
    lab.faults([]);
    gate.open();
    wait_for_reason(&bad[0], "Serving");
    wait_for_reason(&bad[1], "Serving");
}

/// The intervals are a second and not a minute, so this has as many of them as ten minutes have and more. The pauses between tries
/// are what they are.
#[test]
fn a_fly_that_was_down_for_long_meets_no_storm() {
    const SERVICES: usize = 30;
    const INTERVALS: usize = 20;
    let lab = quiet_lab(Settings::default());
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "1s").start();
    create(&lab, "web", SERVICES);
    wait_serving(&lab, SERVICES);
    let made = apps(&lab);
    let down = Answer { status: 503, headers: Default::default(), body: json!({ "error": "down" }).to_string() };
    let before = lab.requests().len();
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(u32::MAX)]);
    let polls = |requests: &[Request]| requests.iter().filter(|r| r.path.contains("/services?")).count();
    // A poll comes every half second.
    lab.wait_requests(LONG_DEADLINE, |requests| polls(&requests[before..]) >= 2 * INTERVALS);
    let meanwhile = lab.requests().split_off(before);
    let asked = to_fly(&meanwhile).len();
    // Each tunnel is tried at once, and after 1, 2, 4, 8 and 16 seconds.
    assert!(asked <= SERVICES * 8 + INTERVALS, "{asked} requests while Fly was down");
    wait_until("all are told of it", LONG_DEADLINE, || {
        let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
        let all = lab.cluster().kube().list(&services).expect("a list");
        all.iter().all(|service| condition(service).0 == "FlyUnavailable")
    });
    let back = lab.requests().len();
    lab.faults([]);
    wait_serving(&lab, SERVICES);
    let afterwards = lab.requests().split_off(back);
    let requests = to_fly(&afterwards);
    assert!(requests.iter().all(|request| request.method == "GET"), "nothing was to be done");
    assert!(requests.iter().all(|request| request.status != Some(429)), "no limit was met");
    // A look at all of a tunnel begins with its App. Those that are settled are only asked after, once an interval.
    let is_look = |r: &&&Request| r.path.strip_prefix("/v1/apps/").is_some_and(|app| !app.contains('/'));
    let looks: Vec<&&Request> = requests.iter().filter(is_look).collect();
    assert!(looks.len() <= SERVICES * 3, "{} looks at {SERVICES} tunnels until all were settled", looks.len());
    // They come back one by one.
    let mut by_second: BTreeMap<&str, usize> = BTreeMap::new();
    looks.iter().for_each(|request| *by_second.entry(&request.time[..19]).or_default() += 1);
    let most = by_second.values().max().copied().unwrap_or_default();
    assert!(most <= SERVICES / 2, "{most} tunnels are looked at in one second: {by_second:?}");
    assert_eq!(apps(&lab), made);
}

/// So many tunnels replace lanes that serve at once.
const MOVES: usize = 10;

/// How many Apps have two Machines that take users or will. One that failed goes by itself, and is no lane on its way.
fn moving(apps: &[Value]) -> usize {
    let open = |app: &Value| {
        let machines = app["machines"].as_array().into_iter().flatten();
        let gone = |machine: &Value| machine["state"] == "launch_failed" || machine["state"] == "destroying";
        machines.filter(|machine| machine["cordoned"] != true && !gone(machine)).count()
    };
    apps.iter().filter(|app| open(app) > 1).count()
}

fn machines(apps: &[Value]) -> BTreeSet<String> {
    let machines = apps.iter().flat_map(|app| app["machines"].as_array().into_iter().flatten());
    machines.map(|machine| machine["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Runs an operator with other settings until `done`. Gives the most tunnels that moved at once.
fn moved_at_most(lab: &Homelab, operator: Operator, mut done: impl FnMut(&Homelab) -> bool) -> usize {
    let _operator = operator.start();
    let mut most = 0;
    wait_until("it is done", LONG_DEADLINE, || {
        most = most.max(moving(&apps(lab)));
        done(lab)
    });
    most
}

#[test]
fn an_upgrade_moves_a_bounded_number_of_tunnels_at_a_time_and_a_bad_one_hurts_nobody() {
    const SERVICES: usize = 25;
    let lab = quiet_lab(Settings { machine_boot: Duration::from_secs(2), ..Settings::default() });
    let operator = || lab.operator(binary()).env("FLY_SETTLE_TIME", "1s").env("DRAIN_TIMEOUT", "1s");
    let first = operator().start();
    create(&lab, "web", SERVICES);
    wait_serving(&lab, SERVICES);
    first.kill();

    let single = |apps: &[Value]| apps.iter().all(|app| app["machines"].as_array().is_some_and(|all| all.len() == 1));
    let before = machines(&apps(&lab));
    let image = "registry.example.com/other/frps:next";
    let most = moved_at_most(&lab, operator().arg("--frps-image").arg(image), |lab| {
        let apps = apps(lab);
        single(&apps) && machines(&apps).is_disjoint(&before) && serve(lab) == SERVICES
    });
    assert!((1..=MOVES).contains(&most), "{most} of {SERVICES} at once");
    let moved = machines(&apps(&lab));

    // An image that does not start: each tunnel has its try, no more of them at once, and the old lanes serve on.
    let bad = "registry.example.com/none/no-such-image:bad";
    let from = lab.requests().len();
    let tried = |lab: &Homelab| {
        let requests = lab.requests();
        let made = requests[from..].iter().filter(|r| r.method == "POST" && r.path.ends_with("/machines"));
        made.map(|request| request.path.clone()).collect::<BTreeSet<_>>().len()
    };
    let most = moved_at_most(&lab, operator().arg("--frps-image").arg(bad), |lab| tried(lab) == SERVICES);
    assert!(most <= MOVES, "{most} of {SERVICES} at once");
    let serves = |app: &Value| {
        let machines = app["machines"].as_array().into_iter().flatten();
        machines.filter(|machine| machine["state"] == "started" && machine["cordoned"] != true).count() == 1
    };
    assert!(apps(&lab).iter().all(serves), "{:#?}", apps(&lab));

    let most = moved_at_most(&lab, operator().arg("--frps-image").arg(image), |lab| {
        machines(&apps(lab)) == moved && serve(lab) == SERVICES
    });
    assert!(most <= MOVES, "{most} at once");
}

/// While many tunnels wait for their turn, somebody's change of a Service is the next to be made.
#[test]
fn a_change_that_somebody_asks_for_comes_before_the_upgrade_of_others() {
    const SERVICES: usize = 30;
    let lab = quiet_lab(Settings { machine_boot: Duration::from_secs(4), ..Settings::default() });
    let operator = || lab.operator(binary()).env("FLY_SETTLE_TIME", "1s").env("DRAIN_TIMEOUT", "1s");
    let first = operator().start();
    create(&lab, "web", SERVICES);
    wait_serving(&lab, SERVICES);
    first.kill();
    let from = lab.requests().len();
    let _operator = operator().arg("--frps-image").arg("registry.example.com/other/frps:next").start();
    let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
    let waits = |service: &Value| condition(service).1.contains("when other tunnels have moved");
    let waiting = || {
        let all = lab.cluster().kube().list(&services).expect("a list");
        all.into_iter().filter(waits).collect::<Vec<_>>()
    };
    wait_until("most of them wait", DEADLINE, || waiting().len() >= SERVICES - MOVES - 2);
    // The last in the queue.
    let last = waiting().pop().expect("one that waits");
    let name = last["metadata"]["name"].as_str().expect("a name").to_owned();
    let ports = json!({ "spec": { "ports": [{ "name": "a", "port": 8080 }, { "name": "b", "port": 9090 }] } });
    lab.cluster().kube().merge_patch(&format!("{services}/{name}"), &ports).expect("the ports are changed");
    let made = |requests: &[Request]| {
        let made = requests[from..].iter().filter(|r| r.method == "POST" && r.path.ends_with("/machines"));
        made.map(|request| (request.path.contains(&format!("-{name}-")), request.body.contains("9090")))
            .collect::<Vec<_>>()
    };
    lab.wait_requests(LONG_DEADLINE, |requests| made(requests).contains(&(true, true)));
    let before = made(&lab.requests()).iter().position(|made| *made == (true, true)).expect("it is made");
    assert!(before < SERVICES - 3, "{before} of {SERVICES} came before it");
    wait_serving(&lab, SERVICES);
}
