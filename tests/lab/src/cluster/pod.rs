//! The life of one pod on its node: containers, status, termination.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::client::STRATEGIC_MERGE_PATCH;
use super::container;
use super::lab::Lab;
use super::spec::Pod;
use super::status::{Conditions, ContainerState, Waiting, status_patch};

/// The pause between two attempts to tell the API server something.
const RETRY: Duration = Duration::from_millis(500);

/// A pod, with its address and its folder. Both are given back when it is dropped.
pub(crate) struct PodContext {
    pub(crate) lab: Arc<Lab>,
    pub(crate) pod: Pod,
    /// The pod's loopback address, on which its processes listen.
    pub(crate) address: Ipv4Addr,
    /// The folder with the roots of its containers, and the volumes that they share.
    pub(crate) directory: PathBuf,
    containers: Mutex<Vec<ContainerState>>,
    changed: Notify,
}

/// Runs a pod until it is deleted and terminated. `updates` has the newest object from the API server. Dropping the
/// future kills the pod.
pub(crate) async fn run(lab: Arc<Lab>, mut updates: watch::Receiver<Arc<Value>>) {
    let object = updates.borrow_and_update().clone();
    let pod: Pod = match serde_json::from_value((*object).clone()) {
        Ok(pod) => pod,
        Err(error) => return refuse(&lab, &object, &format!("the lab cannot read this pod: {error}")).await,
    };
    if !pod.spec.init_containers.is_empty() {
        return refuse(&lab, &object, "the lab's nodes run no init containers").await;
    }
    let has_ended = matches!(pod.status["phase"].as_str(), Some("Succeeded" | "Failed"));
    let context = Arc::new(PodContext::new(lab, pod));
    let mut reporter = Reporter { context: context.clone(), conditions: Conditions::default(), version: 0 };

    let (stop, stopped) = watch::channel(None);
    let mut containers = JoinSet::new();
    let is_terminating = context.pod.metadata.deletion_timestamp.is_some();
    if !has_ended && !is_terminating {
        context.start(&mut containers, &stopped);
    }
    let grace = loop {
        let object = updates.borrow_and_update().clone();
        if let Some(grace) = termination(&object) {
            break grace;
        }
        if reporter.is_overwritten_by(&object) {
            context.changed.notify_one();
        }
        tokio::select! {
            () = context.changed.notified() => reporter.report().await,
            update = updates.changed() => if update.is_err() { return },
        }
    };

    stop.send_replace(Some(grace));
    {
        let mut all_ended = std::pin::pin!(async { while containers.join_next().await.is_some() {} });
        loop {
            tokio::select! {
                () = &mut all_ended => break,
                () = context.changed.notified() => reporter.report().await,
            }
        }
    }
    reporter.report().await;
    context.delete().await;
}

/// The grace period of a pod that is being deleted.
fn termination(object: &Value) -> Option<Duration> {
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].as_str()?;
    Some(Duration::from_secs(metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or_default()))
}

impl PodContext {
    fn new(lab: Arc<Lab>, pod: Pod) -> PodContext {
        let restarts_of = |name: &str| {
            let statuses = pod.status["containerStatuses"].as_array()?;
            let before = statuses.iter().find(|status| status["name"] == name)?;
            let ran = before["state"]["waiting"].is_null();
            Some(before["restartCount"].as_u64()? + u64::from(ran))
        };
        let containers = pod.spec.containers.iter();
        let containers = containers.map(|c| ContainerState::new(restarts_of(&c.name).unwrap_or_default())).collect();
        let address = lab.slot.pod_address();
        let directory = lab.slot.directory().join("pods").join(&pod.metadata.uid);
        PodContext { lab, pod, address, directory, containers: Mutex::new(containers), changed: Notify::new() }
    }

    /// Starts the containers. Without traffic, the status only says that they run.
    fn start(self: &Arc<Self>, containers: &mut JoinSet<()>, stop: &watch::Receiver<Option<Duration>>) {
        for (index, spec) in self.pod.spec.containers.iter().enumerate() {
            if self.lab.traffic {
                let (context, stop) = (self.clone(), stop.clone());
                containers.spawn(async move { container::run(&context, index, stop).await });
                continue;
            }
            self.update(index, |state| match self.lab.find_image(&spec.image) {
                Some(_) => {
                    state.run();
                    state.started = true;
                    state.ready = true;
                }
                None => state.wait(&Waiting::no_image(&spec.image)),
            });
        }
        self.changed.notify_one();
    }

