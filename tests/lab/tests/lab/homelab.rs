//! A homelab as a whole: the port at `LAB_URL`, and the API server behind its recorder.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use lab::control::Control;
use lab::homelab::Homelab;
use lab::recorder::{Fault, Rule, Target};
use serde_json::{Value, json};

use crate::fly_lab::request;
use crate::support::wait_for;

/// Makes a request to `LAB_URL`.
fn ask(control: &Control, method: &str, path: &str, body: Value) -> (u16, Value) {
    let address: SocketAddr = control.url().trim_start_matches("http://").parse().expect("an address");
    let answer = request(address, method, path, &[], &body).expect("an answer");
    (answer.status, answer.body)
}

fn fly(lab: &Homelab, method: &str, path: &str, body: Value) -> Value {
    let address: SocketAddr = lab.fly_url().trim_start_matches("http://").parse().expect("an address");
    let headers = [("Authorization", format!("Bearer {}", lab.fly().token()))];
    request(address, method, &format!("/v1{path}"), &headers, &body).expect("an answer").good()
}

#[test]
fn the_state_is_what_exists_at_fly() {
    let lab = Arc::new(Homelab::new());
    let control = Control::start(lab.clone());
    assert_eq!(ask(&control, "GET", "/state", Value::Null), (200, json!({"apps": []})));
    fly(&lab, "POST", "/apps", json!({"name": "a", "org_slug": "personal", "network": "n"}));
    let ip = fly(&lab, "POST", "/apps/a/ip_assignments", json!({"type": "v4"}))["ip"].clone();
    let config = json!({
        "image": "frps",
        "metadata": {"k": "v"},
        "files": [],
        "services": [
            {"internal_port": 7000, "ports": [{"port": 7000}]},
            {"internal_port": 8443, "ports": [{"port": 8443}], "checks": [{"type": "tcp"}]},
        ],
    });
    let machine = fly(&lab, "POST", "/apps/a/machines", json!({"name": "m", "region": "iad", "config": config}));
    let seen = wait_for(
        || Some(lab.fly().state()).filter(|state| state["apps"][0]["machines"][0]["checks"] != json!([])),
        || "check".to_owned(),
    );
    let expected = json!({"apps": [{
        "name": "a",
        "org": "personal",
        "network": "n",
        "ips": [{"ip": ip, "type": "v4"}],
        "machines": [{
            "id": machine["id"],
            "name": "m",
            "state": "started",
            "region": "iad",
            "cordoned": false,
            "checks": [{"name": "servicecheck-00-tcp-8443", "status": "critical"}],
            "metadata": {"k": "v"},
            "ports": [7000, 8443],
        }],
    }]});
    assert_eq!(seen, expected);
    let id = machine["id"].as_str().expect("an ID");
    for (path, status) in [
        (format!("/machines/{id}/crash"), 204),
        (format!("/hosts/{id}/down"), 204),
        (format!("/hosts/{id}/up"), 204),
        (format!("/hosts/{id}/sideways"), 404),
        ("/machines/148ed193a95789/crash".to_owned(), 404),
        ("/nodes/node-9/down".to_owned(), 404),
    ] {
        assert_eq!(ask(&control, "POST", &path, Value::Null).0, status, "{path}");
    }
    let (_, log) = ask(&control, "GET", "/requests", Value::Null);
    let paths: Vec<&Value> = log.as_array().expect("a list").iter().map(|request| &request["path"]).collect();
    assert_eq!(paths, ["/v1/apps", "/v1/apps/a/ip_assignments", "/v1/apps/a/machines"]);
}

#[test]
fn faults_and_capacity_are_put() {
    let lab = Arc::new(Homelab::new());
    let control = Control::start(lab.clone());
    assert_eq!(ask(&control, "PUT", "/faults", json!([{"fault": "explode"}])).0, 400);
    assert_eq!(ask(&control, "PUT", "/faults", json!([{"to": "fly", "fault": {"status": 418, "body": "{}"}}])).0, 204);
    let address: SocketAddr = lab.fly_url().trim_start_matches("http://").parse().expect("an address");
    let status = || request(address, "GET", "/v1/platform/regions", &[], &Value::Null).expect("an answer").status;
    assert_eq!(status(), 418);
    assert_eq!(status(), 401, "once, and there is no token");
    assert_eq!(ask(&control, "PUT", "/faults", json!([])).0, 204);
    assert_eq!(ask(&control, "PUT", "/capacity", json!({"ord": "none"})).0, 400);
    assert_eq!(ask(&control, "PUT", "/capacity", json!({"ord": 0})).0, 204);
}

/// Runs kubectl with the kubeconfig of the lab.
fn kubectl(lab: &Homelab, arguments: &[&str]) -> std::process::Output {
    Command::new(lab.cluster().bin().join("kubectl"))
        .args(arguments)
        .env("KUBECONFIG", lab.kubeconfig())
        .env("HOME", lab.directory())
        .output()
        .expect("kubectl starts")
}

#[test]
fn the_api_server_is_behind_a_recorder() {
    let lab = Homelab::new();
    let namespace = lab.namespace().to_owned();
    let got = kubectl(&lab, &["create", "configmap", "c", "--namespace", &namespace, "--from-literal=a=b"]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let is_post = |request: &lab::recorder::Request| request.method == "POST" && request.path.starts_with(&path);
    let request = lab.requests().into_iter().find(is_post).expect("the POST is in the log");
    assert_eq!((request.to, request.status), (Target::Kubernetes, Some(201)));
    assert!(request.user_agent.starts_with("kubectl/"), "{request:?}");
    let log = serde_json::to_string(&lab.requests()).expect("JSON");
    assert!(!log.contains(lab.cluster().admin_token()));
    // A watch streams: kubectl would wait for ever for the end of the list that follows.
    let waited = kubectl(&lab, &["wait", "configmap/c", "--namespace", &namespace, "--for=jsonpath={.data.a}=b"]);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    lab.faults([Rule::new(Fault::Refuse).to(Target::Kubernetes).method("DELETE").times(9)]);
    assert!(!kubectl(&lab, &["delete", "configmap", "c", "--namespace", &namespace]).status.success());
    lab.faults([]);
    assert!(kubectl(&lab, &["delete", "configmap", "c", "--namespace", &namespace]).status.success());
}

#[test]
fn a_homelab_leaves_nothing_behind() {
    let cluster = lab::cluster::Cluster::shared();
    let lab = Homelab::new();
    let namespace = lab.namespace().to_owned();
    let service = lab.service("web").port(8080).spec(json!({})).create();
    let finalizers = json!({"metadata": {"finalizers": ["example.org/never"]}});
    cluster.kube().merge_patch(&service.path(), &finalizers).expect("patched");
    drop(lab);
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.kube().wait_until(&path, crate::support::DEADLINE, |namespace| namespace.is_none());
}
