//! A cluster: a real control plane, and nodes that run pods as processes of this machine.
//!
//! ```text
//!   control_plane   etcd · kube-apiserver · kube-controller-manager · kube-scheduler       (processes)
//!         ▲ client, watch
//!   node            registers, keeps its Lease, hands each pod bound to it to ──► pod ──► container
//!                                                                                          │ images, environment,
//!   service_proxy   ClusterIP:port ──► a ready pod                                         │ mounts, probes, echo
//!   kube            the tests' client, blocking                                            ▼
//!                                                                                        frpc, operator (processes)
//! ```
//!
//! A pod has two addresses: its status shows one such as 10.244.16.1, since the API server refuses loopback addresses
//! in EndpointSlices, and its processes listen on 127.100.16.1. Security contexts and resource limits are accepted and
//! not enforced.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::parts::Parts;
use crate::pki::Authority;
use crate::runtime;
use crate::slot::Slot;
use client::Client;
use control_plane::ControlPlane;
use kubelet::Kubelet;
use lab::{Endpoints, Lab};
use node::Nodes;
use objects::{Kind, Objects};

mod client;
mod container;
mod control_plane;
mod echo;
mod environment;
mod freeze;
mod images;
mod kube;
mod kubelet;
mod lab;
mod mounts;
mod node;
mod objects;
mod pod;
mod probes;
mod service_proxy;
mod spec;
mod status;
mod watch;

pub use client::ApiError;
pub use control_plane::kubeconfig;
pub use kube::Kube;

/// The settings of a cluster that is about to be started.
pub struct ClusterOptions {
    /// How many nodes there are. Their names are `node-1` and so on.
    pub nodes: usize,
    /// Whether there is traffic. Without it, pods are Running and Ready without a process, and nothing listens; so a
    /// cluster can hold a thousand.
    pub traffic: bool,
    /// The built operator, which images ending in `fly-tunnel-operator` run.
    pub operator: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions { nodes: 1, traffic: true, operator: None }
    }
}

/// A running cluster. All of it ends when it is dropped, or when this process does.
pub struct Cluster {
    // The fields are dropped in this order.
    nodes: Nodes,
    services: JoinSet<()>,
    control_plane: ControlPlane,
    lab: Arc<Lab>,
    authority: Authority,
    bin: PathBuf,
    slot: Arc<Slot>,
}

impl Cluster {
    /// Starts a new cluster, which takes some 4 s.
    ///
    /// # Panics
    /// It panics if a part cannot be built or does not start; the message says which, and why.
    pub fn start(options: ClusterOptions) -> Arc<Cluster> {
        match Cluster::try_start(options) {
            Ok(cluster) => Arc::new(cluster),
            Err(error) => panic!("the lab does not start: {error}"),
        }
    }

    /// Starts a new cluster, as [`Self::start`] does.
    ///
    /// # Errors
    /// The errors are those with which [`Self::start`] panics.
    pub fn try_start(options: ClusterOptions) -> io::Result<Cluster> {
        let parts = Parts::get()?;
        let slot = Slot::take()?;
        let authority = Authority::new();
        let bin = slot.directory().join("bin");
        parts.link_into(&bin, options.operator.as_deref())?;
        let control_plane = ControlPlane::start(&slot, &authority, &bin)?;
        let logs = slot.directory().join("logs/pods");
        fs::create_dir_all(&logs)?;
        let kubelet = Kubelet::bind(&authority)?;
        let lab = Arc::new(Lab {
            client: Client::new(control_plane.address, authority.certificate_pem(), &control_plane.admin_token),
            slot: slot.clone(),
            objects: Objects::default(),
            parts,
            operator: options.operator.map(OnceLock::from).unwrap_or_default(),
            kubelet_port: kubelet.port(),
            logs,
            traffic: options.traffic,
            endpoints: Endpoints::new(control_plane.address),
            processes: Mutex::default(),
            pull_times: Mutex::default(),
            frozen: Default::default(),
        });
        let mut services = JoinSet::new();
        services.spawn_on(kubelet.serve(lab.logs.clone()), runtime().handle());
        if lab.traffic {
            let runtime = runtime().handle();
            services.spawn_on(service_proxy::run(lab.client.clone()), runtime);
            for kind in [Kind::Secret, Kind::ConfigMap] {
                let lab = lab.clone();
                services.spawn_on(async move { lab.objects.follow(lab.client.clone(), kind).await }, runtime);
            }
        }
        let nodes = Nodes::start(lab.clone(), (1..=options.nodes).map(|number| format!("node-{number}")));
        Ok(Cluster { nodes, services, control_plane, lab, authority, bin, slot })
    }