    /// Changes the state of a container. If it is different afterwards, the API server is told.
    pub(crate) fn update(&self, index: usize, change: impl FnOnce(&mut ContainerState)) {
        let mut containers = self.containers.lock().expect("no one panics while holding it");
        let before = containers[index].clone();
        change(&mut containers[index]);
        if containers[index] != before {
            self.changed.notify_one();
        }
    }

    /// Removes the object, once nothing of the pod runs any more.
    async fn delete(&self) {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod.metadata.uid}});
        while let Err(error) = self.lab.client.delete(&self.path(), &options).await {
            if !error.is_passing() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.pod.metadata.namespace, self.pod.metadata.name)
    }
}

/// Reports the status of a pod to the API server.
struct Reporter {
    context: Arc<PodContext>,
    conditions: Conditions,
    /// The object's version after the last report; 0 before the first.
    version: u64,
}

impl Reporter {
    async fn report(&mut self) {
        let context = &self.context;
        let patch = {
            let containers = context.containers.lock().expect("no one panics while holding it");
            status_patch(&context.pod, &paper_address(context.address).to_string(), &containers, &mut self.conditions)
        };
        let path = format!("{}/status", context.path());
        match context.lab.client.patch(&path, STRATEGIC_MERGE_PATCH, &patch).await {
            Ok(object) => self.version = version(&object),
            Err(error) if error.is_passing() => {
                tokio::time::sleep(RETRY).await;
                context.changed.notify_one();
            }
            // The pod is gone, or there is another one of its name; the watch will tell.
            Err(error) if matches!(error.status, 404 | 409) => {}
            Err(error) => eprintln!("lab: the API server refuses the status of pod {}: {error}", context.path()),
        }
    }

    /// Whether somebody else has since written a `Ready` condition that is wrong. The controller manager marks the pods
    /// of a lost node as not ready, and may do so even after the node is back.
    fn is_overwritten_by(&self, object: &Value) -> bool {
        let containers = self.context.containers.lock().expect("no one panics while holding it");
        let ready = containers.iter().all(|container| container.ready);
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let says = |status: &str| {
            let mut conditions = conditions.clone();
            conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == status)
        };
        self.version != 0 && version(object) > self.version && says(if ready { "False" } else { "True" })
    }
}

/// The version of an object as a number that grows: it is etcd's revision.
fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or_default()
}

impl Drop for PodContext {
    fn drop(&mut self) {
        self.lab.slot.release_pod(self.address);
        // An error may be ignored: the rest is removed with the slot.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The address that a pod's status shows. EndpointSlices refuse loopback addresses, so a pod at 127.100.x.y shows
/// 10.244.x.y, to which nobody ever sends anything.
pub(crate) fn paper_address(address: Ipv4Addr) -> Ipv4Addr {
    let [_, _, high, low] = address.octets();
    Ipv4Addr::new(10, 244, high, low)
}

/// The reverse of [`paper_address`].
pub(crate) fn loopback_address(paper: Ipv4Addr, port: u16) -> SocketAddr {
    let [_, _, high, low] = paper.octets();
    SocketAddr::from((Ipv4Addr::new(127, 100, high, low), port))
}

/// The loopback address of a pod whose status shows one.
pub(crate) fn address_of(object: &Value) -> Option<Ipv4Addr> {
    let paper = object["status"]["podIP"].as_str()?.parse().ok()?;
    match loopback_address(paper, 0) {
        SocketAddr::V4(at) => Some(*at.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// Fails a pod that the lab does not run, with a message that says why.
async fn refuse(lab: &Lab, object: &Value, message: &str) {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}/status", text("namespace"), text("name"));
    let patch = json!({
        "metadata": {"uid": metadata["uid"]},
        "status": {"phase": "Failed", "reason": "NotInTheLab", "message": message},
    });
    let _ = lab.client.patch(&path, STRATEGIC_MERGE_PATCH, &patch).await;
}
