//! The surroundings of a container, as a shell in it sees them. The "operator" of this cluster is `/bin/sh`.

use std::sync::{Arc, OnceLock};

use lab::cluster::{Cluster, ClusterOptions};
use serde_json::{Value, json};

use crate::support::{Namespace, is_ready, state};

fn with_shell() -> Namespace<'static> {
    static CLUSTER: OnceLock<Arc<Cluster>> = OnceLock::new();
    let options = || ClusterOptions { operator: Some("/bin/sh".into()), ..ClusterOptions::default() };
    Namespace::of(CLUSTER.get_or_init(|| Cluster::start(options())))
}

fn script(script: &str) -> Value {
    json!({"image": "ghcr.io/zhming0/fly-tunnel-operator:0.1.0", "command": ["/fly-tunnel-operator", "-ec", script]})
}

fn extended(mut container: Value, with: Value) -> Value {
    if let (Some(container), Value::Object(with)) = (container.as_object_mut(), with) {
        container.extend(with);
    }
    container
}

/// The single line that this pod writes. The pod has to run to its end.
fn output(namespace: &Namespace, name: &str) -> String {
    namespace.wait_pod(name, |pod| pod["status"]["phase"] == "Succeeded");
    namespace.cluster.pod_log(&namespace.name, name).trim_end().to_owned()
}

#[test]
fn the_service_account_is_mounted_and_let_in() {
    let namespace = with_shell();
    let kubectl = namespace.cluster.bin().join("kubectl").display().to_string();
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    let whoami = format!(
        "{kubectl} auth whoami -o 'jsonpath={{.status.userInfo.username}}' --token=$(/bin/cat {at}/token) \
         --certificate-authority={at}/ca.crt \
         --server=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; echo :$(/bin/cat {at}/namespace)"
    );
    let container = extended(script(&whoami), json!({"env": [{"name": "HOME", "value": "/nowhere"}]}));
    namespace.pod("web", container, json!({"restartPolicy": "Never"}));
    let name = &namespace.name;
    assert_eq!(output(&namespace, "web"), format!("system:serviceaccount:{name}:default:{name}"));
}

#[test]
fn files_have_the_modes_that_were_asked_for() {
    let namespace = with_shell();
    namespace.create("secrets", json!({"metadata": {"name": "keys"}, "stringData": {"a": "1", "b": "2"}}));
    let items = json!([{"key": "a", "path": "deep/a"}, {"key": "b", "path": "b", "mode": 0o600}]);
    let volumes = json!([{"name": "keys", "secret": {"secretName": "keys", "items": items, "defaultMode": 0o440}}]);
    let container = extended(
        script("/usr/bin/stat -c %a /keys/deep/a /keys/b | /usr/bin/xargs"),
        json!({"volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}),
    );
    namespace.pod("web", container, json!({"restartPolicy": "Never", "volumes": volumes}));
    assert_eq!(output(&namespace, "web"), "440 600");
}

#[test]
fn an_empty_dir_is_shared_and_outlives_a_restart() {
    let namespace = with_shell();
    let script = script("[ -e /cache/ran ] || { echo first; echo x >/cache/ran; exit 1; }; echo second");
    let container = extended(script, json!({"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}));
    namespace.pod(
        "web",
        container,
        json!({"restartPolicy": "OnFailure", "volumes": [{"name": "cache", "emptyDir": {}}]}),
    );
    assert_eq!(output(&namespace, "web"), "first\nsecond");
}

#[test]
fn what_the_operator_would_bind_is_the_pods_own_address() {
    let namespace = with_shell();
    let container = extended(
        script("echo $HTTP_BIND_ADDRESS $ANY $POD_IP"),
        json!({"env": [
            {"name": "ANY", "value": "0.0.0.0:1"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]}),
    );
    namespace.pod("web", container, json!({"restartPolicy": "Never"}));
    let output = output(&namespace, "web");
    let ip = output.split(' ').next_back().expect("three words");
    assert!(ip.starts_with("127.100."), "{output}");
    assert_eq!(output, format!("{ip}:8080 {ip}:1 {ip}"));
}

#[test]
fn a_pod_ends_by_sigterm_or_after_its_grace_period() {
    let namespace = with_shell();
    let obeys = "trap 'echo bye; exit 0' TERM; echo up; while :; do /bin/sleep 0.05; done";
    namespace.pod("obeys", script(obeys), json!({}));
    let refuses = "trap '' TERM; echo up; while :; do /bin/sleep 0.05; done";
    namespace.pod("refuses", script(refuses), json!({"terminationGracePeriodSeconds": 1}));
    for pod in ["obeys", "refuses"] {
        namespace.wait_pod(pod, is_ready);
        namespace.wait_log(pod, "up");
        namespace.kube().delete(&namespace.path(&format!("pods/{pod}"))).expect("deleted");
        namespace.wait_gone(&format!("pods/{pod}"));
    }
    namespace.wait_log("obeys", "bye");
}

#[test]
fn a_command_that_the_image_lacks_is_refused() {
    let namespace = with_shell();
    namespace.pod("web", extended(script(""), json!({"command": ["/bin/bash"]})), json!({}));
    let pod = namespace.wait_pod("web", |pod| state(pod)["waiting"]["reason"] == "RunContainerError");
    assert!(state(&pod)["waiting"]["message"].to_string().contains("/bin/bash"), "{}", state(&pod));
}

#[test]
fn pods_are_told_where_the_api_server_is() {
    let namespace = with_shell();
    let recorder = "127.0.0.1:12345".parse().expect("an address");
    namespace.cluster.in_cluster_endpoint(Some(&namespace.name), recorder);
    let container = script("echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT");
    namespace.pod("web", container, json!({"restartPolicy": "Never"}));
    assert_eq!(output(&namespace, "web"), "127.0.0.1:12345");
}
