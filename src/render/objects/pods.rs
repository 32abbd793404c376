//! The frpc pods, as far as they tell why frpc does not run.

use serde::Deserialize;

use super::MACHINE_LABEL;
use crate::render::null_is_default;
use crate::service::{ObjectMeta, StatusCondition};
use crate::tunnel::observed::Objects;

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: ObjectMeta,
    pub status: PodStatus,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<StatusCondition>,
    #[serde(deserialize_with = "null_is_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    pub state: ContainerState,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<Waiting>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A container that is on its way waits for these reasons (kubelet).
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Takes down why the cluster does not run the Deployments that are not available.
pub fn explain(objects: &mut Objects, pods: &[Pod]) {
    for deployment in objects.deployments.iter_mut().filter(|deployment| !deployment.available) {
        let machine = Some(&deployment.object.machine);
        let its_own = pods.iter().filter(|pod| pod.metadata.labels.get(MACHINE_LABEL) == machine);
        deployment.trouble = deployment.trouble.take().or_else(|| its_own.into_iter().find_map(trouble));
    }
}

/// Why the pod does not run, in the cluster's own words; `None` while it is on its way or runs.
fn trouble(Pod { status, .. }: &Pod) -> Option<String> {
    let said = |reason: &str, message: &str| {
        if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") }
    };
    let unscheduled = status.conditions.iter().find(|c| c.status == "False" && c.reason == "Unschedulable");
    if let Some(condition) = unscheduled {
        return Some(said(&condition.reason, &condition.message));
    }
    let waiting = status.container_statuses.iter().filter_map(|container| container.state.waiting.as_ref());
    let mut stuck = waiting.filter(|waiting| !ON_ITS_WAY.contains(&waiting.reason.as_str()));
    stuck.next().map(|Waiting { reason, message }| match reason.as_str() {
        // The kubelet pulls, pauses and pulls again: it is one trouble under two names.
        "ErrImagePull" | "ImagePullBackOff" => said("the image cannot be pulled", pull_failure(message)),
        _ => said(reason, message),
    })
}

/// `Back-off pulling image "frpc": ErrImagePull: …` and `…` mean the same.
fn pull_failure(message: &str) -> &str {
    message.split_once("ErrImagePull: ").map_or(message, |(_, failure)| failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        for (pod, expected) in [
            (r#"{"status":{"containerStatuses":[{"state":{"running":{}}}]}}"#, None),
            (r#"{"status":{"containerStatuses":[{"state":{"waiting":{"reason":"ContainerCreating"}}}]}}"#, None),
            (r#"{"status":{"containerStatuses":null}}"#, None),
            (
                r#"{"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes"}]}}"#,
                Some("Unschedulable: 0/1 nodes"),
            ),
            (
                r#"{"status":{"containerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull","message":"no such image"}}}]}}"#,
                Some("the image cannot be pulled: no such image"),
            ),
            (
                r#"{"status":{"containerStatuses":[{"state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"x\": ErrImagePull: no such image"}}}]}}"#,
                Some("the image cannot be pulled: no such image"),
            ),
            (
                r#"{"status":{"containerStatuses":[{"state":{"waiting":{"reason":"CreateContainerConfigError","message":"secret \"x\" not found"}}}]}}"#,
                Some("CreateContainerConfigError: secret \"x\" not found"),
            ),
        ] {
            let pod: Pod = serde_json::from_str(pod).expect("a pod");
            assert_eq!(trouble(&pod).as_deref(), expected);
        }
    }
}
