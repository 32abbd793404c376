//! The operator writes one event for each thing that happened and none for its repetition, and events never hold it up.

use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Gate, Request, Rule, Target};
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::events::{posted, wait_for_event, written};
use crate::support::inventory::{assert_nothing_left, deployments, ready};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, side_by_side, start, wait_until};

fn reasons(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["reason"].as_str()).collect()
}

/// A rule by which Fly answers as it does when it is down.
fn down(text: &str) -> Rule {
    let body = json!({ "error": text }).to_string();
    let answer = Answer { status: 503, headers: Default::default(), body };
    Rule::new(Fault::Answer(answer)).to(Target::Fly).times(u32::MAX)
}

/// A rule that strikes all requests to write an event.
fn on_events(fault: Fault) -> Rule {
    Rule::new(fault).to(Target::Kubernetes).method("POST").path("/events$").times(u32::MAX)
}

#[test]
fn each_thing_that_happens_is_one_event() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    web.set_ports(&[8080, 9090]);
    wait_for_event(&lab, &web, "UpdatedLoadBalancer");
    wait_for_reason(&web, "Serving");
    web.delete();
    web.wait_gone(DEADLINE);
    wait_for_event(&lab, &web, "DeletedLoadBalancer");
    let told = [
        "EnsuringLoadBalancer",
        "EnsuredLoadBalancer",
        "UpdatedLoadBalancer",
        "DeletingLoadBalancer",
        "DeletedLoadBalancer",
    ];
    assert_eq!(reasons(&posted(&lab, &web)), told);
    for event in written(&lab, &web) {
        assert_eq!((&event["type"], &event["count"]), (&json!("Normal"), &json!(1)), "{event:#}");
        assert_eq!(event["involvedObject"]["kind"], "Service", "{event:#}");
    }
}

#[test]
fn a_fly_that_is_down_for_long_is_one_event_and_another_when_it_is_down_otherwise() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let failed = |requests: &[Request]| requests.iter().filter(|r| r.status == Some(503)).count();
    let failures = || reasons(&posted(&lab, &web)).iter().filter(|reason| **reason == "SyncLoadBalancerFailed").count();
    lab.faults([down("one way")]);
    wait_for_reason(&web, "FlyUnavailable");
    let before = failed(&lab.requests());
    lab.wait_requests(LONG_DEADLINE, |requests| failed(requests) >= before + 5);
    wait_until("the event", DEADLINE, || failures() == 1);
    let since = status(&web);
    wait_for_another_second(&since.1);
    lab.faults([down("another way")]);
    wait_until("another message", LONG_DEADLINE, || condition(&web.object()).1.contains("another way"));
    wait_until("another event", DEADLINE, || written(&lab, &web).len() == 4);
    assert_eq!(failures(), 2);
    assert!(written(&lab, &web).iter().all(|event| event["count"] == 1));
    assert_eq!(status(&web), since, "it is false since the first");
}

/// The test has as many polls as an hour has by default: 720, and 60 looks at Fly. It sets the shortest intervals that
/// may be set.
#[test]
fn an_hour_of_polls_writes_nothing() {
    const POLLS: usize = 720;
    const LOOKS: usize = 60;
    let lab = Homelab::builder().fly(Settings { rate_limits: false, ..Settings::default() }).start();
    let operator = lab.operator(binary()).env("POLL_INTERVAL", "100ms").env("RESYNC_INTERVAL", "1s").start();
    let (web, _) = serving(&lab);
    wait_for_event(&lab, &web, "EnsuredLoadBalancer");
    wait_until("all is settled", DEADLINE, || operator.log().contains("Serving"));
    let object = web.object();
    let before = lab.requests().len();
    let since = |requests: &[Request]| requests[before..].to_vec();
    let count = |requests: &[Request], to, path: &str| {
        since(requests).iter().filter(|r| r.to == to && r.path.contains(path)).count()
    };
    lab.wait_requests(Duration::from_secs(240), |requests| {
        count(requests, Target::Kubernetes, "/services?") >= POLLS && count(requests, Target::Fly, "/machines") >= LOOKS
    });
    for request in since(&lab.requests()) {
        assert_eq!(request.method, "GET", "{request:?}");
        assert!(request.status.is_none_or(|status| status == 200), "{request:?}");
    }
    assert_eq!(web.object(), object, "the Service is as it was, to its resourceVersion");
    assert_eq!(reasons(&posted(&lab, &web)), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
}

/// A namespace that is being deleted refuses events with 403, and waits for our finalizer.
#[test]
fn a_namespace_that_goes_takes_its_tunnel_with_it() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let namespace = lab.new_namespace("going");
    let web = lab.service("web").namespace(&namespace).port(8080).create();
    web.address(DEADLINE);
    let path = format!("/api/v1/namespaces/{namespace}");
    lab.cluster().kube().delete(&path).expect("the namespace is to go");
    lab.cluster().kube().wait_until(&path, LONG_DEADLINE, |namespace| namespace.is_none());
    assert_nothing_left(&lab);
    let refused = |r: &Request| r.path.ends_with("/events") && r.status == Some(403);
    assert!(lab.requests().iter().any(refused), "the API server refused events, as was to be shown");
}

