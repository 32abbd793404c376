//! Our condition on a Service.

use lab::service::ServiceHandle;
use serde_json::Value;

use super::{LONG_DEADLINE, wait_until};

/// The reason and the message of our condition on the Service. Both are empty if there is none.
pub fn condition(service: &Value) -> (String, String) {
    (text(service, "reason"), text(service, "message"))
}

/// The status of our condition on the Service.
pub fn status(service: &Value) -> String {
    text(service, "status")
}

fn text(service: &Value, field: &str) -> String {
    let mut conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    let ours = conditions.find(|condition| condition["type"] == "fly-tunnel-operator.dev/Ready");
    ours.and_then(|condition| condition[field].as_str()).unwrap_or_default().to_owned()
}

/// Waits until our condition has this reason. Gives its message.
#[track_caller]
pub fn wait_for_reason(service: &ServiceHandle, reason: &str) -> String {
    wait_until(&format!("{reason} of {}", service.name), LONG_DEADLINE, || condition(&service.object()).0 == reason);
    condition(&service.object()).1
}