    /// The cluster that all tests of this process share: one node, traffic on. It ends with the process.
    pub fn shared() -> &'static Arc<Cluster> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(ClusterOptions::default()))
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// The certificate authority that signs for the API server, and for all other servers that pods and clients of this
    /// cluster are to trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn api_server(&self) -> SocketAddr {
        self.control_plane.address
    }

    /// A bearer token of a user in `system:masters`.
    pub fn admin_token(&self) -> &str {
        &self.control_plane.admin_token
    }

    /// A kubeconfig file of that user, straight to the API server.
    pub fn kubeconfig(&self) -> &Path {
        &self.control_plane.kubeconfig
    }

    /// A folder for `PATH`: kubectl, kube-scheduler, helm, frpc, frps, and the operator if there is one.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A client as administrator, straight to the API server.
    pub fn kube(&self) -> Kube {
        Kube::new(self.lab.client.clone())
    }

    /// Runs the real kubectl as administrator.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        Command::new(self.bin.join("kubectl"))
            // By default kubectl gives the API server 32 s to tell of its types, which is too short on a busy machine.
            .arg("--request-timeout=180s")
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            // kubectl keeps its caches in the home directory.
            .env("HOME", self.slot.directory())
            .output()
            .expect("kubectl starts")
    }

    /// Creates a namespace and waits until pods can be made in it.
    pub fn create_namespace(&self, name: &str) {
        let kube = self.kube();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        kube.create("/api/v1/namespaces", &namespace).expect("the name is free");
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        kube.wait_until(&account, Duration::from_secs(60), |account| account.is_some());
    }

    pub fn node_names(&self) -> Vec<String> {
        self.nodes.names().into_iter().collect()
    }

    /// Loses a node: nothing is heard of it from now on. On loopback packets cannot vanish, so its processes stand still:
    /// the kernel takes what comes for them, nobody answers, and nobody is told of an end. The controller manager notices
    /// after 24 s.
    ///
    /// # Panics
    /// It panics if there is no such node. So do the others that are about a node.
    pub fn node_down(&self, name: &str) {
        self.nodes.down(name);
    }

    /// Boots a lost node. Its connections are reset, as by a kernel that knows nothing of them, and its pods start anew.
    pub fn node_up(&self, name: &str) {
        self.nodes.up(name);
    }

    /// Freezes a node. Nobody can tell it from a lost one until [`Self::node_thaw`] lets everything on it go on.
    pub fn node_freeze(&self, name: &str) {
        self.nodes.freeze(name);
    }

    /// Lets everything on a frozen node go on where it stood.
    pub fn node_thaw(&self, name: &str) {
        self.nodes.thaw(name);
    }

    /// Sets the address of the API server for pods that start from now on (`KUBERNETES_SERVICE_HOST` and `_PORT`), in
    /// one namespace or in all others. Usually it is a recorder's.
    pub fn in_cluster_endpoint(&self, namespace: Option<&str>, endpoint: SocketAddr) {
        self.lab.endpoints.set(namespace, endpoint);
    }

    /// From now on images ending in `fly-tunnel-operator` run this binary, unless the cluster was started with another.
    pub fn operator_image(&self, binary: &Path) {
        self.lab.operator.get_or_init(|| binary.to_owned());
    }

    /// From now on each container of this namespace starts only after this time, in which its node pulls the image.
    pub fn pull_images_in(&self, namespace: &str, time: Duration) {
        self.lab.pull_times.lock().expect("no one panics while holding it").insert(namespace.to_owned(), time);
    }

    /// Freezes the processes of all pods whose names begin with `beginning`: they neither do anything nor end.
    pub fn freeze_pods(&self, namespace: &str, beginning: &str) {
        self.signal_pods(namespace, beginning, libc::SIGSTOP);
    }

    /// Lets frozen processes go on.
    pub fn thaw_pods(&self, namespace: &str, beginning: &str) {
        self.signal_pods(namespace, beginning, libc::SIGCONT);
    }

    /// Kills the processes of all pods whose names begin with `beginning`. Their containers are restarted.
    pub fn kill_pods(&self, namespace: &str, beginning: &str) {
        self.signal_pods(namespace, beginning, libc::SIGKILL);
    }

    fn signal_pods(&self, namespace: &str, beginning: &str, signal: i32) {
        let prefix = container::log_name(namespace, beginning, "");
        let processes = self.lab.processes.lock().expect("no one panics while holding it");
        let of_these = processes.iter().filter(|(name, _)| name.starts_with(prefix.trim_end_matches("_.log")));
        of_these.for_each(|(_, process)| process.signal(signal));
    }

    /// The output so far of the containers of a pod, one after the other. The pod may be gone already.
    pub fn pod_log(&self, namespace: &str, pod: &str) -> String {
        self.logs(container::log_name(namespace, pod, "").trim_end_matches(".log"))
    }

    /// The output so far of all pods whose names begin with `beginning`.
    pub fn pod_logs(&self, namespace: &str, beginning: &str) -> String {
        self.logs(container::log_name(namespace, beginning, "").trim_end_matches("_.log"))
    }

    fn logs(&self, prefix: &str) -> String {
        let entries = fs::read_dir(&self.lab.logs).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
        logs.sort();
        logs.iter().filter_map(|log| fs::read(log).ok()).map(|log| String::from_utf8_lossy(&log).into_owned()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // End the pods first, so that their processes are gone before their folders. Within the runtime we cannot wait
        // for that.
        if tokio::runtime::Handle::try_current().is_err() {
            runtime().block_on(async {
                self.services.shutdown().await;
                self.nodes.shut_down().await;
            });
        }
    }
}