#[test]
fn events_that_cannot_be_written_hold_up_nothing() {
    let answer = |status| {
        let body = json!({ "kind": "Status", "code": status, "message": "no events today" }).to_string();
        Fault::Answer(Answer { status, headers: Default::default(), body })
    };
    let faults = [answer(500), answer(403), Fault::Refuse, Fault::Hold(Gate::default())];
    side_by_side(faults.len(), faults, |fault| {
        let lab = Homelab::new();
        let told = format!("{fault:?}");
        lab.faults([on_events(fault)]);
        let _operator = start(&lab);
        let web = lab.service("web").port(8080).create();
        // 25 s is less than a request may take, so an operator that waited for a held one would be too late.
        assert_answers(web.address(Duration::from_secs(25)), 8080, "web");
        wait_for_reason(&web, "Serving");
        assert!(!posted(&lab, &web).is_empty() && written(&lab, &web).is_empty(), "{told}");
        web.delete();
        web.wait_gone(Duration::from_secs(25));
    });
}

#[test]
fn what_no_tunnel_gives_is_served_with_a_warning_told_once() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let spec = json!({ "sessionAffinity": "ClientIP", "loadBalancerIP": "192.0.2.7" });
    let web = lab.service("web").port(8080).spec(spec).create();
    let ip = web.address(DEADLINE);
    assert_answers(ip, 8080, "web");
    let message = wait_for_reason(&web, "Serving");
    assert!(message.contains("sessionAffinity") && message.contains("loadBalancerIP"), "{message}");
    let warned = |field: &str| {
        let warnings = posted(&lab, &web).into_iter().filter(|event| event["type"] == "Warning");
        warnings.filter(|event| event["message"].as_str().is_some_and(|message| message.starts_with(field))).count()
    };
    // Fly fails and recovers, and the operator is restarted. Neither repeats the warnings.
    lab.faults([down("for a while")]);
    wait_for_reason(&web, "FlyUnavailable");
    lab.faults([]);
    wait_for_reason(&web, "Serving");
    operator.kill();
    let _operator = start(&lab);
    wait_for_another_look(&lab);
    assert_eq!((warned("sessionAffinity"), warned("loadBalancerIP")), (1, 1));
    assert_eq!(web.address(DEADLINE), ip);
}

/// The status and the time of our condition, which is the Service's only one.
fn status(web: &ServiceHandle) -> (String, String) {
    let conditions = web.object()["status"]["conditions"].clone();
    assert_eq!(conditions.as_array().map(Vec::len), Some(1), "{conditions}");
    let text = |field: &str| conditions[0][field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("lastTransitionTime"))
}

/// Waits until a time that is written now would be another than this.
fn wait_for_another_second(time: &str) {
    let now = || humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    wait_until("another second", DEADLINE, || now().as_str() > time);
}

/// By the conventions of the Kubernetes API the time tells since when the status holds, not when it was last written. The status
/// tells of traffic: a change of ports leaves it as it is, and so does an outage of Fly's API while frpc is connected.
#[test]
fn the_time_of_the_condition_moves_only_with_its_status() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let (served, since) = status(&web);
    wait_for_another_second(&since);
    web.set_ports(&[8080, 9090]);
    wait_for_reason(&web, "Updating");
    assert_eq!(status(&web), (served.clone(), since.clone()));
    wait_for_reason(&web, "Serving");
    assert_eq!(status(&web), (served, since.clone()));

    // frpc is connected, so everybody knows.
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    lab.faults([down("upstream unavailable")]);
    let message = wait_for_reason(&web, "FlyUnavailable");
    assert!(message.contains("users are served all the same"), "{message}");
    assert_eq!(status(&web), ("True".to_owned(), since.clone()));

    let kube = lab.cluster().kube();
    let deployment = kube.list(&deployments(&lab)).expect("a list")[0]["metadata"]["name"].clone();
    let path = format!("{}/{}", deployments(&lab), deployment.as_str().expect("a name"));
    kube.merge_patch(&path, &json!({ "spec": { "replicas": 0 } })).expect("somebody scales frpc to zero");
    wait_until("nobody knows", LONG_DEADLINE, || status(&web).0 == "Unknown");
    let (down, message) = (status(&web).1, condition(&web.object()).1);
    assert!(since < down && message.contains(&format!("since {down}")), "{down}: {message}");
    assert!(message.contains("traffic does not need the operator"), "{message}");
    operator.kill();
    wait_for_another_second(&down);
    let operator = start(&lab);
    let failed = |requests: &[Request]| requests.iter().filter(|r| r.status == Some(503)).count();
    let before = failed(&lab.requests());
    lab.wait_requests(DEADLINE, |requests| failed(requests) >= before + 5);
    assert_eq!(status(&web), ("Unknown".to_owned(), down.clone()), "another process knows no more");
    lab.faults([]);
    wait_for_reason(&web, "Serving");
    let (served, serving) = status(&web);
    assert_eq!(served, "True");
    assert!(down < serving, "{down} {serving}");

    operator.kill();
    wait_for_another_second(&serving);
    let annotation = json!({ "metadata": { "annotations": { "example.org/note": "of no interest to us" } } });
    lab.cluster().kube().merge_patch(&web.path(), &annotation).expect("the Service is changed");
    let _operator = start(&lab);
    wait_for_another_look(&lab);
    assert_eq!(status(&web), ("True".to_owned(), serving));
}

