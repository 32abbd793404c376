//! The parts of tunnels that exist, at Fly and in the cluster.

use std::time::{Duration, Instant};

use lab::homelab::Homelab;
use serde_json::{Value, json};

use super::DEADLINE;

/// Our finalizer. A hash is added to it for the class of a lab.
pub const FINALIZER: &str = "fly-tunnel-operator.dev/finalizer";

/// The Apps of the lab's organisation.
pub fn apps(lab: &Homelab) -> Vec<Value> {
    let state = lab.fly().state();
    let apps = state["apps"].as_array().cloned().unwrap_or_default();
    apps.into_iter().filter(|app| app["org"] == lab.fly().organisation()).collect()
}

/// The names of the Deployments, ConfigMaps and Secrets of tunnels.
pub fn objects(lab: &Homelab) -> Vec<String> {
    let core = format!("/api/v1/namespaces/{}", lab.operator_namespace());
    let lists = [deployments(lab), format!("{core}/configmaps"), format!("{core}/secrets")];
    let all = lists.iter().flat_map(|list| lab.cluster().kube().list(list).expect("a list"));
    let names = all.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned));
    names.filter(|name| name.starts_with("lb-")).collect()
}

/// The path of frpc's Deployments.
pub fn deployments(lab: &Homelab) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments", lab.operator_namespace())
}

/// The number of Deployments of frpc with a ready pod.
pub fn ready(lab: &Homelab) -> usize {
    let listed = lab.cluster().kube().list(&deployments(lab)).expect("a list");
    listed.iter().filter(|deployment| deployment["status"]["availableReplicas"] == 1).count()
}

/// The pods of frpc that the API server has, those that end among them.
pub fn frpc_pods(lab: &Homelab) -> Vec<Value> {
    let pods = format!("/api/v1/namespaces/{}/pods", lab.operator_namespace());
    let mut pods = lab.cluster().kube().list(&pods).expect("a list");
    pods.retain(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("lb-")));
    pods
}

/// Asserts that there is one App with one address and one Machine, once all has settled.
#[track_caller]
pub fn assert_one_of_everything(lab: &Homelab) {
    let settled = || {
        let apps = apps(lab);
        apps.len() == 1
            && apps[0]["ips"].as_array().is_some_and(|ips| ips.len() == 1)
            && apps[0]["machines"].as_array().is_some_and(|machines| machines.len() == 1)
            && objects(lab).len() == 3
    };
    let end = Instant::now() + DEADLINE;
    while !settled() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(settled(), "Fly: {:#?}\ncluster: {:?}", apps(lab), objects(lab));
}

/// Asserts that nothing is left, neither at Fly nor in the cluster.
#[track_caller]
pub fn assert_nothing_left(lab: &Homelab) {
    assert_eq!(json!(apps(lab)), json!([]));
    assert_eq!(objects(lab), [""; 0]);
}

/// A Machine as Fly's API shows it, with its configuration.
pub fn machine_at_fly(lab: &Homelab, app: &str, id: &str) -> Value {
    let url = format!("http://{}/v1/apps/{app}/machines/{id}", lab.fly().address());
    let reply = ureq::get(&url).header("Authorization", format!("Bearer {}", lab.fly().token())).call();
    let reply = reply.expect("the Machine").body_mut().read_to_string().expect("a body");
    serde_json::from_str(&reply).expect("JSON")
}

/// Deletes an App or a Machine of it by Fly's API, as a person does.
pub fn delete_at_fly(lab: &Homelab, path: &str) {
    let url = format!("http://{}/v1{path}?force=true", lab.fly().address());
    let deleted = ureq::agent().delete(url).header("Authorization", format!("Bearer {}", lab.fly().token())).call();
    deleted.expect("it is deleted");
}
