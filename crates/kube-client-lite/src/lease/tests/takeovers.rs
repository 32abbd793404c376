//! Leases that are seized and retired.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::clock::Now;
use super::super::election::{Election, Move, Write};
use super::super::record::Lease;
use super::super::takeover::Takeover;
use super::{Clocks, TIMINGS, leader, lease, theirs, written};

fn candidate(identity: &str) -> Takeover {
    Takeover::new(Election::new("l", identity, TIMINGS))
}

/// The Lease that is to be written by a seizure.
fn seized(takeover: &mut Takeover, found: Option<Lease>, now: Now) -> Value {
    written(Move::Write(takeover.seize(found, now))).expect("a write")
}

#[test]
fn a_lease_is_seized_whoever_holds_it_and_its_holder_is_waited_for() {
    let clocks = Clocks::new();
    let held = |holder: &str, seconds: u32| {
        Some(lease(json!({ "holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": 4 })))
    };
    for (found, outlives, transitions) in [
        (None, 0, 0),
        (held("them", 90), 90, 5),
        (Some(lease(json!({ "holderIdentity": "them" }))), 60, 1),
        (held("", 1), 0, 5),
        // Somebody erased its holder, who does not know.
        (held("", 90), 90, 5),
        // It is retired: its holder has ended.
        (held("them", i32::MAX as u32), 0, 5),
    ] {
        let mut us = candidate("us");
        let taken = seized(&mut us, found.clone(), clocks.at(0));
        assert_eq!(taken["spec"]["holderIdentity"], "us", "{found:?}");
        assert_eq!(taken["spec"]["leaseTransitions"], transitions, "{found:?}");
        assert_eq!(taken["spec"]["leaseDurationSeconds"], outlives.max(60), "whoever follows waits as well: {found:?}");
        // The reply was lost: the Lease is ours already, but its last holder goes on all the same.
        seized(&mut us, held("us", 60), clocks.at(0));
        let ours: Lease = serde_json::from_value(taken).expect("a Lease");
        for at in (0..=100).step_by(10) {
            us.wrote(ours.clone(), clocks.at(at), clocks.at(at));
            assert_eq!(us.leads_from(clocks.at(at)).is_some(), at >= outlives, "{found:?} at {at} s");
            let release = us.clone().release(clocks.at(at));
            assert_eq!(release.is_some(), at >= outlives, "nobody may follow at once: {found:?} at {at} s");
        }
    }
}

#[test]
fn a_lease_that_is_retired_is_for_those_who_begin_afterwards() {
    let clocks = Clocks::new();
    let mut ended = Takeover::new(leader(clocks));
    let Some(Write::Replace(retired)) = ended.retire(clocks.at(5)) else { panic!("nothing to write") };
    ended.wrote(retired.clone(), clocks.at(5), clocks.at(5));
    assert!(ended.election().is_retired() && ended.leads_from(clocks.at(5)).is_none());
    let record = serde_json::to_value(&retired).expect("JSON")["spec"].clone();
    assert_eq!((&record["holderIdentity"], &record["leaseDurationSeconds"]), (&json!("us"), &json!(i32::MAX)));

    let mut waiting = candidate("it waited before");
    waiting.read(Some(lease(json!({ "holderIdentity": "us", "leaseDurationSeconds": 60 }))), clocks.at(0));
    for at in [5, 100, 1_000_000] {
        assert_eq!(waiting.read(Some(retired.clone()), clocks.at(at)), Move::Stand, "{at} s");
    }
    let mut later = candidate("it began afterwards");
    for at in [6, 65] {
        assert_eq!(
            later.read(Some(retired.clone()), clocks.at(at)),
            Move::Stand,
            "it may be about to end as well: {at} s"
        );
        assert!(!later.election().is_retired());
    }
    let taken = later.read(Some(retired.clone()), clocks.at(66));
    assert_eq!(written(taken).expect("free")["spec"]["leaseDurationSeconds"], 60);
    assert_eq!(candidate("of nobody's Lease").retire(clocks.at(0)), None);
}

/// Its holder may have renewed it right before somebody deleted it.
#[test]
fn the_last_holder_of_a_lease_that_was_deleted_is_waited_for() {
    let clocks = Clocks::new();
    let mut us = candidate("us");
    us.read(Some(theirs("a")), clocks.at(0));
    let taken = seized(&mut us, None, clocks.at(10));
    us.wrote(serde_json::from_value(taken).expect("a Lease"), clocks.at(10), clocks.at(11));
    assert!(us.election().holds(clocks.at(12)) && us.leads_from(clocks.at(12)).is_none());
    assert_eq!(us.outlived_in(clocks.at(12)), Some(Duration::from_secs(59)), "from the reply on");

    let mut leader = Takeover::new(leader(clocks));
    seized(&mut leader, None, clocks.at(5));
    assert_eq!(leader.outlived_in(clocks.at(5)), None, "a leader need not wait for itself");
}

/// The first of them may be the one that goes on longest.
#[test]
fn of_two_holders_the_one_that_may_go_on_longer_is_waited_for() {
    let clocks = Clocks::new();
    let held = |seconds: u32| Some(lease(json!({ "holderIdentity": "them", "leaseDurationSeconds": seconds })));
    for (first, second) in [(100, 90), (90, 100)] {
        let mut us = candidate("us");
        seized(&mut us, held(first), clocks.at(0));
        let taken = seized(&mut us, held(second), clocks.at(5));
        us.wrote(serde_json::from_value(taken).expect("a Lease"), clocks.at(5), clocks.at(5));
        assert_eq!(us.outlived_in(clocks.at(5)), Some(Duration::from_secs(100)));
        let renewal = written(us.first(clocks.at(10))).expect("it renews while it waits");
        assert_eq!(renewal["spec"]["leaseDurationSeconds"], 100, "whoever follows waits as well");
    }
}

#[test]
fn a_seized_lease_that_is_lost_meanwhile_gives_no_leadership() {
    let clocks = Clocks::new();
    let mut us = candidate("us");
    let taken = seized(&mut us, Some(theirs("a")), clocks.at(0));
    us.wrote(serde_json::from_value(taken).expect("a Lease"), clocks.at(0), clocks.at(0));
    assert_eq!(us.read(Some(theirs("b")), clocks.at(30)), Move::Stand);
    for at in [30, 60, 89] {
        assert!(us.leads_from(clocks.at(at)).is_none(), "{at} s");
    }
    assert!(us.retire(clocks.at(30)).is_none(), "what is not ours is not retired");
}
