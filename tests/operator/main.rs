//! The built operator as a whole: on a real control plane, with the real frp, a simulated Fly and real traffic. One
//! file a subject; all share one control plane, and each test has a Fly, a log and namespaces of its own.

mod api_server;
mod change;
mod chart;
mod client;
mod crash;
mod creation;
mod deletion;
mod dependencies;
mod describe;
mod drain;
mod dry_run;
mod election;
mod events;
mod in_cluster;
mod kubeconfig;
mod logs;
mod metrics;
mod refusal;
mod release;
mod rights;
mod secrets;
mod settings;
mod shutdown;
mod snapshot;
mod strangers;
mod traffic;
mod versions;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::service::ServiceHandle;
use serde_json::{Value, json};

/// Longer than anything that is waited for takes, on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longer than it takes until a "not found" of Fly's is believed: a minute, and what comes after.
const LONG_DEADLINE: Duration = Duration::from_secs(150);

/// The finalizer of this lab's class is ours with a hash.
const FINALIZER: &str = "fly-tunnel-operator.dev/finalizer";

/// The binary that Cargo built for these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fly-tunnel-operator"))
}

/// An operator of this lab, at work.
fn start(lab: &Homelab) -> RunningOperator {
    lab.operator(binary()).start()
}

/// A Service `web` with port 8080 that serves, and its address.
#[track_caller]
fn serving(lab: &Homelab) -> (ServiceHandle<'_>, IpAddr) {
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    (web, ip)
}

/// Waits until it holds.
#[track_caller]
fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Our condition on the Service: reason and message; empty if there is none.
fn condition(service: &Value) -> (String, String) {
    let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ours = conditions.into_iter().find(|condition| condition["type"] == "fly-tunnel-operator.dev/Ready");
    let text = |field: &str| ours.as_ref().and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Waits for the condition's reason; gives its message.
#[track_caller]
fn wait_for_reason(service: &ServiceHandle, reason: &str) -> String {
    wait_until(&format!("{reason} of {}", service.name), LONG_DEADLINE, || condition(&service.object()).0 == reason);
    condition(&service.object()).1
}

/// The Apps of the lab's organisation.
fn apps(lab: &Homelab) -> Vec<Value> {
    let state = lab.fly().state();
    let apps = state["apps"].as_array().cloned().unwrap_or_default();
    apps.into_iter().filter(|app| app["org"] == lab.fly().organisation()).collect()
}

/// Names of the Deployments, ConfigMaps and Secrets of tunnels.
fn objects(lab: &Homelab) -> Vec<String> {
    let namespace = lab.operator_namespace();
    let core = format!("/api/v1/namespaces/{namespace}");
    let lists = [
        format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
        format!("{core}/configmaps"),
        format!("{core}/secrets"),
    ];
    let all = lists.iter().flat_map(|list| lab.cluster().kube().list(list).expect("a list"));
    let names = all.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned));
    names.filter(|name| name.starts_with("lb-")).collect()
}

/// One App with one address and one Machine, as it should be when all is settled.
#[track_caller]
fn assert_one_of_everything(lab: &Homelab) {
    let settled = || {
        let apps = apps(lab);
        apps.len() == 1
            && apps[0]["ips"].as_array().is_some_and(|ips| ips.len() == 1)
            && apps[0]["machines"].as_array().is_some_and(|machines| machines.len() == 1)
            && objects(lab).len() == 3
    };
    let end = Instant::now() + DEADLINE;
    while !settled() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(settled(), "Fly: {:#?}\ncluster: {:?}", apps(lab), objects(lab));
}

/// Nothing at Fly, and nothing in the cluster.
#[track_caller]
fn assert_nothing_left(lab: &Homelab) {
    assert_eq!(json!(apps(lab)), json!([]));
    assert_eq!(objects(lab), [""; 0]);
}

/// Runs the cases side by side, a few at once.
fn side_by_side<T: Send>(at_once: usize, cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    let cases = std::sync::Mutex::new(cases.into_iter().collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = { cases.lock().expect("no one panics while holding it").pop() } {
                    run(case);
                }
            });
        }
    });
}
