//! The pod of the only lane's frpc is ended: its node is drained, its Deployment rolled out, it is evicted or deleted. No user notices.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, ClusterOptions};
use lab::homelab::Homelab;
use serde_json::{Value, json};

use crate::support::client::{Stream, connect};
use crate::support::inventory::{deployments, frpc_pods, ready};
use crate::support::{DEADLINE, LONG_DEADLINE, serving, start, wait_until};

/// The time that a new pod takes to start.
const PULL: Duration = Duration::from_secs(5);

/// An established connection is used for so long once the end of its pod was asked for.
const DOWNLOAD: Duration = Duration::from_secs(30);

/// The grace period of the pod, and what a busy machine adds.
const GRACE: Duration = Duration::from_secs(100);

const CONNECTIONS: usize = 10_000;

/// A pod tells frps that it leaves the group. Whoever frps hands to it while that message is on its way is lost: stock frpc hands on nothing
/// for a port that it gave back. That is a moment of some milliseconds, longer on a busy machine. Without the pod's `preStop` hook all are lost
/// until its replacement serves.
const MOST_LOST: usize = CONNECTIONS / 1000;

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// A connection that sends, and gets back what it sent.
struct Established(TcpStream);

impl Established {
    fn open(ip: IpAddr) -> Established {
        let mut this = Established(connect(ip, 8080).expect("a connection"));
        this.exchange();
        this
    }

    #[track_caller]
    fn exchange(&mut self) {
        let text = b"still there?";
        self.0.write_all(text).expect("it is taken");
        let mut echo = [0; 12];
        self.0.read_exact(&mut echo).expect("it comes back");
        assert_eq!(&echo, text);
    }
}

/// One pod serves. While clients connect as fast as they can, `end` has it ended; then it is gone, and another serves.
fn none_is_lost(lab: &Homelab, ip: IpAddr, end: impl FnOnce(&Value) + Send) {
    wait_until("frpc's pod is ready", DEADLINE, || ready(lab) == 1);
    let old = frpc_pods(lab)[0].clone();
    lab.cluster().pull_images_in(lab.operator_namespace(), PULL);
    let mut established = Established::open(ip);
    let stream = Stream::during(8, ip, 8080, "web", |stream| {
        std::thread::scope(|scope| {
            let began = Instant::now();
            let ending = scope.spawn(|| end(&old));
            wait_until("the download is at its end", LONG_DEADLINE, || {
                established.exchange();
                began.elapsed() > DOWNLOAD
            });
            ending.join().expect("it is asked for");
            wait_until("the pod is gone", GRACE, || frpc_pods(lab).iter().all(|pod| name(pod) != name(&old)));
        });
        wait_until("many connected", LONG_DEADLINE, || stream.answered.load(Ordering::Relaxed) > CONNECTIONS);
    });
    let lost = stream.lost.lock().expect("nobody panicked");
    println!("{} connections, lost: {lost:?}", stream.answered.load(Ordering::Relaxed));
    assert!(lost.len() <= MOST_LOST, "{lost:#?}");
    assert_eq!(frpc_pods(lab).len(), 1);
}

/// Whoever drains evicts the pods of frpc alone here, since the backend has no second pod.
fn drain(lab: &Homelab, node: &str) -> bool {
    let timeout = format!("--timeout={}s", GRACE.as_secs());
    let frpc = "--pod-selector=app.kubernetes.io/name=frpc";
    let output = lab.cluster().kubectl(&["drain", node, "--delete-emptydir-data", "--force", frpc, &timeout]);
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

fn node(pod: &Value) -> String {
    pod["spec"]["nodeName"].as_str().expect("it is scheduled").to_owned()
}

/// The second node is drained when no other is left: the replacement cannot start, and the drain ends all the same.
#[test]
fn a_node_is_drained_without_loss_and_a_drain_ends_without_a_replacement() {
    let cluster = Cluster::start(ClusterOptions { nodes: 2, ..ClusterOptions::default() });
    let lab = Homelab::builder().cluster(&cluster).start();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    none_is_lost(&lab, ip, |old| assert!(drain(&lab, &node(old)), "it is not drained"));
    let left = frpc_pods(&lab)[0].clone();
    assert!(drain(&lab, &node(&left)), "it is not drained");
    assert!(frpc_pods(&lab).iter().all(|pod| pod["spec"]["nodeName"].is_null()), "{:#?}", frpc_pods(&lab));
}

/// An operator would undo it at once.
#[test]
fn a_rollout_loses_nothing() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (_, ip) = serving(&lab);
    drop(operator);
    none_is_lost(&lab, ip, |_| {
        let deployment = lab.cluster().kube().list(&deployments(&lab)).expect("a list")[0].clone();
        let restart = format!("deployment/{}", name(&deployment));
        let output = lab.cluster().kubectl(&["--namespace", lab.operator_namespace(), "rollout", "restart", &restart]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn an_eviction_loses_nothing() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    none_is_lost(&lab, ip, |old| {
        let metadata = json!({ "name": name(old), "namespace": lab.operator_namespace() });
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata });
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", lab.operator_namespace(), name(old));
        lab.cluster().kube().create(&path, &eviction).expect("it is evicted");
    });
}

#[test]
fn a_pod_that_is_deleted_by_hand_loses_nothing() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    none_is_lost(&lab, ip, |old| {
        let pod = ["delete", "pod", name(old), "--wait=false"];
        let output = lab.cluster().kubectl(&[&["--namespace", lab.operator_namespace()][..], &pod].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Its Machine is gone by then, so that nobody waits for the pod.
#[test]
fn the_pod_of_a_lane_that_goes_ends_at_once() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    web.delete();
    web.wait_gone(DEADLINE);
    let gone = Instant::now();
    wait_until("its pod is gone", DEADLINE, || frpc_pods(&lab).is_empty());
    assert!(gone.elapsed() < GRACE / 5, "{:?}", gone.elapsed());
}
