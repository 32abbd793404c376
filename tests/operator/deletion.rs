//! A Service that is deleted leaves nothing behind, and its finalizer goes last.

use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::json;

use crate::support::conditions::condition;
use crate::support::inventory::{FINALIZER, apps, assert_nothing_left, objects};
use crate::support::{DEADLINE, LONG_DEADLINE, serving, start, wait_until};

#[test]
fn nothing_is_left_and_the_finalizer_goes_last() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let before = lab.requests().len();
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);

    let requests = lab.requests().split_off(before);
    let position = |what: &str, wanted: &dyn Fn(&Request) -> bool| {
        requests.iter().rposition(wanted).unwrap_or_else(|| panic!("no {what} in {requests:#?}"))
    };
    let deleted = |what: &str| position(what, &|r| r.method == "DELETE" && r.path.contains(what));
    let order = [
        deleted("/deployments/"),
        deleted("/ip_assignments/"),
        deleted("/machines/"),
        deleted("?force=true"),
        position("404 of the App", &|r| r.to == Target::Fly && r.status == Some(404)),
        position("finalizer", &|r| r.method == "PATCH" && r.body.contains("/metadata/finalizers/0")),
    ];
    let app_deleted = requests.iter().position(|r| r.method == "DELETE" && r.path.ends_with("?force=true"));
    assert!(app_deleted.is_some());
    assert!(order.is_sorted(), "{order:?} in {requests:#?}");
    // A sweep lists what the organisation has, whatever happens to one tunnel.
    let of_the_app = |r: &&Request| r.to == Target::Fly && r.path.starts_with("/v1/apps/");
    let after: Vec<_> = requests[order[5] + 1..].iter().filter(of_the_app).collect();
    assert!(after.is_empty(), "{after:?}");
}

/// The API server itself clears class and status when the type changes. Only the finalizer tells that the Service was
/// ours.
#[test]
fn a_service_that_is_no_load_balancer_any_more_is_cleaned_up() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let change = json!({ "spec": { "type": "ClusterIP" } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
    wait_until("the finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    assert_nothing_left(&lab);
    assert_eq!(condition(&web.object()).0, "", "our condition goes too");
}

/// Somebody else's finalizer keeps the Service. Its address is released, and may be another customer's soon.
#[test]
fn a_service_that_somebody_else_keeps_shows_no_released_address() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let kube = lab.cluster().kube();
    let add = json!([{ "op": "add", "path": "/metadata/finalizers/-", "value": "example.com/other" }]);
    kube.json_patch(&web.path(), &add).expect("the finalizer is added");
    web.delete();
    let others = json!(["example.com/other"]);
    wait_until("our finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"] == others);
    assert_nothing_left(&lab);
    let status = &web.object()["status"];
    assert!(status["loadBalancer"]["ingress"].is_null(), "{status:#}");
    assert_eq!(condition(&web.object()).0, "");
    kube.merge_patch(&web.path(), &json!({ "metadata": { "finalizers": null } })).expect("the finalizer is taken away");
    web.wait_gone(DEADLINE);
}

/// The Service went to another class while no operator ran: what it shows is that class's.
#[test]
fn a_service_that_went_to_another_class_keeps_what_that_class_wrote() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let kube = lab.cluster().kube();
    kube.merge_patch(&web.path(), &json!({ "spec": { "type": "ClusterIP" } })).expect("the type is changed");
    let other = json!({ "spec": { "type": "LoadBalancer", "loadBalancerClass": "example.com/lb" } });
    kube.merge_patch(&web.path(), &other).expect("the type is changed again");
    let theirs = json!([{ "ip": "203.0.113.7", "ipMode": "VIP" }]);
    let status = json!({ "status": { "loadBalancer": { "ingress": theirs } } });
    kube.merge_patch(&format!("{}/status", web.path()), &status).expect("it is served");
    let _operator = start(&lab);
    wait_until("our finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    assert_nothing_left(&lab);
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"], theirs);
    assert_eq!(condition(&web.object()).0, "");
}

/// The type changes while no operator runs. The next one finds the Service by its finalizer.
#[test]
fn a_type_changed_behind_our_back_is_found_at_the_start() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let change = json!({ "spec": { "type": "ClusterIP" } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
    let _operator = start(&lab);
    wait_until("the finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    assert_nothing_left(&lab);
}

/// Fly answers 404 for a while, also to the DELETE. The finalizer stays until nothing is left.
#[test]
fn an_app_that_fly_does_not_show_yet_is_not_forgotten() {
    let late = Settings { app_appears_after: Duration::from_secs(8), ..Settings::default() };
    let lab = Homelab::builder().fly(late).start();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    let made = |r: &Request| r.to == Target::Fly && r.method == "POST" && r.path.starts_with("/v1/apps");
    lab.wait_requests(DEADLINE, |requests| requests.iter().any(|r| made(r) && r.status.is_some()));
    web.delete();
    wait_until("nothing is left", LONG_DEADLINE, || {
        let gone = web.object().is_null();
        assert!(!gone || apps(&lab).is_empty(), "the finalizer went while the App was there");
        gone
    });
    assert_nothing_left(&lab);
}

/// A Service whose finalizer somebody took away by force must not go on costing money.
#[test]
fn a_service_that_vanished_is_taken_down() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    assert!(web.object()["metadata"]["finalizers"][0].as_str().is_some_and(|name| name.starts_with(FINALIZER)));
    web.delete();
    let _ = lab.cluster().kube().merge_patch(&web.path(), &json!({ "metadata": { "finalizers": null } }));
    wait_until("nothing is left", LONG_DEADLINE, || apps(&lab).is_empty());
    wait_until("nothing is left in the cluster", DEADLINE, || objects(&lab).is_empty());
}
