//! Labs with hundreds of Services that have no backends; without traffic there are no processes either.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use lab::cluster::{Cluster, ClusterOptions};
use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use serde_json::json;

/// How many threads create or delete Services at the same time.
const THREADS: usize = 4;

/// A lab on a cluster of its own, so that lists of Services hold only its own.
pub fn lab(fly: Settings, traffic: bool) -> Homelab {
    let cluster: Arc<Cluster> = Cluster::start(ClusterOptions { traffic, ..ClusterOptions::default() });
    Homelab::builder().fly(fly).traffic(traffic).cluster(&cluster).start()
}

/// An operator at the intervals and the log level that users have.
pub fn operator<'a>(lab: &'a Homelab, binary: &Path) -> Operator<'a> {
    let quick = ["POLL_INTERVAL", "RESYNC_INTERVAL", "FLY_SETTLE_TIME", "DRAIN_TIMEOUT", "RUST_LOG"];
    quick.into_iter().fold(lab.operator(binary), Operator::without)
}

/// A running operator that looks only once at tunnels that are settled.
pub fn operator_without_resync(lab: &Homelab, binary: &Path) -> RunningOperator {
    operator(lab, binary).env("RESYNC_INTERVAL", "1h").start()
}

/// Creates Services with one port each, and no backends.
pub fn create(lab: &Homelab, prefix: &str, number: usize) {
    let kube = lab.cluster().kube();
    let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
    let create_one = |number: usize| {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": format!("{prefix}-{number}") },
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerClass": lab.class(),
                "allocateLoadBalancerNodePorts": false,
                "selector": { "app": prefix },
                "ports": [{ "port": 8080 }],
            },
        });
        kube.create(&services, &service).expect("the Service is accepted");
    };
    at_once(number, create_one);
}

/// Deletes as many of these Services.
pub fn delete(lab: &Homelab, prefix: &str, number: usize) {
    let services = format!("/api/v1/namespaces/{}/services", lab.namespace());
    let delete_one = |number: usize| {
        lab.cluster().kube().delete(&format!("{services}/{prefix}-{number}")).expect("it is deleted");
    };
    at_once(number, delete_one);
}

fn at_once(number: usize, one: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        let one = &one;
        for first in 0..THREADS {
            scope.spawn(move || (first..number).step_by(THREADS).for_each(one));
        }
    });
}
