//! The operator is killed, or its Service deleted, at each request of a creation and of a deletion. The points come
//! from the request log: a gate before the n-th request, or before its reply.

use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::recorder::{Fault, Gate, Request, Rule, Target};

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{assert_nothing_left, assert_one_of_everything};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, side_by_side, wait_until};

/// The number of cases that run at once. They spend most of their time waiting, so there can be many.
const AT_ONCE: usize = 10;

/// A point in a story: the n-th request to Fly or to the API server, either before it is carried out or before its
/// reply.
#[derive(Clone, Copy, Debug)]
struct Point {
    to: Target,
    number: u32,
    counted: bool,
}

impl Point {
    /// A pattern for the paths of requests that are about a tunnel. Those of the polls do not match.
    const OF_A_TUNNEL: &str = "/apps|/namespaces/";

    fn rule(self, gate: &Gate) -> Rule {
        let fault = if self.counted { Fault::HoldReply(gate.clone()) } else { Fault::Hold(gate.clone()) };
        Rule::new(fault).to(self.to).path(Point::OF_A_TUNNEL).skip(self.number)
    }

    /// Two points for each of these requests: one before it is carried out, one before its reply.
    fn all(requests: &[Request]) -> Vec<Point> {
        let about_a_tunnel = |r: &&Request| r.path.contains("/apps") || r.path.contains("/namespaces/");
        let count = |to| requests.iter().filter(|r| r.to == to).filter(about_a_tunnel).count();
        let mut points = Vec::new();
        for to in [Target::Fly, Target::Kubernetes] {
            let numbers = 0..u32::try_from(count(to)).expect("few");
            points.extend(numbers.flat_map(|number| [false, true].map(|counted| Point { to, number, counted })));
        }
        points
    }
}

/// An operator that looks again on its own only after a minute, so that stories are the same each time.
fn start(lab: &Homelab) -> RunningOperator {
    lab.operator(binary()).env("RESYNC_INTERVAL", "60s").start()
}

/// The requests of a creation that nothing disturbs.
fn creation() -> Vec<Request> {
    let lab = Homelab::new();
    let _operator = start(&lab);
    serving(&lab);
    lab.requests()
}

/// The requests of a deletion that nothing disturbs.
fn deletion() -> Vec<Request> {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let before = lab.requests().len();
    web.delete();
    web.wait_gone(DEADLINE);
    lab.requests().split_off(before)
}

#[test]
fn killed_at_any_request_of_a_creation_it_ends_with_one_of_everything() {
    side_by_side(AT_ONCE, Point::all(&creation()), |point| {
        let lab = Homelab::new();
        let gate = Gate::default();
        lab.faults([point.rule(&gate)]);
        let operator = start(&lab);
        let web = lab.service("web").port(8080).create();
        // A late point may not be reached, because the Machine may be polled once more or once less than before.
        wait_until("the point, or the end", DEADLINE, || {
            gate.wait(std::time::Duration::from_millis(100)).is_some() || condition(&web.object()).0 == "Serving"
        });
        operator.kill();
        gate.drop_held();
        lab.faults([]);
        let _operator = start(&lab);
        let ip = web.address(DEADLINE);
        wait_for_reason(&web, "Serving");
        assert_one_of_everything(&lab);
        assert_answers(ip, 8080, "web");
    });
}

/// Fly bills each address and each Machine, so the operator does not ask again for one that was made but whose reply
/// was lost.
#[test]
fn a_lost_reply_buys_nothing_twice() {
    let creates = ["/apps$", "/ip_assignments$", "/machines$"];
    side_by_side(creates.len(), creates, |path| {
        let lab = Homelab::new();
        lab.faults([Rule::new(Fault::LoseReply).to(Target::Fly).method("POST").path(path)]);
        let _operator = start(&lab);
        serving(&lab);
        assert_one_of_everything(&lab);
        let bought = |wanted: &str| {
            let carried_out = |r: &&Request| r.method == "POST" && r.path.ends_with(wanted) && r.status != Some(409);
            lab.requests().iter().filter(carried_out).count()
        };
        assert_eq!((bought("/ip_assignments"), bought("/machines")), (1, 1), "after {path}");
    });
}

#[test]
fn killed_at_any_request_of_a_deletion_it_leaves_nothing() {
    side_by_side(AT_ONCE, Point::all(&deletion()), |point| {
        let lab = Homelab::new();
        let operator = start(&lab);
        let (web, _) = serving(&lab);
        let gate = Gate::default();
        lab.faults([point.rule(&gate)]);
        web.delete();
        wait_until("the point, or the end", DEADLINE, || {
            gate.wait(std::time::Duration::from_millis(100)).is_some() || web.object().is_null()
        });
        operator.kill();
        gate.drop_held();
        lab.faults([]);
        let _operator = start(&lab);
        web.wait_gone(LONG_DEADLINE);
        assert_nothing_left(&lab);
    });
}

#[test]
fn deleted_at_any_request_of_its_creation_a_service_leaves_nothing() {
    let points = Point::all(&creation()).into_iter().filter(|point| !point.counted);
    side_by_side(AT_ONCE, points, |point| {
        let lab = Homelab::new();
        let gate = Gate::default();
        lab.faults([point.rule(&gate)]);
        let _operator = start(&lab);
        let web = lab.service("web").port(8080).create();
        wait_until("the point, or the end", DEADLINE, || {
            gate.wait(std::time::Duration::from_millis(100)).is_some() || condition(&web.object()).0 == "Serving"
        });
        web.delete();
        gate.open();
        web.wait_gone(LONG_DEADLINE);
        assert_nothing_left(&lab);
    });
}
