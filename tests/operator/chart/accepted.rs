//! A real API server takes what the chart makes, in a namespace where Pod Security is at its strictest.

use lab::homelab::Homelab;
use serde_json::{Value, json};

use super::{EVERYTHING, MINIMAL, helm, kubectl, manifests_to_install, objects, yaml};

/// Values that can be on or off. Each is tried alone.
const TOGGLES: &[&str] = &[
    "networkPolicy.enabled=true",
    "grafanaDashboard.enabled=true",
    "podMonitor.enabled=true",
    "uninstall.drain=true",
    "replicaCount=3",
    "serviceAccount.create=false",
    "clusterName=home",
    "resources.limits.memory=129e6",
    "frpc.priorityClassName=high",
    "frpc.tolerations[0].operator=Exists",
];

/// A namespace of the lab that takes only pods that are `restricted`, and warns of objects that would make others.
fn strict_namespace(lab: &Homelab) -> String {
    let namespace = lab.new_namespace("strict");
    let levels = ["enforce", "warn"].map(|what| (format!("pod-security.kubernetes.io/{what}"), json!("restricted")));
    let labels: serde_json::Map<_, _> = levels.into_iter().collect();
    let patch = json!({ "metadata": { "labels": labels } });
    lab.cluster().kube().merge_patch(&format!("/api/v1/namespaces/{namespace}"), &patch).expect("it gets labels");
    namespace
}

/// Asks the API server what it says of these objects. None of them is made.
fn dry_run(lab: &Homelab, objects: &[Value]) -> Result<String, String> {
    let file = lab.directory().join("objects.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(&file, list.to_string()).expect("the lab's directory can be written");
    kubectl(&["apply", "--dry-run=server", "--filename", file.to_str().expect("a path in UTF-8")])
}

/// The pod of a Deployment or Job, as its controller would make it. Pod Security refuses only pods; other objects get a
/// warning.
fn pod(owner: &Value, namespace: &str) -> Value {
    let mut pod = owner["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = owner["metadata"]["name"].clone();
    pod["metadata"]["namespace"] = json!(namespace);
    // The chart's own ServiceAccount does not exist, because a dry run makes nothing.
    pod["spec"]["serviceAccountName"] = json!("default");
    pod
}

#[test]
fn the_api_server_takes_every_manifest_at_the_strictest_pod_security() {
    let lab = Homelab::new();
    let namespace = strict_namespace(&lab);
    let mut cases = vec![MINIMAL.to_vec(), EVERYTHING.to_vec()];
    cases.extend(TOGGLES.iter().map(|toggle| [MINIMAL, &["--set", toggle]].concat()));
    for values in cases {
        let objects = yaml::documents(&manifests_to_install(&namespace, &values));
        let taken = dry_run(&lab, &objects).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        assert_eq!(taken.lines().count(), objects.len(), "{taken}");
        let owners = objects.iter().filter(|object| object["kind"] == "Deployment" || object["kind"] == "Job");
        let pods: Vec<Value> = owners.map(|owner| pod(owner, &namespace)).collect();
        assert!(!pods.is_empty());
        dry_run(&lab, &pods).unwrap_or_else(|error| panic!("pods of {values:?}: {error}"));
    }
}

/// YAML as Kubernetes reads it takes these names for truth values, numbers or null.
#[test]
fn the_api_server_takes_releases_whatever_they_are_called() {
    let lab = Homelab::new();
    let namespace = strict_namespace(&lab);
    let file = lab.directory().join("manifests.yaml");
    for name in ["y", "on", "null", "123", "1e3"] {
        let called = format!("fullnameOverride={name},nameOverride={name},serviceAccount.name={name}");
        let set = [MINIMAL, &["--set-string", &called]].concat();
        let text = helm(&[&["template", name, super::CHART, "--namespace", &namespace], &set[..]].concat());
        std::fs::write(&file, text.expect("it renders")).expect("the lab's directory can be written");
        let taken = kubectl(&["apply", "--dry-run=server", "--filename", file.to_str().expect("a path in UTF-8")]);
        taken.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// If the namespace took any pod, the tests above would prove nothing.
#[test]
fn the_namespace_is_strict_indeed() {
    let lab = Homelab::new();
    let namespace = strict_namespace(&lab);
    let objects = objects(&namespace, MINIMAL);
    let mut lax = super::only(&objects, "Deployment").clone();
    lax["spec"]["template"]["spec"]["securityContext"] = json!({});
    let warned = dry_run(&lab, std::slice::from_ref(&lax)).expect_err("of a lax Deployment it is warned");
    assert!(warned.contains("would violate PodSecurity \"restricted"), "{warned}");
    let refused = dry_run(&lab, &[pod(&lax, &namespace)]).expect_err("a lax pod is refused");
    assert!(refused.contains("is forbidden: violates PodSecurity \"restricted"), "{refused}");
}
