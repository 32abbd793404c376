//! The operator has the least rights that work: each is used, and none is missing.

use std::collections::BTreeSet;

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::rights::{EVERYWHERE, IN_ITS_NAMESPACE, IN_KUBE_SYSTEM};
use serde_json::json;

use crate::{DEADLINE, assert_nothing_left, binary, serving, wait_until};

/// What a request needs, as `group/resource verb`. Paths are `/api/v1/…` or `/apis/GROUP/v1/…`, then
/// `namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`; a namespace itself is an object in itself. Everybody may ask for the
/// version.
fn needed(request: &Request) -> Vec<String> {
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/version" {
        return Vec::new();
    }
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let group = if parts.remove(0) == "apis" { parts.remove(0) } else { "" };
    parts.remove(0); // the version
    if parts[0] == "namespaces" && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = match parts[..] {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => parts[0].to_owned(),
    };
    let verbs: &[&str] = match (request.method.as_str(), parts.len(), request.status) {
        ("GET", 1, _) => &["list"],
        ("GET", _, _) => &["get"],
        ("POST", _, _) => &["create"],
        ("DELETE", _, _) => &["delete"],
        ("PUT", _, _) => &["update"],
        // An apply that makes the object.
        ("PATCH", _, Some(201)) => &["patch", "create"],
        ("PATCH", _, _) => &["patch"],
        other => panic!("{other:?}"),
    };
    verbs.iter().map(|verb| format!("{group}/{resource} {verb}")).collect()
}

fn granted() -> BTreeSet<String> {
    let rules = EVERYWHERE.iter().chain(&IN_KUBE_SYSTEM).chain(&IN_ITS_NAMESPACE);
    rules.flat_map(|r| r.verbs.iter().map(|verb| format!("{}/{} {verb}", r.group, r.resource))).collect()
}

/// From the UID of kube-system and the Lease to the last finalizer, and the Lease's release.
#[test]
fn each_right_is_used_and_none_is_missing() {
    let lab = Homelab::new();
    let mut operator = lab.operator(binary()).without("CLUSTER_NAME").env("LEADER_ELECT", "true").start();
    let (web, _) = serving(&lab);
    // It leaves the list of load balancers, and is read by name.
    let change = json!({ "spec": { "type": "ClusterIP" } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
    wait_until("the finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    assert_nothing_left(&lab);
    operator.terminate();
    operator.wait(DEADLINE).expect("it ends");

    let requests = lab.requests();
    let answered = |r: &&Request| r.to == Target::Kubernetes && r.status.is_some();
    let refused: Vec<_> = requests.iter().filter(answered).filter(|r| r.status == Some(403)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<String> = requests.iter().filter(answered).flat_map(needed).collect();
    assert_eq!(used, granted());
}
