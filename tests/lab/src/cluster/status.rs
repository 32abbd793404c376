//! The status that a node reports of its pods.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::spec::{Pod, RestartPolicy};

/// The reason why a container does not run yet: a word for programs and a sentence for people.
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Waiting {
    /// No registry has its image.
    pub(crate) fn no_image(image: &str) -> Waiting {
        Waiting { reason: "ErrImagePull", message: format!("the lab has no image {image}") }
    }

    /// Its volumes are not ready.
    pub(crate) fn creating(message: String) -> Waiting {
        Waiting { reason: "ContainerCreating", message }
    }

    /// Its command or environment cannot be put together.
    pub(crate) fn config(message: String) -> Waiting {
        Waiting { reason: "CreateContainerConfigError", message }
    }
}

/// One container, as its node sees it.
#[derive(Clone, PartialEq)]
pub(crate) struct ContainerState {
    pub(crate) now: Value,
    pub(crate) last: Value,
    pub(crate) ready: bool,
    pub(crate) started: bool,
    pub(crate) restart_count: u64,
}

impl ContainerState {
    /// A container that this node has not started yet, with the restarts that it had before.
    pub(crate) fn new(restart_count: u64) -> ContainerState {
        ContainerState { now: creating(), last: json!({}), ready: false, started: false, restart_count }
    }

    pub(crate) fn wait(&mut self, waiting: &Waiting) {
        self.now = json!({"waiting": {"reason": waiting.reason, "message": waiting.message}});
    }

    pub(crate) fn run(&mut self) {
        self.now = json!({"running": {"startedAt": now()}});
    }

    /// Records that it ended with this exit code.
    pub(crate) fn terminate(&mut self, exit_code: i32, message: &str) {
        let started = self.now["running"]["startedAt"].clone();
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        self.now = json!({"terminated": {
            "exitCode": exit_code, "reason": reason, "message": message, "startedAt": started, "finishedAt": now(),
        }});
        self.ready = false;
        self.started = false;
    }

    /// Records that it is about to be started again.
    pub(crate) fn restart(&mut self) {
        self.last = std::mem::replace(&mut self.now, creating());
        self.restart_count += 1;
    }

    fn is_running(&self) -> bool {
        !self.now["running"].is_null()
    }

    fn exit_code(&self) -> Option<i64> {
        self.now["terminated"]["exitCode"].as_i64()
    }
}

/// The state of a container that is about to be started.
fn creating() -> Value {
    json!({"waiting": {"reason": "ContainerCreating"}})
}

/// The time at which each condition of a pod last changed.
#[derive(Default)]
pub(crate) struct Conditions(BTreeMap<&'static str, (bool, String)>);

impl Conditions {
    fn entry(&mut self, name: &'static str, holds: bool) -> Value {
        let known = self.0.get(name).filter(|(before, _)| *before == holds).cloned();
        let (_, since) = known.unwrap_or_else(|| (holds, now()));
        self.0.insert(name, (holds, since.clone()));
        let status = if holds { "True" } else { "False" };
        json!({"type": name, "status": status, "lastTransitionTime": since})
    }
}

/// The patch of a pod's status. It is a strategic merge patch, so the scheduler's condition stays.
pub(crate) fn status_patch(
    pod: &Pod,
    paper_ip: &str,
    containers: &[ContainerState],
    conditions: &mut Conditions,
) -> Value {
    let ready = containers.iter().all(|container| container.ready);
    let statuses: Vec<Value> = pod.spec.containers.iter().zip(containers).map(container_status).collect();
    let conditions: Vec<Value> =
        [("Initialized", true), ("PodReadyToStartContainers", true), ("ContainersReady", ready), ("Ready", ready)]
            .into_iter()
            .map(|(name, holds)| conditions.entry(name, holds))
            .collect();
    let status = json!({
        "phase": phase(pod.spec.restart_policy, containers),
        "conditions": conditions,
        "containerStatuses": statuses,
        "hostIP": PAPER_NODE_IP,
        "podIP": paper_ip,
        // `replace` removes the address that the pod had before its node was lost. A merge would keep it beside the new
        // one.
        "podIPs": [{"ip": paper_ip}, {"$patch": "replace"}],
    });
    // The uid makes the patch fail if there is a newer pod of the same name.
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// The address of all nodes, which is only shown: nothing listens there.
pub(crate) const PAPER_NODE_IP: &str = "10.0.0.1";

fn phase(policy: RestartPolicy, containers: &[ContainerState]) -> &'static str {
    let has_run = |container: &ContainerState| {
        container.is_running() || container.exit_code().is_some() || container.restart_count > 0
    };
    let ended_for_good = |container: &ContainerState| match (policy, container.exit_code()) {
        (RestartPolicy::Always, _) | (_, None) => false,
        (RestartPolicy::OnFailure, Some(code)) => code == 0,
        (RestartPolicy::Never, Some(_)) => true,
    };
    if containers.iter().all(ended_for_good) {
        let succeeded = containers.iter().all(|container| container.exit_code() == Some(0));
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    if containers.iter().all(has_run) { "Running" } else { "Pending" }
}

fn container_status((spec, state): (&super::spec::Container, &ContainerState)) -> Value {
    json!({
        "name": spec.name,
        "image": spec.image,
        "imageID": "",
        "state": state.now,
        "lastState": state.last,
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restart_count,
    })
}

/// A time as the API server writes it, in whole seconds.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
