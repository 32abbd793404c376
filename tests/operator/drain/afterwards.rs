//! Operators after a drain: those that ran before it, and those that are started later.

use std::time::SystemTime;

use lab::homelab::Homelab;
use lab::recorder::{Fault, Gate, Rule};

use super::{assert_untouched, drain, drained};
use crate::support::conditions::wait_for_reason;
use crate::support::http::{ask, status};
use crate::support::inventory::assert_nothing_left;
use crate::support::lease::{LEASE, candidate, expendable, holder, is_lease, leader, reigns, time};
use crate::support::{DEADLINE, LONG_DEADLINE, wait_until};

#[test]
fn an_operator_that_ran_before_stands_by_for_good_and_says_why() {
    let lab = Homelab::new();
    let (web, operator) = drained(&lab);
    wait_until("the operator says so", DEADLINE, || operator.log().contains("(--drain), and they stay down"));
    wait_until("its readiness says so", DEADLINE, || {
        let (unready, _, text) = ask(&operator, "/readyz").expect("an answer");
        unready == 503 && text.contains("start this operator again")
    });
    let since = SystemTime::now();
    wait_until("it had time to take a Lease that expires", LONG_DEADLINE, || {
        let looks = lab.requests().into_iter().filter(|r| r.from == "a" && is_lease(r) && time(r) > since).count();
        since.elapsed().is_ok_and(|passed| passed > LEASE) && looks > 8
    });
    assert!(!holder(&lab).is_empty() && reigns(&lab).last().is_some_and(|(from, ..)| from == "drain"));
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// A new install after the drain starts such an operator, and wants its tunnels.
#[test]
fn an_operator_that_is_started_afterwards_serves_again() {
    let lab = Homelab::new();
    let (web, operator) = drained(&lab);
    let again = leader(expendable(&lab, "b"));
    wait_until("it is ready", DEADLINE, || status(&again, "/readyz") == Some(200));
    wait_until("the other stands by for it", DEADLINE, || status(&operator, "/readyz") == Some(200));
    web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
}

/// The operator is frozen in the middle of a step, and wakes when all is down.
#[test]
fn an_operator_that_was_frozen_makes_nothing_after_waking() {
    let lab = Homelab::new();
    let operator = leader(candidate(&lab, "a"));
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::HoldReply(gate.clone())).from("a").method("POST").path("/v1/apps$")]);
    let web = lab.service("web").port(8080).create();
    gate.wait(DEADLINE).expect("the App is asked for");
    operator.pause();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    operator.resume();
    gate.open();
    wait_until("it stands by", DEADLINE, || operator.log().contains("standing by"));
    assert_nothing_left(&lab);
    assert_untouched(&web);
}
