//! The cluster does not run frpc. The Service says why, in the cluster's own words, and nothing is left billed for it.

use std::time::{Duration, Instant};

use lab::homelab::Homelab;
use lab::operator::Operator;
use serde_json::json;

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::apps;
use crate::support::{DEADLINE, LONG_DEADLINE, binary, ended, serving, start, wait_until};

/// The Service says within this time that the cluster does not run frpc.
const A_MINUTE: Duration = Duration::from_secs(60);

fn machines(lab: &Homelab) -> usize {
    apps(lab)[0]["machines"].as_array().map_or(0, Vec::len)
}

/// A typo in the name of a PriorityClass.
fn with_a_typo(lab: &Homelab) -> Operator<'_> {
    with_pod_file(lab, r#"{"priorityClassName":"hihg"}"#)
}

fn with_pod_file<'a>(lab: &'a Homelab, text: &str) -> Operator<'a> {
    let file = lab.directory().join("pod.json");
    std::fs::write(&file, text).expect("the lab's directory can be written");
    lab.operator(binary()).arg("--frpc-pod-file").arg(file.to_str().expect("UTF-8"))
}

#[test]
fn a_priority_class_that_is_not_there_is_told_and_the_old_lanes_serve_on() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    let shop = lab.service("shop").port(8080).create();
    let shop_ip = shop.address(DEADLINE);
    operator.kill();
    let operator = with_a_typo(&lab).start();
    let began = Instant::now();
    for service in [&web, &shop] {
        let message = wait_for_reason(service, "FrpcUnavailable");
        assert!(message.contains("no PriorityClass with name hihg was found"), "{message}");
        assert!(message.contains("the old lane serves on"), "{message}");
    }
    assert!(began.elapsed() < A_MINUTE, "it took {:?}", began.elapsed());
    let status = web.object()["status"]["conditions"][0]["status"].clone();
    assert_eq!(status, "True", "users are served");
    // The new Machines are given up, and not made again for a while.
    wait_until("no second Machine is billed", LONG_DEADLINE, || {
        let apps = apps(&lab);
        apps.iter().all(|app| app["machines"].as_array().is_some_and(|machines| machines.len() == 1))
    });
    assert_eq!(condition(&web.object()).0, "FrpcUnavailable", "it is still told");
    for (ip, backend) in [(ip, "web"), (shop_ip, "shop")] {
        assert_answers(ip, 8080, backend);
    }
    // Told once, however often the cluster tried.
    let told = operator.log().matches("WARN").count();
    assert!(told <= 4, "{told} warnings: {}", operator.log());
    drop(operator);
    let _operator = start(&lab);
    wait_for_reason(&web, "Serving");
}

#[test]
fn once_ends_where_the_cluster_does_not_run_frpc() {
    let lab = Homelab::new();
    let web = lab.service("web").port(8080).create();
    let (code, log) = ended(with_a_typo(&lab).arg("--once").start());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("FrpcUnavailable") && log.contains("hihg"), "{log}");
    assert_eq!(condition(&web.object()).0, "FrpcUnavailable");
}

#[test]
fn once_ends_where_machines_do_not_start() {
    let lab = Homelab::new();
    let image = ["--frps-image", "registry.example.com/none/no-such-image:bad"];
    lab.service("web").port(8080).create();
    let (code, log) = ended(lab.operator(binary()).arg(image[0]).arg(image[1]).arg("--once").start());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("do not come to serve"), "{log}");
    assert!(machines(&lab) <= 1, "{:#?}", apps(&lab));
}

/// Two more ways in which a cluster does not run a pod: no node may take it, and the namespace has no room for it.
#[test]
fn a_node_that_is_not_there_is_told_and_the_old_lane_serves_on() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    operator.kill();
    let label = format!("example.com/{}", lab.cluster_name());
    let selector = json!({ "nodeSelector": { &label: "true" } });
    let operator = with_pod_file(&lab, &selector.to_string()).start();
    let began = Instant::now();
    let message = wait_for_reason(&web, "FrpcUnavailable");
    assert!(began.elapsed() < A_MINUTE, "it took {:?}", began.elapsed());
    assert!(message.contains("Unschedulable") && message.contains("the old lane serves on"), "{message}");
    assert_answers(ip, 8080, "web");
    wait_until("no second Machine is billed", LONG_DEADLINE, || machines(&lab) == 1);
    // A node that fits comes, and an operator that does not remember the failures.
    drop(operator);
    let fits = json!({ "metadata": { "labels": { &label: "true" } } });
    lab.cluster().kube().merge_patch("/api/v1/nodes/node-1", &fits).expect("a label");
    let _operator = with_pod_file(&lab, &selector.to_string()).start();
    wait_for_reason(&web, "Serving");
    assert_answers(ip, 8080, "web");
}

#[test]
fn a_quota_for_pods_is_told_and_waited_for() {
    let lab = Homelab::new();
    let quotas = format!("/api/v1/namespaces/{}/resourcequotas", lab.operator_namespace());
    let quota = json!({ "metadata": { "name": "full" }, "spec": { "hard": { "pods": "0" } } });
    let kube = lab.cluster().kube();
    kube.create(&quotas, &quota).expect("a quota");
    kube.wait_until(&format!("{quotas}/full"), DEADLINE, |quota| {
        quota.is_some_and(|quota| quota["status"]["hard"]["pods"] == "0")
    });
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "FrpcUnavailable");
    assert!(message.contains("exceeded quota: full"), "{message}");
    assert_eq!(machines(&lab), 1, "{:#?}", apps(&lab));
    kube.delete(&format!("{quotas}/full")).expect("it is deleted");
    wait_for_reason(&web, "Serving");
    assert_answers(web.address(DEADLINE), 8080, "web");
}

#[test]
fn an_image_that_cannot_be_pulled_is_told() {
    let lab = Homelab::new();
    let _operator =
        lab.operator(binary()).arg("--frpc-image").arg("registry.example.com/none/no-such-image:bad").start();
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "FrpcUnavailable");
    assert!(message.contains("the image cannot be pulled") && message.contains("no-such-image:bad"), "{message}");
    assert_eq!(web.object()["status"]["conditions"][0]["status"], "False", "nobody is served");
    let _operator = start(&lab);
    wait_for_reason(&web, "Serving");
}
