//! The status of a Service, always whole: what an apply leaves out of what it owned is taken away.

use serde_json::{Value, json};

use crate::service::{CONDITION, PROXY, Service};
use crate::tunnel::condition::Shown;
use crate::tunnel::ready::rfc3339;

/// The body of the server-side apply to `services/status`. It names the Service's UID, so that one that was deleted
/// and made again never gets the old one's address. `now` is RFC 3339, used where the condition's status changes.
pub fn apply(service: &Service, shown: &Shown, now: &str) -> Value {
    let status = shown.ready.status();
    // Somebody may have taken the time out of it, and an empty one is refused.
    let since = service.condition().filter(|c| c.status == status && !c.last_transition_time.is_empty());
    let since = since.map_or_else(
        || shown.ready.since().map_or_else(|| now.to_owned(), rfc3339),
        |condition| condition.last_transition_time.clone(),
    );
    let ingress: Vec<Value> = shown.addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": PROXY })).collect();
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
                "reason": shown.condition.reason.to_string(),
                "message": shown.message(),
                "lastTransitionTime": since,
            }],
        },
    });
    // An empty list takes away what somebody else wrote.
    let differs = !ingress.is_empty() || !service.status.load_balancer.ingress.is_empty();
    if differs && !shown.condition_alone {
        body["status"]["loadBalancer"] = json!({ "ingress": ingress });
    }
    body
}
