//! The nodes. Each registers itself, renews its Lease, and runs the pods that the scheduler binds to it. All are tasks
//! of one process and share one watch of all pods.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::client::{ApiError, MERGE_PATCH, STRATEGIC_MERGE_PATCH};
use super::freeze::unless;
use super::lab::Lab;
use super::status::{PAPER_NODE_IP, now};
use super::watch::{Change, follow};
use super::{container, pod};
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

/// How a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    /// Everything on it stands still, and may go on one day.
    Frozen,
    /// Everything on it stands still, and is ended when it comes back. Somebody far away cannot tell it from a frozen one.
    Lost,
}

struct State {
    /// How the nodes are, by their names.
    health: HashMap<String, watch::Sender<Health>>,
    /// All pods bound to a node of ours, by uid.
    pods: HashMap<String, Pod>,
    workers: JoinSet<()>,
}

struct Pod {
    object: watch::Sender<Arc<Value>>,
    node: String,
    /// The task that runs the pod; `None` if the pod was bound to a node that is not up.
    worker: Option<AbortHandle>,
    /// Whether its object is gone. A node that is not up has not heard of that.
    gone: bool,
}

impl Nodes {
    pub(crate) fn start(lab: Arc<Lab>, names: impl Iterator<Item = String>) -> Nodes {
        let _runtime = runtime().enter();
        let mut tasks = JoinSet::new();
        let mut health = HashMap::new();
        for name in names {
            let (sender, receiver) = watch::channel(Health::Up);
            tasks.spawn(heartbeat(lab.clone(), name.clone(), receiver));
            health.insert(name, sender);
        }
        let state = Arc::new(Mutex::new(State { health, pods: HashMap::new(), workers: JoinSet::new() }));
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

    /// Loses a node: everything on it stands still, and nothing is heard of it from now on.
    pub(crate) fn down(&self, name: &str) {
        self.lock().stop(&self.lab, name, Health::Lost);
    }

    /// The same, but [`Self::thaw`] lets everything on it go on.
    pub(crate) fn freeze(&self, name: &str) {
        self.lock().stop(&self.lab, name, Health::Frozen);
    }

    /// Lets everything on a frozen node go on where it stood.
    pub(crate) fn thaw(&self, name: &str) {
        let mut state = self.lock();
        state.signal(&self.lab, name, libc::SIGCONT);
        state.set(&self.lab, name, Health::Up);
        state.start_pods(&self.lab, name);
    }

    /// Boots a node. What ran on it is ended, its pods are started anew, or terminated if they were deleted meanwhile.
    pub(crate) fn up(&self, name: &str) {
        let mut state = self.lock();
        let _runtime = runtime().enter();
        let State { pods, workers, health } = &mut *state;
        for pod in pods.values_mut().filter(|pod| pod.node == name) {
            let Some(old) = pod.worker.take() else { continue };
            old.abort();
            let (lab, object) = (self.lab.clone(), pod.object.subscribe());
            let run = async move {
                // The pod's folder is the old one's until that has ended.
                while !old.is_finished() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                pod::run(lab, object).await;
            };
            pod.worker = Some(workers.spawn(unless(|health| *health != Health::Up, health[name].subscribe(), run)));
        }
        state.set(&self.lab, name, Health::Up);
        state.start_pods(&self.lab, name);
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.lock().health.keys().cloned().collect()
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
                let Some(health) = self.health.get(node) else { return };
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                if let Some(pod) = self.pods.get(uid) {
                    pod.object.send_replace(object);
                    return;
                }
                let (uid, node, is_up) = (uid.to_owned(), node.to_owned(), *health.borrow() == Health::Up);
                let object = watch::Sender::new(object);
                self.pods.insert(uid, Pod { object, node: node.clone(), worker: None, gone: false });
                if is_up {
                    self.start_pods(lab, &node);
                }
            }
            Change::Gone(object) => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                let Some(pod) = self.pods.get_mut(uid) else { return };
                pod.gone = true;
                let node = pod.node.clone();
                self.end_gone_pods(&node);
            }
        }
    }

    /// Starts the pods of a node that do not run yet.
    fn start_pods(&mut self, lab: &Arc<Lab>, node: &str) {
        self.end_gone_pods(node);
        let _runtime = runtime().enter();
        let health = &self.health[node];
        for pod in self.pods.values_mut().filter(|pod| pod.node == node && pod.worker.is_none()) {
            let run = pod::run(lab.clone(), pod.object.subscribe());
            pod.worker = Some(self.workers.spawn(unless(|health| *health != Health::Up, health.subscribe(), run)));
        }
    }

    /// Ends the pods of a node whose objects are gone, if it is up to hear of it.
    fn end_gone_pods(&mut self, node: &str) {
        if *self.health[node].borrow() != Health::Up {
            return;
        }
        self.pods.retain(|_, pod| {
            let ends = pod.gone && pod.node == node;
            if let Some(worker) = pod.worker.as_ref().filter(|_| ends) {
                worker.abort();
            }
            !ends
        });
    }

    /// Lets everything on a node stand still. The kernel goes on to take what comes for its processes, and nobody answers.
    fn stop(&mut self, lab: &Lab, node: &str, health: Health) {
        self.set(lab, node, health);
        self.signal(lab, node, libc::SIGSTOP);
    }

    /// Sets how a node is, and tells those who run in this process itself.
    fn set(&mut self, lab: &Lab, node: &str, health: Health) {
        self.health.get(node).expect("the node exists").send_replace(health);
        let addresses: Vec<Ipv4Addr> =
            self.pods_on(node).filter_map(|pod| pod::address_of(&pod.object.borrow())).collect();
        lab.frozen.send_modify(|frozen| match health {
            Health::Up => frozen.retain(|address| !addresses.contains(address)),
            Health::Frozen | Health::Lost => frozen.extend(addresses),
        });
    }

    fn signal(&self, lab: &Lab, node: &str, signal: i32) {
        let processes = lab.processes.lock().expect("no one panics while holding it");
        for pod in self.pods_on(node) {
            let object = pod.object.borrow();
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let log = container::log_name(&text("namespace"), &text("name"), "");
            let of_it = processes.iter().filter(|(name, _)| name.starts_with(log.trim_end_matches(".log")));
            of_it.for_each(|(_, process)| process.signal(signal));
        }
    }

    fn pods_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| pod.node == node)
    }
}

/// Keeps a node alive while it is up.
async fn heartbeat(lab: Arc<Lab>, name: String, mut health: watch::Receiver<Health>) {
    let mut renewals = 0;
    loop {
        if *health.borrow_and_update() != Health::Up {
            renewals = 0;
            if health.changed().await.is_err() {
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
        // A change of its health ends the pause.
        let _ = tokio::time::timeout(pause, health.changed()).await;
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
