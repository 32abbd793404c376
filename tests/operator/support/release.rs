//! The chart, installed by the real helm on the real API server, as its users have it.

use std::path::PathBuf;
use std::process::Output;

use lab::homelab::Homelab;
use serde_json::{Value, json};

use super::lease::{LEASE, RENEW_DEADLINE, RETRY, seconds};
use super::{DEADLINE, binary, wait_until};

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator");

/// Settings that the operator gets only in a lab: the address of the lab's Fly, short intervals, and a Lease like that
/// of other operators here.
pub fn quick(lab: &Homelab) -> [(&'static str, String); 8] {
    [
        ("FLY_FLAPS_BASE_URL", lab.fly_url()),
        ("POLL_INTERVAL", "500ms".into()),
        ("RESYNC_INTERVAL", "5s".into()),
        ("FLY_SETTLE_TIME", "2s".into()),
        ("DRAIN_TIMEOUT", "3s".into()),
        ("LEADER_ELECT_LEASE_DURATION", seconds(LEASE)),
        ("LEADER_ELECT_RENEW_DEADLINE", seconds(RENEW_DEADLINE)),
        ("LEADER_ELECT_RETRY_PERIOD", seconds(RETRY)),
    ]
}

/// A release of the chart in a lab's namespace for operators. Its name is the lab's cluster name.
pub struct Release<'a> {
    pub lab: &'a Homelab,
    values: PathBuf,
}

impl<'a> Release<'a> {
    /// Installs the chart, and waits until the release is ready.
    #[track_caller]
    pub fn install(lab: &'a Homelab, set: &[&str]) -> Release<'a> {
        lab.cluster().operator_image(binary());
        let enforce = json!({ "metadata": { "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "latest",
        } } });
        let namespace = format!("/api/v1/namespaces/{}", lab.operator_namespace());
        lab.cluster().kube().merge_patch(&namespace, &enforce).expect("a label");
        let release = Release { lab, values: lab.chart_values(&quick(lab)) };
        release.run("install", set);
        release
    }

    /// The file with the values that a user gives, and [`quick`].
    pub fn values_file(&self) -> String {
        self.values.display().to_string()
    }

    /// Installs or upgrades the release with these additional values, and waits until all is ready.
    #[track_caller]
    fn run(&self, verb: &str, set: &[&str]) {
        let (name, file) = (self.lab.cluster_name(), self.values_file());
        let mut arguments = vec![verb, name, CHART, "--values", &file, "--wait", "--timeout", "120s"];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        self.helm(&arguments);
    }

    #[track_caller]
    pub fn upgrade(&self, set: &[&str]) {
        self.run("upgrade", set);
    }

    /// Runs helm in the release's namespace. Gives its output.
    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.try_helm(arguments);
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(status.success(), "helm {arguments:?}: {stdout}{stderr}\n{}", self.log());
        stdout
    }

    pub fn try_helm(&self, arguments: &[&str]) -> Output {
        self.try_helm_in(self.lab.operator_namespace(), arguments)
    }

    pub fn try_helm_in(&self, namespace: &str, arguments: &[&str]) -> Output {
        let mut helm = self.lab.helm();
        helm.args(arguments).args(["--namespace", namespace]);
        helm.output().expect("helm starts")
    }

    /// The operator's pods, without those that are being deleted.
    pub fn pods(&self) -> Vec<Value> {
        let pods = format!("/api/v1/namespaces/{}/pods", self.lab.operator_namespace());
        let selector = "labelSelector=app.kubernetes.io/component%3Doperator";
        let pods = self.lab.cluster().kube().list(&format!("{pods}?{selector}")).expect("a list");
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    pub fn pod_names(&self) -> Vec<String> {
        self.pods().iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until this number of operators runs, and none is left of an earlier revision.
    #[track_caller]
    pub fn wait_for_pods(&self, count: usize) {
        wait_until(&format!("{count} operators are ready"), DEADLINE, || {
            let pods = self.pods();
            let ready = |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
                conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            pods.len() == count && pods.iter().all(ready)
        });
    }

    /// The log of all operators of the release, with those that are gone.
    pub fn log(&self) -> String {
        self.lab.cluster().pod_logs(self.lab.operator_namespace(), &format!("{}-fly", self.lab.cluster_name()))
    }

    /// An object of the release's namespace. A `collection` is, for example, `apis/apps/v1/deployments`.
    pub fn object(&self, collection: &str, name: &str) -> Option<Value> {
        let (version, resource) = collection.rsplit_once('/').expect("a version and a resource");
        let namespace = self.lab.operator_namespace();
        let path = format!("/{version}/namespaces/{namespace}/{resource}/{name}");
        self.lab.cluster().kube().find(&path).expect("the API server answers")
    }

    pub fn deployment(&self) -> Value {
        let name = format!("{}-fly-tunnel-operator", self.lab.cluster_name());
        self.object("apis/apps/v1/deployments", &name).expect("the operator's Deployment")
    }
}
