//! The operator's HTTP port, which tells the kubelet of its health and Prometheus of its metrics.

use std::collections::BTreeMap;

use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::recorder::{Fault, Gate, Request, Rule, Target};

use crate::support::http::{ask, metrics, status};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, start, wait_until};

/// The value of a series. `series` is its name without our prefix, and its labels as they are written.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let wanted = format!("fly_tunnel_operator_{series} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&wanted))?;
    Some(line.parse().expect("a number"))
}

fn wait_for_value(operator: &RunningOperator, series: &str, holds: impl Fn(f64) -> bool) {
    wait_until(series, LONG_DEADLINE, || value(&metrics(operator), series).is_some_and(&holds));
}

/// The name of the operation that a request to Fly asks for, by its method and path.
fn operation(request: &Request) -> &'static str {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["apps"]) => "list_apps",
        ("POST", ["apps"]) => "create_app",
        ("GET", ["apps", _]) => "get_app",
        ("DELETE", ["apps", _]) => "delete_app",
        ("GET", ["apps", _, "ip_assignments"]) => "list_addresses",
        ("POST", ["apps", _, "ip_assignments"]) => "allocate_address",
        ("GET", ["apps", _, "machines"]) => "list_machines",
        ("POST", ["apps", _, "machines"]) => "create_machine",
        ("GET", ["apps", _, "machines", _]) => "get_machine",
        other => panic!("{other:?} is not expected here"),
    }
}

/// The number of requests that Fly answered, by operation and result.
fn recorded(lab: &Homelab) -> BTreeMap<(String, String), u32> {
    let mut counts = BTreeMap::new();
    for request in lab.requests().iter().filter(|request| request.to == Target::Fly) {
        let result = match request.status {
            Some(200..300) => "success",
            Some(404) => "not_found",
            Some(500..) => "unavailable",
            other => panic!("{other:?} is not expected here"),
        };
        *counts.entry((operation(request).to_owned(), result.to_owned())).or_default() += 1;
    }
    counts
}

/// The number of requests to Fly as the operator's metrics count them, by operation and result.
fn counted(metrics: &str) -> BTreeMap<(String, String), u32> {
    let lines =
        metrics.lines().filter_map(|line| line.strip_prefix("fly_tunnel_operator_fly_requests_total{operation=\""));
    let row = |line: &str| {
        let (operation, rest) = line.split_once("\",result=\"").expect("two labels");
        let (result, count) = rest.split_once("\"} ").expect("a value");
        ((operation.to_owned(), result.to_owned()), count.parse().expect("a number"))
    };
    lines.map(row).collect()
}

#[test]
fn it_is_alive_at_once_and_ready_when_the_cluster_was_listed() {
    let lab = Homelab::new();
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::Hold(gate.clone())).to(Target::Kubernetes).path("/services").times(1000)]);
    let operator = start(&lab);
    gate.wait(DEADLINE).expect("it lists the Services");
    assert_eq!(status(&operator, "/healthz"), Some(200));
    let (unready, _, text) = ask(&operator, "/readyz").expect("an answer");
    assert_eq!((unready, text.as_str()), (503, "the cluster has not been listed yet\n"));
    gate.open();
    wait_until("it is ready", DEADLINE, || status(&operator, "/readyz") == Some(200));
    assert_eq!(status(&operator, "/metrics"), Some(200));
    assert_eq!(status(&operator, "/"), Some(404));
}

#[test]
fn metrics_tell_of_a_tunnel_and_of_every_request_to_fly() {
    let lab = Homelab::new();
    let broken = Rule::new(Fault::Answer(lab::recorder::Answer {
        status: 503,
        headers: serde_json::Map::default(),
        body: String::new(),
    }));
    lab.faults([broken.to(Target::Fly).method("POST").path("/machines$")]);
    // The interval is long, so that no request comes after the story while the two counts are compared.
    let operator = lab.operator(binary()).env("RESYNC_INTERVAL", "10m").start();
    let (web, _) = serving(&lab);
    wait_for_value(&operator, r#"tunnels{state="Serving"}"#, |number| number == 1.0);

    let text = metrics(&operator);
    assert_eq!(lab::promlint(&text), Ok(()));
    assert_eq!(counted(&text), recorded(&lab));
    let app = lab.fly().state()["apps"][0]["name"].as_str().expect("an App").to_owned();
    let cost =
        format!(r#"tunnel_estimated_cost_dollars_per_month{{namespace="{}",name="web",app="{app}"}}"#, lab.namespace());
    for (series, expected) in [
        (r#"lanes{state="serving"}"#, 1.0),
        (r#"lanes{state="unready"}"#, 0.0),
        ("lanes_wanted", 1.0),
        (r#"tunnels{state="Provisioning"}"#, 0.0),
        (r#"fly_requests_total{operation="create_machine",result="unavailable"}"#, 1.0),
        ("retries_total", 1.0),
        ("time_to_address_seconds_count", 1.0),
        ("leader", 1.0),
        (cost.as_str(), 4.02),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    let polls = value(&text, r#"polls_total{result="success"}"#).expect("polls");
    wait_for_value(&operator, r#"polls_total{result="success"}"#, |more| more > polls);

    web.delete();
    web.wait_gone(DEADLINE);
    wait_until("it is told that nothing is left", DEADLINE, || {
        let text = metrics(&operator);
        !text.contains("name=\"web\"") && text.lines().all(|line| !line.contains("tunnels{") || line.ends_with(" 0"))
    });
}

/// Fly holds requests until the operator has given up two of them. No thread of ours is stuck by that, so `/healthz`
/// answers 200 all the while.
#[test]
fn a_fly_that_hangs_is_no_reason_to_restart() {
    let lab = Homelab::new();
    lab.faults([Rule::new(Fault::Hold(Gate::default())).to(Target::Fly).times(1000)]);
    let operator = start(&lab);
    lab.service("web").port(8080).create();
    let twice = |text: &str| {
        value(text, r#"fly_requests_total{operation="get_app",result="unavailable"}"#).is_some_and(|count| count >= 2.0)
    };
    wait_until("two requests were given up", LONG_DEADLINE, || {
        let (status, _, text) = ask(&operator, "/healthz").expect("an answer");
        assert_eq!((status, text.as_str()), (200, "ok\n"));
        twice(&metrics(&operator))
    });
    assert_eq!(status(&operator, "/readyz"), Some(200));
}

#[test]
fn a_standby_is_alive_and_ready_and_tells_of_no_tunnels() {
    let lab = Homelab::new();
    let candidate = || lab.operator(binary()).env("LEADER_ELECT", "true").start();
    let leader = candidate();
    wait_until("it leads", DEADLINE, || status(&leader, "/readyz") == Some(200));
    wait_for_value(&leader, "leader", |leads| leads == 1.0);
    let standby = candidate();
    serving(&lab);
    wait_for_value(&leader, r#"tunnels{state="Serving"}"#, |number| number == 1.0);
    wait_until("it is ready", DEADLINE, || status(&standby, "/readyz") == Some(200));
    let text = metrics(&standby);
    assert_eq!(status(&standby, "/healthz"), Some(200));
    assert_eq!(value(&text, "leader"), Some(0.0));
    assert_eq!(value(&text, r#"tunnels{state="Serving"}"#), Some(0.0));
    assert!(!text.contains("name=\"web\""), "{text}");
    assert_eq!(lab::promlint(&text), Ok(()));
}
