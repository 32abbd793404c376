//! The status of a Service, always whole: what an apply leaves out of what it owned is taken away.

use serde_json::{Value, json};

use crate::service::{CONDITION, Service};
use crate::tunnel::plan::Shown;

/// The body of the server-side apply to `services/status`. It names the Service's UID, so that one that was deleted
/// and made again never gets the old one's address. `now` is RFC 3339, used where the condition's status changes.
pub fn apply(service: &Service, shown: &Shown, now: &str) -> Value {
    let status = shown.reason.status();
    let since = service.condition().filter(|condition| condition.status == status);
    let since = since.map_or(now, |condition| condition.last_transition_time.as_str());
    // `Proxy`: kube-proxy must not answer for the address inside the cluster, or frpc's own dial never leaves the node.
    let ingress: Vec<Value> = shown.addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": "Proxy" })).collect();
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": service.metadata.namespace,
            "name": service.metadata.name,
            "uid": service.metadata.uid,
        },
        "status": {
            "conditions": [{
                "type": CONDITION,
                "status": status,
                "reason": shown.reason.to_string(),
                "message": shown.message,
                "lastTransitionTime": since,
            }],
        },
    });
    // An address that somebody else wrote, too.
    if !ingress.is_empty() || !service.addresses().is_empty() {
        body["status"]["loadBalancer"] = json!({ "ingress": ingress });
    }
    body
}
