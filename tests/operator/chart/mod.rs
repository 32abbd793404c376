//! The Helm chart, without a cluster that runs it: what helm makes of which values, and who takes it.

mod accepted;
mod dashboard;
mod rendered;
mod values;
mod yaml;

use std::path::{Path, PathBuf};

use lab::cluster::Cluster;
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator");

/// The least that works.
const MINIMAL: &[&str] =
    &["--values", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator/ci/minimal-values.yaml")];

/// Every value is another than its default.
const EVERYTHING: &[&str] =
    &["--values", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/fly-tunnel-operator/ci/everything-values.yaml")];

/// Runs helm; gives what it printed, or what it complained of.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    let output = lab::helm(&home).args(arguments).output().expect("helm starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// The manifests of a release of the chart's own name in `namespace`.
fn manifests(namespace: &str, values: &[&str]) -> Result<String, String> {
    helm(&[&["template", "fly-tunnel-operator", CHART, "--namespace", namespace], values].concat())
}

/// The same, as objects.
#[track_caller]
fn objects(namespace: &str, values: &[&str]) -> Vec<Value> {
    match manifests(namespace, values) {
        Ok(text) => yaml::documents(&text),
        Err(error) => panic!("{values:?}: {error}"),
    }
}

/// The only object of a kind.
#[track_caller]
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there is more than one {kind}");
    one
}

/// A file of the chart.
fn file(path: &str) -> String {
    std::fs::read_to_string(PathBuf::from(CHART).join(path)).expect("the chart has this file")
}

/// Writes values for `--values`, as JSON, which is YAML.
fn write(name: &str, values: &Value) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-values.json"));
    std::fs::write(&path, values.to_string()).expect("Cargo's folder for tests can be written");
    path.display().to_string()
}

/// Runs kubectl on the shared cluster; gives what it printed, or all that it complained of: a warning is a complaint.
fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Cluster::shared().kubectl(arguments);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() && complaints.is_empty() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(complaints),
    }
}
