//! A homelab as one test sees it: the cluster, a Fly of its own, and recorders before both.
//!
//! The cluster may be shared. All else belongs to the one test: its organisation at Fly, log and faults, namespaces,
//! load balancer class and cluster name. So tests run side by side, and each sees only its own actions.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, kubeconfig};
use crate::fly::{Fly, Settings};
use crate::helm::helm;
use crate::operator::Operator;
use crate::parts::Parts;
use crate::recorder::{Recorder, Request, Rule};
use crate::rights::Account;
use crate::service::ServiceBuilder;

/// How much of an operator's log is shown when a test fails.
const LOG_LINES: usize = 60;

/// A homelab with its Fly. Dropping it removes everything that belongs to it; drop operators first.
pub struct Homelab {
    fly: Fly,
    recorder: Recorder,
    fly_address: SocketAddr,
    api_server: SocketAddr,
    /// Unique among the labs of this process.
    name: String,
    directory: PathBuf,
    namespace: OnceLock<String>,
    operator_namespace: OnceLock<String>,
    account: OnceLock<Account>,
    /// All namespaces that were created, to be removed with the lab.
    namespaces: Mutex<Vec<String>>,
    cluster: Arc<Cluster>,
}

/// The settings of a homelab that is about to be started.
pub struct Builder {
    settings: Settings,
    traffic: bool,
    cluster: Option<Arc<Cluster>>,
}

impl Builder {
    /// Sets how its Fly behaves.
    pub fn fly(self, settings: Settings) -> Builder {
        Builder { settings, ..self }
    }

    /// Whether Machines run frps and the edge listens. Give the value that the cluster has.
    pub fn traffic(self, traffic: bool) -> Builder {
        Builder { traffic, ..self }
    }

    /// Uses another cluster than [`Cluster::shared`].
    pub fn cluster(self, cluster: &Arc<Cluster>) -> Builder {
        Builder { cluster: Some(cluster.clone()), ..self }
    }

    /// Starts the homelab.
    ///
    /// # Panics
    /// A part of the lab does not start.
    pub fn start(self) -> Homelab {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let cluster = self.cluster.unwrap_or_else(|| Cluster::shared().clone());
        let name = format!("lab-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = cluster.slot().directory().join(&name);
        std::fs::create_dir(&directory).expect("the slot's directory can be written");
        let parts = Parts::get().expect("the cluster has built the parts");
        let fly = Fly::start(cluster.slot(), parts, self.traffic, self.settings);
        let recorder = Recorder::default();
        let fly_address = recorder.before_fly(fly.address(), "");
        let api_server = recorder.before_kubernetes(cluster.api_server(), cluster.authority(), "");
        let lab = Homelab {
            fly,
            recorder,
            fly_address,
            api_server,
            name,
            directory,
            namespace: OnceLock::new(),
            operator_namespace: OnceLock::new(),
            account: OnceLock::new(),
            namespaces: Mutex::default(),
            cluster,
        };
        lab.write_kubeconfig("kubeconfig", lab.cluster.admin_token());
        lab
    }
}

impl Homelab {
    /// Starts a homelab on the shared cluster, with a quick Fly.
    pub fn new() -> Homelab {
        Homelab::builder().start()
    }

    pub fn builder() -> Builder {
        Builder { settings: Settings::default(), traffic: true, cluster: None }
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub fn fly(&self) -> &Fly {
        &self.fly
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The base URL of Fly's API, through the recorder.
    pub fn fly_url(&self) -> String {
        format!("http://{}", self.fly_address)
    }

    /// The API server's address, through the recorder.
    pub fn api_server(&self) -> SocketAddr {
        self.api_server
    }

    /// A kubeconfig file of an administrator, through the recorder.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The ServiceAccount of this lab's operators, created on first use: in [`Self::operator_namespace`], with the rights
    /// of [`crate::rights`] and no other.
    pub fn operator_account(&self) -> &Account {
        self.account.get_or_init(|| {
            let account = Account::new(&self.cluster, &format!("{}-operator", self.name), self.operator_namespace());
            self.write_kubeconfig("operator.kubeconfig", account.token());
            account
        })
    }

    /// A kubeconfig file of that account, through the recorder.
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.operator_account();
        self.directory.join("operator.kubeconfig")
    }

    fn write_kubeconfig(&self, name: &str, token: &str) {
        let user = json!({ "token": token });
        let config = kubeconfig(self.api_server, self.cluster.authority().certificate_pem(), &user);
        std::fs::write(self.directory.join(name), config.to_string()).expect("its own directory can be written");
    }

    /// Scratch space, removed with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The value of `CLUSTER_NAME` for the operators of this lab.
    pub fn cluster_name(&self) -> &str {
        &self.name
    }

    /// The load balancer class of this lab.
    pub fn class(&self) -> String {
        format!("{}.fly-tunnel-operator.dev/lb", self.name)
    }

    /// The namespace for apps, created on first use.
    pub fn namespace(&self) -> &str {
        self.namespace.get_or_init(|| self.new_namespace("apps"))
    }

    /// The namespace where the operator works, created on first use.
    pub fn operator_namespace(&self) -> &str {
        self.operator_namespace.get_or_init(|| {
            let namespace = self.new_namespace("operator");
            self.cluster.in_cluster_endpoint(Some(&namespace), self.api_server);
            namespace
        })
    }

    /// Creates another namespace, which is removed with the lab. Returns its whole name.
    pub fn new_namespace(&self, name: &str) -> String {
        let namespace = format!("{}-{name}", self.name);
        self.cluster.create_namespace(&namespace);
        self.namespaces.lock().expect("no one panics while holding it").push(namespace.clone());
        namespace
    }

    /// Replaces all faults of the recorder.
    pub fn faults(&self, rules: impl IntoIterator<Item = Rule>) {
        self.recorder.set_faults(rules);
    }

    /// Every request to Fly and to the API server that came through the recorder, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.recorder.requests()
    }

