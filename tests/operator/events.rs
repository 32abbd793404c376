//! Events: one for each thing that happened, none for its repetition, and never in the way.

use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Gate, Request, Rule, Target};
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::client::assert_answers;
use crate::{
    DEADLINE, LONG_DEADLINE, assert_nothing_left, binary, condition, serving, start, wait_for_reason, wait_until,
};

/// The events on the Service that the operator tried to write, in order.
pub fn posted(lab: &Homelab, service: &ServiceHandle) -> Vec<Value> {
    let is_event = |r: &Request| r.to == Target::Kubernetes && r.method == "POST" && r.path.ends_with("/events");
    let requests = lab.requests().into_iter().filter(is_event);
    let events = requests.map(|r| serde_json::from_str::<Value>(&r.body).expect("an event is JSON"));
    events.filter(|event| event["involvedObject"]["name"] == service.name.as_str()).collect()
}

/// The operator's events on the Service as the cluster has them, in no order.
pub fn written(lab: &Homelab, service: &ServiceHandle) -> Vec<Value> {
    let events = lab.cluster().kube().list(&format!("/api/v1/namespaces/{}/events", service.namespace));
    let ours = |event: &Value| {
        event["involvedObject"]["kind"] == "Service"
            && event["involvedObject"]["name"] == service.name.as_str()
            && event["source"]["component"] == "fly-tunnel-operator"
    };
    events.expect("a list").into_iter().filter(ours).collect()
}

/// Waits until the Service has an event with that reason.
#[track_caller]
pub fn wait_for_event(lab: &Homelab, service: &ServiceHandle, reason: &str) {
    let is_there = || written(lab, service).iter().any(|event| event["reason"] == reason);
    wait_until(&format!("{reason} on {}", service.name), DEADLINE, is_there);
}

fn reasons(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["reason"].as_str()).collect()
}

/// Fly as it answers when it is down.
fn down(text: &str) -> Rule {
    let body = json!({ "error": text }).to_string();
    let answer = Answer { status: 503, headers: Default::default(), body };
    Rule::new(Fault::Answer(answer)).to(Target::Fly).times(u32::MAX)
}

/// What struck a request that was to write an event.
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
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let tried = |times: usize, since: usize| {
        lab.wait_requests(LONG_DEADLINE, |requests| {
            requests[since..].iter().filter(|r| r.status == Some(503)).count() >= times
        });
    };
    let failures = || reasons(&posted(&lab, &web)).iter().filter(|reason| **reason == "SyncLoadBalancerFailed").count();
    lab.faults([down("one way")]);
    tried(5, 0);
    assert_eq!(failures(), 1, "{}", operator.log());
    lab.faults([down("another way")]);
    tried(1, lab.requests().len());
    wait_until("the second event", DEADLINE, || failures() == 2);
    lab.faults([]);
    wait_until("it serves again", LONG_DEADLINE, || condition(&web.object()).0 == "Serving");
    wait_until("and says so", DEADLINE, || written(&lab, &web).len() == 5);
    let story = ["SyncLoadBalancerFailed", "SyncLoadBalancerFailed", "EnsuredLoadBalancer"];
    assert_eq!(reasons(&posted(&lab, &web))[2..], story);
    assert!(written(&lab, &web).iter().all(|event| event["count"] == 1));
}

/// The shortest intervals that may be set, of which one hour by default has as many: 720 polls and 60 looks at Fly.
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

/// It refuses events with 403, and waits for our finalizer.
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
    let gate = Gate::default();
    for fault in [answer(500), answer(403), Fault::Refuse, Fault::Hold(gate.clone())] {
        let lab = Homelab::new();
        let told = format!("{fault:?}");
        lab.faults([on_events(fault)]);
        let operator = start(&lab);
        let web = lab.service("web").port(8080).create();
        // Well below what a request may take, in which a held one ends.
        assert_answers(web.address(Duration::from_secs(20)), 8080, "web");
        wait_for_reason(&web, "Serving");
        assert!(!posted(&lab, &web).is_empty() && written(&lab, &web).is_empty(), "{told}");
        web.delete();
        web.wait_gone(Duration::from_secs(20));
        assert!(!operator.log().contains("ERROR"), "{told}: {}", operator.log());
    }
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
    // Fly goes and comes back, and so does the operator.
    lab.faults([down("for a while")]);
    wait_for_reason(&web, "FlyUnavailable");
    lab.faults([]);
    wait_for_reason(&web, "Serving");
    operator.kill();
    let before = lab.requests().len();
    let _operator = start(&lab);
    lab.wait_requests(DEADLINE, |requests| {
        requests[before..].iter().filter(|r| r.path.ends_with("/machines")).count() > 1
    });
    assert_eq!((warned("sessionAffinity"), warned("loadBalancerIP")), (1, 1));
    assert_eq!(web.address(DEADLINE), ip);
}

/// As the API's conventions have it: for how long it has been so, not when it was last written.
#[test]
fn the_time_of_the_condition_moves_only_with_its_status() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let seen = || {
        let conditions = web.object()["status"]["conditions"].clone();
        assert_eq!(conditions.as_array().map(Vec::len), Some(1), "{conditions}");
        let text = |field: &str| conditions[0][field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("lastTransitionTime"))
    };
    let a_second = || std::thread::sleep(Duration::from_millis(1100)); // times are in seconds
    let (status, since) = seen();
    assert_eq!(status, "True");
    a_second();
    web.set_ports(&[8080, 9090]);
    wait_for_reason(&web, "Updating");
    let (status, updating) = seen();
    assert!(status == "False" && updating > since, "{updating}");
    wait_for_reason(&web, "Serving");
    let (status, again) = seen();
    assert!(status == "True" && again > updating, "{again}");
    // Another reason, the same status.
    a_second();
    lab.faults([down("one way")]);
    wait_for_reason(&web, "FlyUnavailable");
    let (status, unavailable) = seen();
    assert!(status == "False" && unavailable > again, "{unavailable}");
    a_second();
    lab.faults([down("another way")]);
    wait_until("another message", LONG_DEADLINE, || condition(&web.object()).1.contains("another way"));
    assert_eq!(seen(), ("False".to_owned(), unavailable));
    lab.faults([]);
    wait_until("it serves", LONG_DEADLINE, || condition(&web.object()).0 == "Serving");
    // A restart, and a change that alters nothing of the condition.
    let (_, serving) = seen();
    operator.kill();
    a_second();
    let before = lab.requests().len();
    let _operator = start(&lab);
    lab.wait_requests(DEADLINE, |requests| {
        requests[before..].iter().filter(|r| r.path.ends_with("/machines")).count() > 1
    });
    assert_eq!(seen(), ("True".to_owned(), serving));
}
