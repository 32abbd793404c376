//! A drain that is interrupted or cannot go on loses nothing, and another drain ends the work.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Gate, Rule, Target};
use serde_json::{Map, json};

use super::{assert_untouched, drain};
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_nothing_left, assert_one_of_everything};
use crate::support::lease::{LEASE, candidate, expendable, holder, leader, lease, reigns, steps};
use crate::support::{DEADLINE, LONG_DEADLINE, ended, serving, side_by_side, wait_until};

#[test]
fn killed_at_any_step_it_is_run_again_and_leaves_nothing() {
    let points = [
        (Target::Kubernetes, "PATCH", "/status"),
        (Target::Kubernetes, "DELETE", "/deployments/"),
        (Target::Fly, "DELETE", "/ip_assignments/"),
        (Target::Fly, "DELETE", "/machines/"),
        (Target::Fly, "DELETE", "force=true"),
        (Target::Kubernetes, "PATCH", "/web/status$"),
    ];
    let cases = points.into_iter().flat_map(|point| [false, true].map(|counted| (point, counted)));
    side_by_side(6, cases, |((to, method, path), counted)| {
        let lab = Homelab::new();
        let operator = leader(expendable(&lab, "a"));
        let (web, _) = serving(&lab);
        operator.kill();
        let gate = Gate::default();
        let fault = if counted { Fault::HoldReply(gate.clone()) } else { Fault::Hold(gate.clone()) };
        lab.faults([Rule::new(fault).from("drain").to(to).method(method).path(path)]);
        let drain_once = candidate(&lab, "drain").arg("--drain").start();
        gate.wait(DEADLINE).unwrap_or_else(|| panic!("{method} {path} is not sent: {}", drain_once.log()));
        drain_once.kill();
        gate.drop_held();
        lab.faults([]);
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(0), "{log}");
        assert_nothing_left(&lab);
        assert_untouched(&web);
    });
}

#[test]
fn interrupted_in_the_middle_it_says_what_to_do() {
    side_by_side(2, ["/ip_assignments/", "/machines/"], |path| {
        let lab = Homelab::new();
        let operator = leader(expendable(&lab, "a"));
        let (web, _) = serving(&lab);
        operator.kill();
        let gate = Gate::default();
        lab.faults([Rule::new(Fault::Hold(gate.clone())).from("drain").to(Target::Fly).method("DELETE").path(path)]);
        let interrupted = candidate(&lab, "drain").arg("--drain").start();
        gate.wait(DEADLINE).unwrap_or_else(|| panic!("{path} is not deleted: {}", interrupted.log()));
        interrupted.interrupt();
        wait_until("it has heard", DEADLINE, || interrupted.log().contains("ending; what is under way"));
        gate.open();
        let (code, log) = ended(interrupted);
        assert_eq!(code, Some(1), "{log}");
        for said in ["before all was done", "/web: not done yet", "what is left is billed"] {
            assert!(log.contains(said), "{said}: {log}");
        }
        let object = web.object();
        assert_eq!(object["status"]["loadBalancer"], json!({}), "somebody else may get the address: {object:#}");
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(0), "{log}");
        assert_nothing_left(&lab);
        assert_untouched(&web);
    });
}

/// An operator that still runs must not make tunnels anew that are down, as long as somebody may try the drain again.
#[test]
fn where_fly_is_down_it_fails_and_nothing_is_given_up() {
    let lab = Homelab::new();
    let operator = leader(expendable(&lab, "a"));
    let (web, ip) = serving(&lab);
    let down =
        || Rule::new(Fault::Answer(Answer { status: 503, headers: Map::new(), body: "down".into() })).to(Target::Fly);
    lab.faults([down().from("drain").method("DELETE").times(u32::MAX)]);
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    for said in ["/web: Fly cannot be asked: HTTP 503: down", "what is left is billed"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(web.address(DEADLINE), ip, "it is billed, so it is shown");
    assert!(!steps(&lab, "drain").iter().any(|step| step.path.contains("/deployments/")), "and serves");
    assert!(!web.object()["metadata"]["finalizers"].is_null());
    assert_eq!(apps(&lab).len(), 1);
    assert_ne!(holder(&lab), "", "not released");
    assert_eq!(lease(&lab).expect("a Lease")["spec"]["leaseDurationSeconds"], LEASE.as_secs(), "nor kept for good");

    let taken = || reigns(&lab).iter().filter(|(from, ..)| from == "drain").count();
    for skip in [0, 1] {
        let before = taken();
        lab.faults([down().from("drain").method("GET").path("/v1/apps\\?").skip(skip).times(u32::MAX)]);
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("what there is to take down cannot be found out"), "{log}");
        assert_eq!(log.contains("what is left is billed"), skip == 1, "{log}");
        assert_eq!(taken() > before, skip == 1, "{log}");
    }

    // Nobody tries the drain again, so the operator that is left serves.
    lab.faults([]);
    wait_until("the operator leads again", LONG_DEADLINE, || operator.log().matches("leading, as").count() > 1);
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

/// An operator that still runs would take the Lease, and make all the tunnels again.
#[test]
fn where_the_lease_cannot_be_kept_it_is_tried_again_and_then_said() {
    side_by_side(2, [true, false], |comes_back| {
        let lab = Homelab::new();
        let operator = leader(expendable(&lab, "a"));
        let (web, _) = serving(&lab);
        operator.kill();
        let gate = Gate::default();
        let last = Rule::new(Fault::Hold(gate.clone())).from("drain").method("PATCH").path("/web/status$");
        lab.faults([last]);
        let drain = candidate(&lab, "drain").arg("--drain").start();
        gate.wait(DEADLINE).expect("the finalizer is taken away last");
        let down = Fault::Answer(Answer { status: 503, headers: Map::new(), body: "down".into() });
        lab.faults([Rule::new(down).from("drain").method("PUT").path("/leases/").times(u32::MAX)]);
        gate.open();
        if comes_back {
            wait_until("it fails", DEADLINE, || {
                drain.log().contains("the Lease cannot be kept from other operators yet")
            });
            lab.faults([]);
        }
        let (code, log) = ended(drain);
        assert_eq!(code, Some(i32::from(!comes_back)), "{log}");
        assert_eq!(
            log.contains("the Lease could not be kept: an operator that still runs makes them again"),
            !comes_back,
            "{log}"
        );
        assert_untouched(&web);
    });
}
