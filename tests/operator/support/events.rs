//! The operator's events on a Service.

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::service::ServiceHandle;
use serde_json::Value;

use super::{DEADLINE, wait_until};

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
