//! Several operators in one cluster, with different names and namespaces: each drain takes down its own tunnels only.

use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use lab::recorder::{Answer, Fault, Request, Rule, Target};
use serde_json::{Map, Value, json};

use super::{assert_untouched, by_administrator, drain};
use crate::support::client::assert_answers;
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_nothing_left, objects};
use crate::support::lease::{candidate, expendable, leader, reigns, steps};
use crate::support::{DEADLINE, LONG_DEADLINE, ended, serving, start, wait_until};

/// The operator that has the Lease goes on, and its Services show nothing of the attempt.
#[test]
fn what_is_known_to_fail_or_to_hit_another_operator_is_not_begun() {
    let lab = Homelab::new();
    let _operator = leader(candidate(&lab, "a"));
    let (web, _) = serving(&lab);
    let before = web.object();
    let of_namespace = format!("its frpc is in the namespace {}", lab.operator_namespace());
    let refused = |drain: Operator, said: &str| {
        let (code, log) = ended(drain.start());
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(said), "{log}");
        assert!(reigns(&lab).iter().all(|(from, ..)| from == "a") && steps(&lab, "drain").is_empty(), "{log}");
        assert_eq!(web.object(), before);
    };
    refused(by_administrator(&lab).env("FLY_API_TOKEN", "not-a-token"), "Fly does not take the token");
    refused(by_administrator(&lab).env("CLUSTER_NAME", "renamed"), "Give --drain the --cluster-name");
    refused(astray(&lab), &of_namespace);
    refused(astray(&lab).env("CLUSTER_NAME", "renamed"), &of_namespace);
    // The operator was in the other namespace before, and left some of its objects there.
    left_over(&lab, None);
    refused(astray(&lab), &format!("leads by the Lease in the namespace {}", lab.operator_namespace()));
}

/// Copies a ConfigMap of the tunnel into a namespace that is not the operator's. The copy's label names `app`, or the same
/// App as before.
fn left_over(lab: &Homelab, app: Option<&str>) {
    let kube = lab.cluster().kube();
    let config_maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let ours = kube.list(&config_maps(lab.operator_namespace())).expect("a list");
    let ours = ours.into_iter().find(is_labelled).expect("frpc's");
    let mut labels = ours["metadata"]["labels"].clone();
    if let Some(app) = app {
        labels["fly-tunnel-operator.dev/app"] = json!(app);
    }
    let copy = json!({ "metadata": { "name": "left-over", "labels": labels } });
    kube.create(&config_maps(lab.namespace()), &copy).expect("a ConfigMap");
}

fn is_labelled(object: &Value) -> bool {
    object["metadata"]["labels"]["fly-tunnel-operator.dev/owner"].is_string()
}

/// A drain by a user who may see all namespaces, and who gave another namespace than the operator's. Nobody holds the
/// Lease there.
fn astray(lab: &Homelab) -> Operator<'_> {
    by_administrator(lab).env("OPERATOR_NAMESPACE", lab.namespace())
}

/// A drain by a user who may see no namespace but the one that was given. It takes down what it finds.
fn shortsighted(lab: &Homelab) -> Operator<'_> {
    let forbidden = Answer { status: 403, headers: Map::new(), body: "{}".into() };
    let all = r"^/(api|apis/apps|apis/coordination.k8s.io)/v1/(deployments|configmaps|secrets|leases)\?";
    lab.faults([Rule::new(Fault::Answer(forbidden)).from("drain").path(all).times(u32::MAX)]);
    astray(lab)
}

/// Nothing in the drain's namespace tells who owns the tunnel, but Fly does.
#[test]
fn of_another_name_and_namespace_it_leaves_what_is_served_as_it_is() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let before = web.object();
    let (code, log) = ended(shortsighted(&lab).env("CLUSTER_NAME", "renamed").start());
    assert_eq!(code, Some(1), "{log}");
    for said in ["Give --drain the --cluster-name and --namespace", "what is left is billed"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(web.object(), before);
    assert_answers(ip, 8080, "web");
}

/// The objects are left from an earlier install, and their App is gone.
#[test]
fn objects_that_another_namespace_has_beside_ours_are_in_nobodys_way() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    left_over(&lab, Some("lb-of-an-earlier-install"));
    let (code, log) = ended(by_administrator(&lab).start());
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
    let config_maps = format!("/api/v1/namespaces/{}/configmaps", lab.namespace());
    assert!(lab.cluster().kube().list(&config_maps).expect("a list").iter().any(is_labelled));
}

/// An uninstall and an install have changed the cluster name, so there are tunnels of two owners. A drain takes down
/// those of the name that it is given.
#[test]
fn where_two_owners_have_tunnels_each_is_drained_by_its_name() {
    let lab = Homelab::new();
    let first = leader(expendable(&lab, "a"));
    let (web, _) = serving(&lab);
    first.kill();
    let second = expendable(&lab, "b").env("CLUSTER_NAME", "renamed").start();
    let other = lab.service("other").port(8081).create();
    wait_for_reason(&other, "Serving");
    second.kill();
    let status = other.object()["status"].clone();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    let told = log.lines().find(|line| line.contains("/other: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("Give --drain the --cluster-name"), "{told}");
    assert_untouched(&web);
    assert_eq!(other.object()["status"], status);
    let (code, log) = ended(candidate(&lab, "drain").arg("--drain").env("CLUSTER_NAME", "renamed").start());
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&other);
}

/// Asserts that the drain gave up, and told which operator to end.
#[track_caller]
fn assert_told_of_another(drain: RunningOperator, lab: &Homelab) {
    let (code, log) = ended(drain);
    assert_eq!(code, Some(1), "{log}");
    for said in ["--namespace", &format!("Service {}/web", lab.namespace())] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn an_operator_of_another_namespace_that_makes_tunnels_again_is_told_of() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.pause();
    let drain = shortsighted(&lab).env("POLL_INTERVAL", "10s").start();
    wait_until("all is down", LONG_DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    operator.resume();
    assert_told_of_another(drain, &lab);
}

/// No operator was there to make the tunnel again after the first drain. A drain of the right namespace finds the
/// objects that the first one did not see.
#[test]
fn what_a_drain_of_another_namespace_left_is_taken_down_by_one_of_the_right_one() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let (code, log) = ended(shortsighted(&lab).start());
    assert_eq!(code, Some(0), "{log}");
    assert_eq!((apps(&lab).len(), objects(&lab).len()), (0, 3), "frpc is left");
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// The drain takes a tunnel down, and the operator makes it again. Each round of such a fight is an address that is
/// billed.
#[test]
fn an_operator_of_another_namespace_is_not_fought_without_end() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let services = [8080, 8081, 8082].map(|port| lab.service(&format!("web-{port}")).port(port).create());
    for service in &services {
        service.address(DEADLINE);
        wait_for_reason(service, "Serving");
    }
    assert_told_of_another(shortsighted(&lab).start(), &lab);
    let allocated = |r: &Request| r.to == Target::Fly && r.method == "POST" && r.path.ends_with("/ip_assignments");
    let addresses = lab.requests().iter().filter(|r| allocated(r)).count();
    assert!(addresses <= 4 * services.len(), "{addresses} addresses");
    for service in &services {
        wait_for_reason(service, "Serving");
    }
}