    /// Waits until `holds` is true of the log.
    ///
    /// # Panics
    /// It panics if that takes longer than `deadline`.
    pub fn wait_requests(&self, deadline: Duration, holds: impl Fn(&[Request]) -> bool) {
        let found = self.recorder.wait_requests(deadline, |requests| holds(requests).then_some(()));
        found.expect("the requests were made in time");
    }

    /// An operator whose settings fit this lab. Change its settings as the test needs, then start it.
    pub fn operator(&self, binary: &Path) -> Operator<'_> {
        Operator::new(self, binary)
    }

    /// Helm for this lab's cluster.
    pub fn helm(&self) -> Command {
        let mut helm = helm(&self.directory);
        helm.env("KUBECONFIG", self.cluster().kubeconfig());
        helm
    }

    /// Writes the chart's values that a user of this lab gives, with these variables for the operator. Gives the file.
    ///
    /// # Panics
    /// It panics if the lab's directory cannot be written.
    pub fn chart_values(&self, environment: &[(&str, String)]) -> PathBuf {
        let variable = |(name, value): &(&str, String)| json!({ "name": name, "value": value });
        let values = json!({
            "flyApiToken": self.fly.token(),
            "flyOrg": self.fly.organisation(),
            "flyRegion": "ord",
            "loadBalancerClass": self.class(),
            "clusterName": self.cluster_name(),
            "extraEnv": environment.iter().map(variable).collect::<Vec<_>>(),
        });
        let file = self.directory.join("values.json");
        std::fs::write(&file, values.to_string()).expect("the lab's directory can be written");
        file
    }

    /// A Service of this lab's class in [`Self::namespace`], and a backend for it.
    pub fn service(&self, name: &str) -> ServiceBuilder<'_> {
        ServiceBuilder::new(self, name)
    }

    /// The address that a Service shows.
    ///
    /// # Panics
    /// It panics if the Service shows none after `deadline`.
    pub fn address_of(&self, namespace: &str, name: &str, deadline: Duration) -> IpAddr {
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let shown = |service: &Value| service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned);
        let has_address = |service: Option<&Value>| service.and_then(shown).is_some();
        let service = self.cluster.kube().wait_until(&path, deadline, has_address);
        shown(&service).and_then(|ip| ip.parse().ok()).expect("the status holds an IP address")
    }

    /// Prints the end of the operators' logs after a failed test, since the directory is removed with the lab.
    fn print_operator_logs(&self) {
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
                let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
                eprintln!("{} of {}:\n{}\n", entry.file_name().display(), self.name, last.join("\n"));
            }
        }
    }

    /// Deletes a namespace. First removes the finalizers of its Services: they wait for an operator that will not come.
    fn remove_namespace(&self, namespace: &str) {
        let kube = self.cluster.kube();
        let services = format!("/api/v1/namespaces/{namespace}/services");
        for service in kube.list(&services).unwrap_or_default() {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            if service["metadata"]["finalizers"].is_array() {
                // An error here may be ignored: the deletion below would fail too, and nothing depends on either.
                let _ = kube.merge_patch(&format!("{services}/{name}"), &json!({ "metadata": { "finalizers": null } }));
            }
        }
        let _ = kube.delete(&format!("/api/v1/namespaces/{namespace}"));
    }
}

impl Default for Homelab {
    fn default() -> Homelab {
        Homelab::new()
    }
}

impl Drop for Homelab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_operator_logs();
        }
        let namespaces = std::mem::take(&mut *self.namespaces.lock().expect("no one panics while holding it"));
        namespaces.iter().for_each(|namespace| self.remove_namespace(namespace));
        if let Some(account) = self.account.get() {
            account.remove(&self.cluster);
        }
    }
}
