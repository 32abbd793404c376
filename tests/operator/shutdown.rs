//! The end of the operator when it is told to end.

use std::time::Duration;

use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use lab::recorder::{Fault, Gate, Request, Rule, Target};

use crate::support::{DEADLINE, binary, start, wait_until};

/// The operator gives a step that is under way 5 s, and the Lease and the last events some more. A request that is held
/// takes 30 s, so an operator that ends within this time has not waited for it.
const SOON: Duration = Duration::from_secs(15);

/// An operator whose request for an App is kept from Fly until the gate opens.
fn asking_for_an_app(lab: &Homelab, operator: Operator) -> (RunningOperator, Gate) {
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::Hold(gate.clone())).to(Target::Fly).method("POST").path("/v1/apps$")]);
    lab.service("web").port(8080).create();
    let operator = operator.start();
    gate.wait(DEADLINE).expect("the App is asked for");
    (operator, gate)
}

#[test]
fn it_ends_when_it_is_told_to_also_before_the_cluster_answers() {
    let lab = Homelab::new();
    lab.faults([Rule::new(Fault::Refuse).to(Target::Kubernetes).times(u32::MAX)]);
    let mut operator = lab.operator(binary()).without("CLUSTER_NAME").start();
    lab.wait_requests(DEADLINE, |requests| requests.len() >= 2);
    operator.terminate();
    let status = operator.wait(SOON).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", operator.log());
}

/// A pipeline must not take an interrupted `--once` for a success.
#[test]
fn once_that_is_told_to_end_before_all_is_done_has_failed() {
    let lab = Homelab::new();
    let (mut once, gate) = asking_for_an_app(&lab, lab.operator(binary()).arg("--once"));
    once.interrupt();
    wait_until("it was told", DEADLINE, || once.log().contains("ending"));
    gate.open();
    assert_eq!(once.wait(SOON).and_then(|status| status.code()), Some(1), "{}", once.log());
    assert!(once.log().contains("told to end before all was done"), "{}", once.log());
}

/// The operator has begun nothing that it would have to finish.
#[test]
fn it_ends_at_once_while_the_cluster_keeps_it_waiting() {
    let lab = Homelab::new();
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::Hold(gate.clone())).to(Target::Kubernetes).path("^/version")]);
    let mut operator = start(&lab);
    gate.wait(DEADLINE).expect("it asks");
    operator.terminate();
    let ended = operator.wait(SOON).expect("it does not wait for the reply");
    assert_eq!(ended.code(), Some(0), "{}", operator.log());
    assert!(operator.log().contains("ending; nothing was begun"), "{}", operator.log());
}

#[test]
fn it_ends_with_0_when_it_is_told_to() {
    let lab = Homelab::new();
    let mut operator = start(&lab);
    wait_until("it has polled", DEADLINE, || !lab.requests().is_empty());
    operator.terminate();
    let status = operator.wait(SOON).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", operator.log());
}

#[test]
fn the_step_in_hand_is_finished_and_none_is_begun() {
    let lab = Homelab::new();
    let (mut operator, gate) = asking_for_an_app(&lab, lab.operator(binary()));
    operator.interrupt();
    wait_until("it was told", DEADLINE, || operator.log().contains("ending"));
    gate.open();
    assert_eq!(operator.wait(SOON).and_then(|status| status.code()), Some(0), "{}", operator.log());
    assert!(operator.log().contains("create the App"), "the step in hand was finished: {}", operator.log());
    let is_step = |r: &&Request| r.method != "GET" && !r.path.contains("/events");
    let requests = lab.requests();
    let last = requests.iter().rfind(is_step).expect("a step");
    assert!(last.path.ends_with("/v1/apps"), "{last:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let lab = Homelab::new();
    let (mut operator, _gate) = asking_for_an_app(&lab, lab.operator(binary()));
    operator.terminate();
    wait_until("it was told", DEADLINE, || operator.log().contains("ending"));
    assert_eq!(operator.exit_status(), None, "a step is under way");
    operator.terminate();
    // An operator that waited for the step would end with 0.
    assert_eq!(operator.wait(SOON).and_then(|status| status.code()), Some(128 + 15));
}
