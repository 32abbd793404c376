//! Two lanes: what dies with one of them costs users nothing, or little, and the lane is made again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, ClusterOptions};
use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::{Stream, assert_none_lost};
use crate::support::conditions::{condition, status, wait_for_reason};
use crate::support::inventory::{apps, delete_at_fly, frpc_pods, ready};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, start, wait_until};

/// A connection that began sooner after a strike was under way: the strike takes a moment to arrive.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// The IDs of the Machines to which users are sent.
fn machines(lab: &Homelab) -> Vec<String> {
    let app = apps(lab).first().and_then(|app| app["name"].as_str().map(str::to_owned)).unwrap_or_default();
    lab.fly().machines_at_edge(&app, 8080)
}

/// A Service whose two lanes serve, and its address.
fn two_lanes(lab: &Homelab) -> (ServiceHandle<'_>, std::net::IpAddr) {
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/replicas", "2").create();
    let ip = web.address(DEADLINE);
    wait_for_lanes(lab, &web, 2);
    (web, ip)
}

#[track_caller]
fn wait_for_lanes(lab: &Homelab, web: &ServiceHandle, number: usize) {
    wait_until(&format!("{number} lanes serve"), LONG_DEADLINE, || {
        machines(lab).len() == number && ready(lab) == number && condition(&web.object()).0 == "Serving"
    });
}

/// Strikes one of two lanes under traffic, waits until it was missed and made again, and asserts that no connection that began
/// afterwards was lost or late.
#[track_caller]
fn costs_nothing(strike: impl FnOnce(&Homelab, &str)) {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = two_lanes(&lab);
    let first = machines(&lab).remove(0);
    let mut struck = Instant::now();
    let stream = Stream::during(8, ip, 8080, "web", |stream| {
        wait_until("clients are answered", DEADLINE, || stream.answered.load(Ordering::Relaxed) > 100);
        strike(&lab, &first);
        struck = Instant::now() + UNDER_WAY;
        wait_until("one lane is missed", LONG_DEADLINE, || {
            let object = web.object();
            (status(&object).as_str(), condition(&object).0.as_str()) == ("True", "ServingDegraded")
        });
        wait_for_lanes(&lab, &web, 2);
    });
    assert_eq!(stream.bad_after(struck), 0, "{:#?}", stream.lost.lock().expect("nobody panicked"));
    // Each client may have had one connection through the lane at that moment.
    assert!(stream.lost.lock().expect("nobody panicked").len() <= 8);
}

fn app(lab: &Homelab) -> String {
    apps(lab)[0]["name"].as_str().expect("a name").to_owned()
}

#[test]
fn a_machine_destroyed_by_hand_costs_nothing() {
    costs_nothing(|lab, machine| delete_at_fly(lab, &format!("/apps/{}/machines/{machine}", app(lab))));
}

#[test]
fn a_machine_stopped_by_hand_costs_nothing() {
    costs_nothing(|lab, machine| {
        let url = format!("http://{}/v1/apps/{}/machines/{machine}/stop", lab.fly().address(), app(lab));
        let request = ureq::post(&url).header("Authorization", format!("Bearer {}", lab.fly().token()));
        request.header("Content-Type", "application/json").send("{}").expect("it is stopped");
    });
}

/// frpc is back before anybody would miss it, so nothing is waited for but that.
#[test]
fn a_killed_frpc_costs_nothing() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = two_lanes(&lab);
    let pod = frpc_pods(&lab)[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let mut struck = Instant::now();
    let stream = Stream::during(8, ip, 8080, "web", |stream| {
        wait_until("clients are answered", DEADLINE, || stream.answered.load(Ordering::Relaxed) > 100);
        lab.cluster().kill_pods(lab.operator_namespace(), &pod);
        struck = Instant::now() + UNDER_WAY;
        wait_until("frpc was restarted", DEADLINE, || {
            let path = format!("/api/v1/namespaces/{}/pods/{pod}", lab.operator_namespace());
            let found = lab.cluster().kube().find(&path).expect("an answer").unwrap_or_default();
            found["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
        });
        wait_for_lanes(&lab, &web, 2);
    });
    assert_eq!(stream.bad_after(struck), 0, "{:#?}", stream.lost.lock().expect("nobody panicked"));
}

#[test]
fn ports_and_replicas_change_under_traffic_at_no_cost() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("FLY_SETTLE_TIME", "2s").env("DRAIN_TIMEOUT", "3s").start();
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    let kube = lab.cluster().kube();
    let stream = Stream::during(8, ip, 8080, "web", |_| {
        for number in [3, 2] {
            let change =
                json!({ "metadata": { "annotations": { "fly-tunnel-operator.dev/replicas": number.to_string() } } });
            kube.merge_patch(&web.path(), &change).expect("the annotation is changed");
            wait_for_lanes(&lab, &web, number);
        }
        let before = machines(&lab);
        let entry = |port: u16| json!({ "name": format!("tcp-{port}"), "port": port, "targetPort": 8080 });
        kube.merge_patch(&web.path(), &json!({ "spec": { "ports": [entry(8080), entry(9090)] } })).expect("changed");
        wait_until("new lanes have taken over", LONG_DEADLINE, || {
            let now = machines(&lab);
            now.len() == 2 && now.iter().all(|machine| !before.contains(machine))
        });
        wait_for_lanes(&lab, &web, 2);
    });
    assert_none_lost(&stream);
    assert_eq!(stream.bad_after(Instant::now() - LONG_DEADLINE * 2), 0, "none was late");
}

/// The bounds are those of spec.md: fewer than half, for no longer than 15 s.
#[test]
fn a_node_that_dies_with_one_of_two_lanes_costs_fewer_than_half_for_a_short_while() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() });
    let lab = Homelab::builder().cluster(&cluster).start();
    let _operator: RunningOperator = start(&lab);
    let (web, ip) = two_lanes(&lab);
    let node_of = |pod: &Value| pod["spec"]["nodeName"].as_str().expect("it is bound").to_owned();
    let nodes: Vec<String> = frpc_pods(&lab).iter().map(node_of).collect();
    assert_ne!(nodes[0], nodes[1], "the lanes are on two nodes");
    let backends = format!("/api/v1/namespaces/{}/pods", web.namespace);
    let backend = node_of(&cluster.kube().list(&backends).expect("a list")[0]);
    let dies = nodes.iter().find(|node| **node != backend).expect("one has no backend");
    let mut struck = Instant::now();
    let mut answered = 0;
    let stream = Stream::during(8, ip, 8080, "web", |stream| {
        wait_until("clients are answered", DEADLINE, || stream.answered.load(Ordering::Relaxed) > 100);
        answered = stream.answered.load(Ordering::Relaxed);
        struck = Instant::now();
        cluster.node_down(dies);
        wait_until("the lane is made again on the other node", LONG_DEADLINE, || {
            machines(&lab).len() == 2 && struck.elapsed() > Duration::from_secs(20)
        });
    });
    answered = stream.answered.load(Ordering::Relaxed) - answered;
    let (bad, late) = (stream.bad_after(struck), stream.bad_after(struck + Duration::from_secs(15)));
    println!("{bad} of {answered} were lost or late");
    assert!(bad < answered / 2, "{bad} of {answered}");
    assert_eq!(late, 0, "after 15 s");
    cluster.node_up(dies);
    wait_for_lanes(&lab, &web, 2);
}
