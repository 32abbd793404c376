//! Our condition on a Service.

use lab::service::ServiceHandle;
use serde_json::Value;

use super::{LONG_DEADLINE, wait_until};

/// The reason and the message of our condition on the Service. Both are empty if there is none.
pub fn condition(service: &Value) -> (String, String) {
    let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ours = conditions.into_iter().find(|condition| condition["type"] == "fly-tunnel-operator.dev/Ready");
    let text = |field: &str| ours.as_ref().and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Waits until our condition has this reason. Gives its message.
#[track_caller]
pub fn wait_for_reason(service: &ServiceHandle, reason: &str) -> String {
    wait_until(&format!("{reason} of {}", service.name), LONG_DEADLINE, || condition(&service.object()).0 == reason);
    condition(&service.object()).1
}
