//! A Service gets an address, and shows it when it can be used.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::Value;

use crate::support::client::{assert_answers, get};
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_one_of_everything, deployments, objects};
use crate::support::{DEADLINE, binary, start};

/// The first connection is made the moment that the status shows the address, although checks pass late and boots are
/// slow.
#[test]
fn no_address_is_shown_before_a_client_can_use_it() {
    let slow = Settings {
        machine_boot: Duration::from_secs(3),
        checks_pass_late: Duration::from_secs(2),
        ..Settings::default()
    };
    let lab = Homelab::builder().fly(slow).start();
    let _operator = start(&lab);
    for name in ["one", "two", "three"] {
        lab.service(name).port(8080).create();
    }
    for name in ["one", "two", "three"] {
        let ip = lab.address_of(lab.namespace(), name, DEADLINE);
        let answer = get(ip, 8080, "/").expect("the first connection is answered");
        assert!(answer.contains(&format!("{name}-")), "{answer:?}");
    }
}

#[test]
fn one_name_in_two_namespaces_and_long_names_are_apps_of_their_own() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let other = lab.new_namespace("other");
    let long = format!("l{}", "o".repeat(61) + "g");
    let longer = format!("l{}", "o".repeat(61) + "h");
    let services = [
        lab.service("web").port(8080).create(),
        lab.service("web").namespace(&other).port(8080).create(),
        lab.service(&long).port(8080).create(),
        lab.service(&longer).port(8080).create(),
    ];
    for service in &services {
        let answer = get(service.address(DEADLINE), 8080, "/").expect("an answer");
        // A pod's name holds only the first letters of a long name.
        assert!(answer.contains(&service.name[..service.name.len().min(40)]), "{answer:?}");
    }
    let names: Vec<String> = apps(&lab).iter().filter_map(|app| app["name"].as_str().map(str::to_owned)).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in &names {
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(
            name.len() <= 60 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(label),
            "{name}"
        );
    }
}

#[test]
fn many_services_at_once() {
    let lab = Homelab::new();
    let services: Vec<_> = (0..20).map(|number| lab.service(&format!("s{number}")).port(8080).create()).collect();
    let _operator = start(&lab);
    let mut addresses: Vec<_> = services.iter().map(|service| service.address(DEADLINE)).collect();
    for (service, ip) in services.iter().zip(&addresses) {
        assert_answers(*ip, 8080, &service.name);
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
}

/// The request log tells how many requests there were, and in which order.
#[test]
fn a_tunnel_takes_few_requests_and_the_finalizer_comes_first() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "60s").start();
    let web = lab.service("web").port(8080).create();
    web.address(DEADLINE);
    let requests = lab.requests();
    let to_fly: Vec<String> = requests
        .iter()
        .filter(|request| request.to == Target::Fly)
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    // The operator waits for the Machine's boot and checks by reading it, so these reads are not counted.
    let machine = |line: &&String| !(line.starts_with("GET") && line.contains("/machines/"));
    let without_waits: Vec<_> = to_fly.iter().filter(machine).collect();
    assert!(without_waits.len() <= 8, "{without_waits:#?}");
    let first = |wanted: &dyn Fn(&lab::recorder::Request) -> bool| requests.iter().position(wanted);
    let finalizer = first(&|request| request.method == "PATCH" && request.body.contains("finalizer"));
    let fly = first(&|request| request.to == Target::Fly);
    assert!(
        finalizer.expect("a finalizer") < fly.expect("calls to Fly"),
        "the finalizer is set before the first call to Fly"
    );
}

/// Two more for each further lane. Its Machines are in all regions that are named, and its pods on several nodes.
#[test]
fn lanes_take_few_requests_and_spread_over_regions_and_nodes() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() });
    let lab = Homelab::builder().cluster(&cluster).start();
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "60s").start();
    let annotation = |name| format!("fly-tunnel-operator.dev/{name}");
    let web = lab.service("web").port(8080).annotation(&annotation("replicas"), "2");
    let web = web.annotation(&annotation("fly-region"), "ord,iad").create();
    wait_for_reason(&web, "Serving");
    let requests = lab.requests();
    let is_wait = |request: &&Request| request.method == "GET" && request.path.contains("/machines/");
    let to_fly = requests.iter().filter(|request| request.to == Target::Fly && !is_wait(request));
    let to_fly: Vec<String> = to_fly.map(|request| format!("{} {}", request.method, request.path)).collect();
    assert!(to_fly.len() <= 10, "{to_fly:#?}");
    let of_all = |field: fn(&Value) -> &Value, all: &[Value]| -> BTreeSet<String> {
        all.iter().map(|one| field(one).as_str().unwrap_or_default().to_owned()).collect()
    };
    let machines = apps(&lab)[0]["machines"].as_array().cloned().expect("Machines");
    assert_eq!(of_all(|machine| &machine["region"], &machines), BTreeSet::from(["iad".into(), "ord".into()]));
    let pods = format!("/api/v1/namespaces/{}/pods", lab.operator_namespace());
    let pods = lab.cluster().kube().list(&pods).expect("a list");
    assert_eq!((pods.len(), of_all(|pod| &pod["spec"]["nodeName"], &pods).len()), (2, 2), "{pods:#?}");
}

#[test]
fn what_was_made_bears_its_region_size_and_owner() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab
        .service("web")
        .port(8080)
        .annotation("fly-tunnel-operator.dev/fly-region", "iad")
        .annotation("fly-tunnel-operator.dev/fly-machine-size", "shared-cpu-2x")
        .annotation("fly-tunnel-operator.dev/frpc-cpu-limit", "200m")
        .create();
    web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
    let app = apps(&lab).remove(0);
    assert_ne!(app["network"], "default");
    assert_eq!(app["machines"][0]["region"], "iad");
    let requests = lab.requests();
    let create = requests.iter().find(|r| r.method == "POST" && r.path.ends_with("/machines")).expect("a Machine");
    assert!(create.body.contains(r#""guest":{"cpu_kind":"shared","cpus":2,"memory_mb":512}"#), "{}", create.body);
    let ingress = &web.object()["status"]["loadBalancer"]["ingress"];
    assert_eq!(ingress[0]["ipMode"], "Proxy", "{ingress}");
    let deployment = lab.cluster().kube().list(&deployments(&lab)).expect("a list").remove(0);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["cpu"], "200m", "{container}");
    assert_eq!(objects(&lab).len(), 3);
}

#[test]
fn without_checks_the_address_comes_with_frpc() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("FLY_SERVICE_CHECKS", "false").start();
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    let requests = lab.requests();
    let create = requests.iter().find(|r| r.method == "POST" && r.path.ends_with("/machines")).expect("a Machine");
    assert!(!create.body.contains("checks"), "{}", create.body);
}

/// Fly may say for a while that an App which it just made is not there.
#[test]
fn an_app_that_appears_late_is_waited_for() {
    let late = Settings { app_appears_after: Duration::from_secs(4), ..Settings::default() };
    let lab = Homelab::builder().fly(late).start();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    assert_one_of_everything(&lab);
}
