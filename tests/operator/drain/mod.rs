//! `--drain`, which people run before an uninstall: while the operator is up, down, or frozen in the middle of its work.

mod afterwards;
mod complete;
mod failing;
mod owners;

use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use lab::service::ServiceHandle;
use serde_json::json;

use crate::support::inventory::assert_nothing_left;
use crate::support::lease::{candidate, expendable, leader};
use crate::support::{ended, serving};

/// Drains a Service's tunnel while its operator runs. Gives the Service and that operator, which still runs.
fn drained(lab: &Homelab) -> (ServiceHandle<'_>, RunningOperator) {
    let operator = leader(expendable(lab, "a"));
    let (web, _) = serving(lab);
    let (code, log) = drain(lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(lab);
    assert_untouched(&web);
    (web, operator)
}

/// Runs `--drain` to its end. Gives its exit code and its log.
fn drain(lab: &Homelab) -> (Option<i32>, String) {
    let drain = candidate(lab, "drain").arg("--drain").env("RUST_LOG", "info").start();
    ended(drain)
}

/// Asserts that the Service is there as if nobody had ever served it.
fn assert_untouched(service: &ServiceHandle) {
    let object = service.object();
    assert_eq!(object["status"], json!({ "loadBalancer": {} }), "{object:#}");
    assert!(object["metadata"]["finalizers"].is_null() && !object["spec"].is_null(), "{object:#}");
}

/// A drain by an administrator. It has another kubeconfig than the operator, so it gets a recorder of its own again.
fn by_administrator(lab: &Homelab) -> Operator<'_> {
    candidate(lab, "drain").arg("--drain").as_admin().named("drain")
}
