//! The nodes. Each registers itself, renews its Lease, and runs the pods that the scheduler binds to it. All are tasks
//! of one process and share one watch of all pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::client::{ApiError, MERGE_PATCH, STRATEGIC_MERGE_PATCH};
use super::lab::Lab;
use super::pod;
use super::status::{PAPER_NODE_IP, now};
use super::watch::{Change, follow};
use crate::runtime;

/// The pause between renewals of a node's Lease. The lab's controller manager calls a node lost after 24 s without one.
const RENEW: Duration = Duration::from_secs(2);
/// After so many renewals the node's status is written again, in case somebody has changed it.
const RENEWALS_PER_STATUS: u32 = 5;

/// All nodes of a lab.
pub(crate) struct Nodes {
    lab: Arc<Lab>,
    state: Arc<Mutex<State>>,
    /// The heartbeats of the nodes, and the watch of the pods.
    tasks: JoinSet<()>,
}

struct State {
    /// Whether a node is up, by its name.
    up: HashMap<String, watch::Sender<bool>>,
    /// All pods bound to a node of ours, by uid.
    pods: HashMap<String, Pod>,
    workers: JoinSet<()>,
}

struct Pod {
    object: watch::Sender<Arc<Value>>,
    node: String,
    /// The task that runs the pod; `None` while the node is down.
    worker: Option<AbortHandle>,
}

impl Nodes {
    pub(crate) fn start(lab: Arc<Lab>, names: impl Iterator<Item = String>) -> Nodes {
        let _runtime = runtime().enter();
        let mut tasks = JoinSet::new();
        let mut up = HashMap::new();
        for name in names {
            let (sender, receiver) = watch::channel(true);
            tasks.spawn(heartbeat(lab.clone(), name.clone(), receiver));
            up.insert(name, sender);
        }
        let state = Arc::new(Mutex::new(State { up, pods: HashMap::new(), workers: JoinSet::new() }));
        let (watched, client) = ((lab.clone(), state.clone()), lab.client.clone());
        tasks.spawn(async move {
            let (lab, state) = watched;
            follow(client, "/api/v1/pods", |change| {
                state.lock().expect("no one panics while holding it").see(&lab, change);
            })
            .await;
        });
        Nodes { lab, state, tasks }
    }

    /// Kills everything that runs on a node. Nothing is heard of the node from now on.
    pub(crate) fn down(&self, name: &str) {
        let mut state = self.lock();
        state.up.get(name).expect("the node exists").send_replace(false);
        for pod in state.pods.values_mut().filter(|pod| pod.node == name) {
            if let Some(worker) = pod.worker.take() {
                worker.abort();
            }
        }
    }

    /// Brings a node back. Its pods are started anew, or terminated if they were deleted meanwhile.
    pub(crate) fn up(&self, name: &str) {
        let state = &mut *self.lock();
        state.up.get(name).expect("the node exists").send_replace(true);
        let _runtime = runtime().enter();
        for pod in state.pods.values_mut().filter(|pod| pod.node == name && pod.worker.is_none()) {
            pod.worker = Some(state.workers.spawn(pod::run(self.lab.clone(), pod.object.subscribe())));
        }
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.lock().up.keys().cloned().collect()
    }

    /// Ends all nodes and everything that they run. Returns when all of it is gone.
    pub(crate) async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
        let mut workers = std::mem::take(&mut self.lock().workers);
        workers.shutdown().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding it")
    }
}

impl State {
    fn see(&mut self, lab: &Arc<Lab>, change: Change) {
        while self.workers.try_join_next().is_some() {}
        match change {
            Change::Set(object) => {
                let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
                let Some(up) = self.up.get(node) else { return };
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                if let Some(pod) = self.pods.get(uid) {
                    pod.object.send_replace(object);
                    return;
                }
                let (sender, receiver) = watch::channel(object.clone());
                let worker = up.borrow().then(|| self.workers.spawn(pod::run(lab.clone(), receiver)));
                self.pods.insert(uid.to_owned(), Pod { object: sender, node: node.to_owned(), worker });
            }
            Change::Gone(object) => {
                let gone = self.pods.remove(object["metadata"]["uid"].as_str().unwrap_or_default());
                if let Some(worker) = gone.and_then(|pod| pod.worker) {
                    worker.abort();
                }
            }
        }
    }
}

/// Keeps a node alive while it is up.
async fn heartbeat(lab: Arc<Lab>, name: String, mut up: watch::Receiver<bool>) {
    let mut renewals = 0;
    loop {
        if !*up.borrow_and_update() {
            renewals = 0;
            if up.changed().await.is_err() {
                return;
            }
            continue;
        }
        let written = async {
            if renewals % RENEWALS_PER_STATUS == 0 {
                register(&lab, &name).await?;
            }
            renew_lease(&lab, &name).await
        };
        let pause = if written.await.is_ok() { RENEW } else { RENEW / 10 };
        renewals += 1;
        // A change of `up` ends the pause.
        let _ = tokio::time::timeout(pause, up.changed()).await;
    }
}

async fn register(lab: &Lab, name: &str) -> Result<(), ApiError> {
    // The node has more resources than anybody asks for. So a pod's place depends on nothing but the settings of the
    // test.
    let resources = json!({"cpu": "10000", "memory": "100Ti", "ephemeral-storage": "100Ti", "pods": "10000"});
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Lab", "lastHeartbeatTime": now(), "lastTransitionTime": now()});
    let status = json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": PAPER_NODE_IP},
            {"type": "ExternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": lab.kubelet_port}},
        "conditions": [
            condition("Ready", "True"),
            condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"),
            condition("PIDPressure", "False"),
        ],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3", "bootID": "", "machineID": "",
            "systemUUID": "", "kernelVersion": "", "osImage": "lab", "containerRuntimeVersion": "lab://1",
            "kubeProxyVersion": "",
        },
    }});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
    }}});
    ignore_existing(lab.client.create("/api/v1/nodes", &node).await)?;
    lab.client.patch(&format!("/api/v1/nodes/{name}/status"), STRATEGIC_MERGE_PATCH, &status).await?;
    Ok(())
}

async fn renew_lease(lab: &Lab, name: &str) -> Result<(), ApiError> {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let renewed = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 8, "renewTime": renewed});
    match lab.client.patch(&format!("{LEASES}/{name}"), MERGE_PATCH, &json!({"spec": spec})).await {
        Err(error) if error.status == 404 => {
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
            ignore_existing(lab.client.create(LEASES, &lease).await)
        }
        answer => answer.map(drop),
    }
}

fn ignore_existing(answer: Result<Value, ApiError>) -> Result<(), ApiError> {
    match answer {
        Err(error) if error.status != 409 => Err(error),
        _ => Ok(()),
    }
}