/// Waits until the operator that was started just now has looked at a tunnel that needs no change.
#[track_caller]
fn wait_for_another_look(lab: &Homelab) {
    let before = lab.requests().len();
    let looks = |requests: &[Request]| requests[before..].iter().filter(|r| r.path.ends_with("/machines")).count();
    lab.wait_requests(DEADLINE, |requests| looks(requests) > 1);
}

/// The step that deletes the old Machine fails again and again, though the tunnel serves.
#[test]
fn what_cannot_be_cleared_away_is_told_once() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let down = Answer { status: 503, headers: Default::default(), body: "{\"error\":\"host down\"}".into() };
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).method("DELETE").path("/machines/").times(u32::MAX)]);
    web.set_ports(&[8081]);
    let refused = |requests: &[Request]| requests.iter().filter(|r| r.status == Some(503)).count();
    lab.wait_requests(LONG_DEADLINE, |requests| refused(requests) >= 6);
    let told = |text: &str| operator.log().matches(text).count();
    assert_eq!((told("FlyUnavailable: "), told("Serving: ")), (1, 2), "{}", operator.log());
    lab.faults([]);
    wait_for_reason(&web, "Serving");
}

/// Users are served by the old lane all the while, so nobody sees it but whoever reads events.
#[test]
fn a_new_image_that_does_not_start_beside_a_lane_that_serves_is_one_warning() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    operator.kill();
    let image = "registry.example.com/none/no-such-image:bad";
    let operator = lab.operator(binary()).arg("--frps-image").arg(image).start();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    let (reason, message) = condition(&web.object());
    assert_eq!((reason.as_str(), status(&web).0.as_str()), ("Degraded", "True"));
    assert!(message.contains("the old lane serves on") && message.contains("fly logs"), "{message}");
    let made = || operator.log().matches("create Machine").count();
    let before = made();
    wait_until("another is tried", DEADLINE, || made() > before);
    let warnings = posted(&lab, &web).into_iter().filter(|event| event["type"] == "Warning").count();
    assert_eq!(warnings, 1);
    assert_answers(ip, 8080, "web");
}

/// The operator lacks a right, for example.
#[test]
fn what_the_cluster_refuses_the_operator_is_not_blamed_on_the_service() {
    let lab = Homelab::new();
    let forbidden = |message: &str| {
        let status = json!({ "kind": "Status", "reason": "Forbidden", "message": message });
        Fault::Answer(Answer { status: 403, headers: Default::default(), body: status.to_string() })
    };
    let rule = |message: &str| Rule::new(forbidden(message)).to(Target::Kubernetes).times(u32::MAX);
    lab.faults([
        rule("cannot patch resource \"deployments\"").method("PATCH").path("/deployments/"),
        rule("cannot create resource \"events\"").method("POST").path("/events$"),
    ]);
    let operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "Degraded");
    assert!(message.contains("cannot patch resource"), "{message}");
    let lost = |requests: &[Request]| requests.iter().filter(|r| r.path.ends_with("/events")).count() > 1;
    lab.wait_requests(DEADLINE, lost);
    let told = operator.log().matches("events cannot be written").count();
    assert_eq!(told, 1, "{}", operator.log());
    lab.faults([]);
    web.address(DEADLINE);
}

/// The API server refuses every new object in a namespace that is being deleted, with a 403 as for a missing right.
#[test]
fn events_that_a_namespace_on_its_way_out_refuses_are_no_missing_right() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    lab.cluster().kube().delete(&format!("/api/v1/namespaces/{}", web.namespace)).expect("the namespace is to go");
    web.wait_gone(LONG_DEADLINE);
    let refused = |r: &&Request| r.path.ends_with("/events") && r.status == Some(403);
    lab.wait_requests(DEADLINE, |requests| requests.iter().filter(refused).count() > 0);
    assert!(!operator.log().contains("events cannot be written"), "{}", operator.log());
}
