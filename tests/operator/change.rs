//! A change goes to a new lane beside the old one, and loses no connection.

use std::io::{Read, Write};
use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::service::ServiceHandle;
use serde_json::json;

use crate::support::client::{Stream, assert_answers, assert_none_lost, connect};
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_one_of_everything, deployments, machine_at_fly, objects};
use crate::support::{DEADLINE, binary, serving, start, wait_until};

/// Edges that learn of checks and cordons two seconds late, the users' and frpc's alike.
fn late_edges() -> Homelab {
    let delay = Duration::from_secs(2);
    Homelab::builder().fly(Settings { edge_delay: delay, control_edge_delay: delay, ..Settings::default() }).start()
}

/// An operator that gives those edges their time.
fn patient(lab: &Homelab) -> RunningOperator {
    lab.operator(binary()).env("FLY_SETTLE_TIME", "3s").env("DRAIN_TIMEOUT", "4s").start()
}

/// Changes the ports of the Service alone. All lead to the one port of the backend, which stays as it is: a backend
/// that rolls loses connections of its own.
fn set_ports(lab: &Homelab, web: &ServiceHandle, ports: &[u16]) {
    let entry = |port: &u16| json!({ "name": format!("tcp-{port}"), "port": port, "targetPort": 8080 });
    let change = json!({ "spec": { "ports": ports.iter().map(entry).collect::<Vec<_>>() } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the ports are changed");
}

/// The images of frpc and frps that the tunnel has.
fn images(lab: &Homelab) -> [String; 2] {
    let listed = lab.cluster().kube().list(&deployments(lab)).expect("a list");
    let frpc = &listed[0]["spec"]["template"]["spec"]["containers"][0]["image"];
    let app = apps(lab).remove(0);
    let frps = &machine_at_fly(lab, app["name"].as_str().expect("a name"), &machine(lab))["config"]["image"];
    [frpc, frps].map(|image| image.as_str().unwrap_or_default().to_owned())
}

fn machine(lab: &Homelab) -> String {
    apps(lab)[0]["machines"][0]["id"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the lane of that Machine has gone and another serves.
#[track_caller]
fn wait_replaced(lab: &Homelab, old: &str) {
    wait_until("another lane has taken over", DEADLINE, || {
        let machines = apps(lab)[0]["machines"].as_array().cloned().unwrap_or_default();
        machines.len() == 1 && machines[0]["id"] != old && objects(lab).len() == 3
    });
}

#[test]
fn a_change_of_ports_loses_no_connection() {
    let lab = late_edges();
    let _operator = patient(&lab);
    let (web, ip) = serving(&lab);
    let old = machine(&lab);
    let stream = Stream::during(8, ip, 8080, "web", |_| {
        set_ports(&lab, &web, &[8080, 9090]);
        wait_replaced(&lab, &old);
    });
    assert_none_lost(&stream);
    assert_answers(ip, 9090, "web");
    wait_for_reason(&web, "Serving");
    assert_eq!(web.address(DEADLINE), ip, "the address stays");
    assert_one_of_everything(&lab);
}

/// The operator before ran frp 0.61.1, of another publisher. This one runs today's. A connection from before the upgrade is not cut.
#[test]
fn an_upgrade_of_the_default_images_loses_no_connection() {
    let lab = late_edges();
    let before = lab.operator(binary()).env("FLY_SETTLE_TIME", "3s").env("DRAIN_TIMEOUT", "60s");
    let before =
        before.arg("--frps-image=snowdreamtech/frps:0.61.1").arg("--frpc-image=snowdreamtech/frpc:0.61.1").start();
    let (web, ip) = serving(&lab);
    wait_for_reason(&web, "Serving");
    assert_eq!(images(&lab), ["snowdreamtech/frpc:0.61.1", "snowdreamtech/frps:0.61.1"]);
    let old = machine(&lab);
    let mut held = connect(ip, 8080).expect("a connection");
    let mut exchange = |text: &[u8]| {
        held.write_all(text).expect("it is taken");
        let mut echo = vec![0; text.len()];
        held.read_exact(&mut echo).expect("it comes back");
        assert_eq!(echo, text);
    };
    exchange(b"before the upgrade");
    drop(before);
    let stream = Stream::during(4, ip, 8080, "web", |_| {
        let _after = lab.operator(binary()).env("FLY_SETTLE_TIME", "3s").env("DRAIN_TIMEOUT", "10s").start();
        wait_until("the new lane serves, and the old one retires", DEADLINE, || {
            let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
            machines.iter().any(|machine| machine["id"] == old.as_str() && machine["cordoned"] == true)
        });
        exchange(b"after it");
        wait_replaced(&lab, &old);
    });
    assert_none_lost(&stream);
    assert_eq!(images(&lab), ["fatedier/frpc:v0.71.0", "fatedier/frps:v0.71.0"]);
    assert_eq!(web.address(DEADLINE), ip, "the address stays");
    assert_one_of_everything(&lab);
}

/// These edges hear of a cordon at once and of a check two seconds later. Between the two they know of no lane, unless
/// the operator gives them their time.
#[test]
fn edges_that_learn_of_the_new_lane_last_lose_no_connection_either() {
    let late = Settings { edge_check_delay: Duration::from_secs(2), ..Settings::default() };
    let lab = Homelab::builder().fly(late).start();
    let _operator = patient(&lab);
    let (web, ip) = serving(&lab);
    assert_answers(ip, 8080, "web"); // the edge knows the first lane now
    let old = machine(&lab);
    // A connection for which the edge knows no lane is not lost: the edge holds it, and its client waits.
    let before = lab.fly().kept_waiting(8080);
    let stream = Stream::during(8, ip, 8080, "web", |_| {
        set_ports(&lab, &web, &[8080, 9090]);
        wait_replaced(&lab, &old);
        assert_eq!(lab.fly().kept_waiting(8080), before, "nobody waited");
    });
    assert_none_lost(&stream);
}

#[test]
fn a_change_taken_back_before_the_old_lane_is_gone_loses_no_connection() {
    let lab = late_edges();
    let _operator = patient(&lab);
    let (web, ip) = serving(&lab);
    let old = machine(&lab);
    let cordoned = |id: &str| {
        let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
        machines.iter().any(|machine| machine["id"] == id && machine["cordoned"] == true)
    };
    let stream = Stream::during(8, ip, 8080, "web", |_| {
        set_ports(&lab, &web, &[8080, 9090]);
        wait_until("the old lane is cordoned", DEADLINE, || cordoned(&old));
        set_ports(&lab, &web, &[8080]);
        wait_until("the old lane is back alone", DEADLINE, || {
            let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
            machines.len() == 1 && machines[0]["id"] == old.as_str() && !cordoned(&old)
        });
    });
    assert_none_lost(&stream);
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

#[test]
fn a_change_of_region_and_of_size_moves_the_tunnel_and_keeps_the_address() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    for (annotation, value) in [("fly-region", "iad"), ("fly-machine-size", "shared-cpu-2x")] {
        let old = machine(&lab);
        let change =
            json!({ "metadata": { "annotations": { format!("fly-tunnel-operator.dev/{annotation}"): value } } });
        lab.cluster().kube().merge_patch(&web.path(), &change).expect("the annotation is set");
        wait_replaced(&lab, &old);
        assert_answers(ip, 8080, "web");
    }
    assert_eq!(apps(&lab)[0]["machines"][0]["region"], "iad");
    assert_eq!(web.address(DEADLINE), ip);
}

/// A Service that is deleted and made again between two polls has another ClusterIP, and keeps its tunnel.
#[test]
fn a_change_of_the_cluster_ip_is_followed() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    operator.kill();
    let object = web.object();
    recreate(&lab, &web, &object);
    assert_ne!(web.object()["spec"]["clusterIP"], object["spec"]["clusterIP"]);
    let _operator = start(&lab);
    wait_for_reason(&web, "Serving");
    assert_eq!(web.address(DEADLINE), ip, "the App and its address are those of the name");
    assert_answers(ip, 8080, "web");
    assert_one_of_everything(&lab);
}

fn recreate(lab: &Homelab, web: &ServiceHandle, object: &serde_json::Value) {
    let kube = lab.cluster().kube();
    web.delete();
    kube.merge_patch(&web.path(), &json!({ "metadata": { "finalizers": null } })).expect("the finalizer is taken away");
    web.wait_gone(DEADLINE);
    let again = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": web.name },
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": object["spec"]["loadBalancerClass"],
            "allocateLoadBalancerNodePorts": false,
            "selector": object["spec"]["selector"],
            "ports": object["spec"]["ports"],
        },
    });
    kube.create(&format!("/api/v1/namespaces/{}/services", web.namespace), &again).expect("the Service is accepted");
}

/// This is the one change that takes the old lane down before it makes the new one, and it says so.
#[test]
fn the_control_port_of_the_live_lane_can_become_a_port_of_the_service() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    let old = machine(&lab);
    set_ports(&lab, &web, &[8080, 7000]);
    wait_replaced(&lab, &old);
    wait_for_reason(&web, "Serving");
    assert!(operator.log().contains("Updating: the Service asks for the very port"), "{}", operator.log());
    assert_answers(ip, 7000, "web");
    assert_answers(ip, 8080, "web");
}

/// The region has no room for the new lane, so the old one serves on.
#[test]
fn a_lane_that_cannot_be_made_leaves_the_old_one_running() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    lab.fly().set_capacity([("ord".to_owned(), 0)]);
    set_ports(&lab, &web, &[8080, 9090]);
    let message = wait_for_reason(&web, "FlyCapacity");
    assert!(message.contains("region"), "{message}");
    assert_answers(ip, 8080, "web");
    assert_eq!(web.address(DEADLINE), ip);
    lab.fly().set_capacity([]);
    wait_for_reason(&web, "Serving");
    assert_answers(ip, 9090, "web");
}
