//! Clusters as a whole: two side by side, lost nodes, a cluster without traffic.

use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, ClusterOptions};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Namespace, http_get, is_ready, wait_for};

fn deployment(name: &str, replicas: usize, spec: Value) -> Value {
    let labels = json!({"app": name});
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }})
}

#[test]
fn two_clusters_live_side_by_side() {
    let other = Cluster::start(ClusterOptions::default());
    let (here, there) = (Namespace::shared(), Namespace::of(&other));
    for namespace in [&here, &there] {
        namespace.pod("web", json!({"image": "echo", "ports": [{"containerPort": 8080}]}), json!({}));
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 8080}]});
        let service = namespace.create("services", json!({"metadata": {"name": "web"}, "spec": spec}));
        let ip: std::net::IpAddr =
            service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
        wait_for(|| http_get((ip, 8080).into()), || format!("answer from {ip}"));
    }
    let directory = other.slot().directory().to_owned();
    drop(there);
    drop(other);
    assert!(!directory.exists());
}

#[test]
fn kubectl_and_the_tools_are_at_hand() {
    let cluster = Cluster::shared();
    let output = cluster.kubectl(&["version", "-o", "json"]);
    let version: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(version["serverVersion"]["gitVersion"], "v1.36.3");
    for tool in ["kubectl", "kube-scheduler", "helm", "frpc", "frps"] {
        assert!(cluster.bin().join(tool).exists(), "{tool} is missing");
    }
    // The lab builds helm when it is first used.
    let helm = Command::new(cluster.bin().join("helm")).arg("version").output().expect("helm starts");
    assert!(String::from_utf8_lossy(&helm.stdout).contains("v4.3.1"), "{helm:?}");
}

#[test]
fn pods_of_a_lost_node_end_and_come_back_with_it() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() });
    let namespace = Namespace::of(&cluster);
    let on_node = |node: &str| json!({"nodeName": node, "terminationGracePeriodSeconds": 1});
    let container = json!({"image": "echo", "ports": [{"containerPort": 8080}]});
    namespace.pod("stays", container.clone(), on_node("node-1"));
    namespace.pod("lost", container, on_node("node-2"));
    let address = |name: &str| {
        let pod = namespace.wait_pod(name, is_ready);
        let paper: std::net::Ipv4Addr =
            pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
        let [_, _, high, low] = paper.octets();
        std::net::SocketAddr::from(([127, 100, high, low], 8080))
    };
    let (stays, lost) = (address("stays"), address("lost"));
    assert_eq!(http_get(lost).as_deref(), Some("lost\n"));

    cluster.node_down("node-2");
    wait_for(|| http_get(lost).is_none().then_some(()), || "end of the lost pod".into());
    assert!(http_get(stays).is_some());
    // The controller manager notices that the node is lost, and marks its pods as not ready.
    namespace.kube().wait_until("/api/v1/nodes/node-2", DEADLINE, is_tainted);
    namespace.wait_pod("lost", |pod| !is_ready(pod));

    cluster.node_up("node-2");
    assert!(http_get(address("lost")).is_some());
    let pod = namespace.wait_pod("lost", is_ready);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
}

/// Nobody can tell it from a lost one while it lasts: connections are taken, and nobody answers.
#[test]
fn a_frozen_node_is_silent_and_goes_on_where_it_stood() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() });
    let namespace = Namespace::of(&cluster);
    let container = json!({"image": "echo", "ports": [{"containerPort": 8080}]});
    namespace.pod("web", container, json!({"nodeName": "node-2"}));
    let pod = namespace.wait_pod("web", is_ready);
    let paper: std::net::Ipv4Addr = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
    let [_, _, high, low] = paper.octets();
    let mut stream =
        std::net::TcpStream::connect(std::net::SocketAddr::from(([127, 100, high, low], 8080))).expect("connected");
    let mut writer = stream.try_clone().expect("cloned");
    let mut echoed = |limit: Duration| {
        stream.set_read_timeout(Some(limit)).expect("a timeout");
        stream.read_exact(&mut [0]).map_err(|error| error.kind())
    };
    cluster.node_freeze("node-2");
    writer.write_all(b"a").expect("the kernel takes it");
    assert_eq!(echoed(Duration::from_secs(1)), Err(ErrorKind::WouldBlock), "nobody answers and nobody closes");
    namespace.kube().wait_until("/api/v1/nodes/node-2", DEADLINE, is_tainted);
    cluster.node_thaw("node-2");
    namespace.kube().wait_until("/api/v1/nodes/node-2", DEADLINE, |node| !is_tainted(node));
    assert_eq!(echoed(DEADLINE), Ok(()), "the same connection goes on");
    let pod = namespace.wait_pod("web", is_ready);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

/// Whether the controller manager has found the node lost.
fn is_tainted(node: Option<&Value>) -> bool {
    let taints = node.and_then(|node| node["spec"]["taints"].as_array());
    taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == "node.kubernetes.io/unreachable"))
}

#[test]
fn without_traffic_pods_are_states_only_and_many() {
    let cluster = Cluster::start(ClusterOptions { traffic: false, ..ClusterOptions::default() });
    let namespace = Namespace::of(&cluster);
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    let spec = json!({"containers": [{"name": "frpc", "image": "frpc"}], "automountServiceAccountToken": false});
    let start = Instant::now();
    namespace.kube().create(&path, &deployment("many", 200, spec)).expect("created");
    let many = format!("{path}/many");
    let available = |deployment: Option<&Value>| {
        deployment.is_some_and(|deployment| deployment["status"]["availableReplicas"] == json!(200))
    };
    namespace.kube().wait_until(&many, DEADLINE, available);
    eprintln!("200 pods were available after {:?}", start.elapsed());
    namespace.kube().merge_patch(&many, &json!({"spec": {"replicas": 0}})).expect("patched");
    wait_for(
        || namespace.kube().list(&namespace.path("pods")).expect("listed").is_empty().then_some(()),
        || "end of the pods".into(),
    );
}

/// The API server passes the request on to the node, as it does for `kubectl logs`.
#[test]
fn the_log_of_a_container_can_be_read() {
    let namespace = Namespace::shared();
    namespace.pod("frpc", json!({ "image": "frpc", "args": ["--version"] }), json!({ "restartPolicy": "Never" }));
    namespace.wait_pod("frpc", |pod| pod["status"]["phase"] == "Succeeded");
    let of_its = format!("--namespace={}", namespace.name);
    for more in [&[][..], &["--tail=1"]] {
        let output = namespace.cluster.kubectl(&[&[of_its.as_str(), "logs", "frpc"], more].concat());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0.71.0\n", "{output:?}");
    }
}
