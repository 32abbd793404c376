//! The Helm chart, without a cluster that runs it: the manifests that helm makes of values, and whether the API server
//! and the operator take them.

mod accepted;
mod dashboard;
mod rendered;
mod umbrella;
mod values;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Once;

use lab::cluster::Cluster;
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::release::CHART;

/// The fewest values that work.
const MINIMAL: &[&str] =
    &["--values", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator/ci/minimal-values.yaml")];

/// Values of which each differs from its default.
const EVERYTHING: &[&str] =
    &["--values", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator/ci/everything-values.yaml")];

/// Runs helm. Gives its output, or its complaint if it failed.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    let kubeconfig = Cluster::shared().kubeconfig();
    let output = lab::helm(&home).env("KUBECONFIG", kubeconfig).args(arguments).output().expect("helm starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The manifests of a release of the chart's own name in `namespace`.
fn manifests(namespace: &str, values: &[&str]) -> Result<String, String> {
    helm(&[&["template", "fly-tunnel-operator", CHART, "--namespace", namespace], values].concat())
}

/// The CRD of a PodMonitor, as far as the API server has to know of it.
fn pod_monitors() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": { "kind": "PodMonitor", "plural": "podmonitors" },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}

/// Makes that CRD, once for all tests.
fn know_pod_monitors() {
    static KNOWN: Once = Once::new();
    KNOWN.call_once(|| {
        let cluster = Cluster::shared();
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        cluster.kube().create(crds, &pod_monitors()).expect("the CRD is new");
        cluster.kube().wait_until(&format!("{crds}/podmonitors.monitoring.coreos.com"), DEADLINE, |crd| {
            let conditions = crd.and_then(|crd| crd["status"]["conditions"].as_array().cloned()).unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
        });
    });
}

/// The same as `helm install` makes them, which asks the cluster.
fn manifests_to_install(namespace: &str, values: &[&str]) -> String {
    know_pod_monitors();
    let template = ["template", "fly-tunnel-operator", CHART, "--namespace", namespace, "--dry-run=server"];
    helm(&[&template, values].concat()).unwrap_or_else(|error| panic!("{values:?}: {error}"))
}

/// The manifests of such a release, as objects.
#[track_caller]
fn objects(namespace: &str, values: &[&str]) -> Vec<Value> {
    match manifests(namespace, values) {
        Ok(text) => yaml::documents(&text),
        Err(error) => panic!("{values:?}: {error}"),
    }
}

/// The only object of this kind.
#[track_caller]
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there is more than one {kind}");
    one
}

/// The text of a file of the chart.
fn file(path: &str) -> String {
    std::fs::read_to_string(PathBuf::from(CHART).join(path)).expect("the chart has this file")
}

/// Writes a file of values for `--values`, and gives its path. JSON will do, because it is YAML as well.
fn write(name: &str, values: &Value) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-values.json"));
    std::fs::write(&path, values.to_string()).expect("Cargo's folder for tests can be written");
    path.display().to_string()
}

/// Runs kubectl on the shared cluster. Gives its output, or all its complaints. A warning is a complaint too.
fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Cluster::shared().kubectl(arguments);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && complaints.is_empty() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(complaints)
    }
}
