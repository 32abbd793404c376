//! Single moves of an election, in tables.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::super::clock::Now;
use super::super::election::{Election, Move, Write};
use super::{Clocks, TIMINGS, candidate, leader, lease, theirs, written};

#[test]
fn a_lease_is_taken_where_it_is_free() {
    let clocks = Clocks::new();
    for (found, transitions) in [
        (None, 0),
        (Some(lease(json!({}))), 1),
        (Some(lease(json!({ "holderIdentity": "", "leaseTransitions": 6 }))), 7),
        (Some(lease(json!({ "holderIdentity": "us", "leaseTransitions": 6 }))), 6),
    ] {
        let mut election = candidate();
        assert_eq!(election.first(clocks.at(0)), Move::Read, "it looks first");
        let lease =
            written(election.read(found.clone(), clocks.at(0))).unwrap_or_else(|| panic!("not taken: {found:?}"));
        assert_eq!(lease["spec"]["holderIdentity"], "us");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 60);
        assert_eq!(lease["spec"]["leaseTransitions"], transitions, "{found:?}");
        assert_eq!(lease["spec"]["renewTime"], "2001-09-09T01:46:40.000000Z");
        assert!(!election.is_leading(clocks.at(0)), "not before the reply");
    }
}

#[test]
fn a_rival_is_left_alone_for_its_lease_from_its_last_sign_of_life() {
    let clocks = Clocks::new();
    let mut election = candidate();
    for (at, found, expected) in [
        // However old its times are: clocks are not compared.
        (0, theirs("1970-01-01T00:00:00.000000Z"), Move::Stand),
        (59, theirs("1970-01-01T00:00:00.000000Z"), Move::Stand),
        (60, theirs("1970-01-01T00:01:00.000000Z"), Move::Stand),
        (119, theirs("1970-01-01T00:01:00.000000Z"), Move::Stand),
    ] {
        assert_eq!(election.read(Some(found), clocks.at(at)), expected, "{at} s");
        assert_eq!(election.rival_is_alive(), at >= 60, "{at} s");
        let left = 60 - at % 60;
        assert_eq!(election.expires_in(clocks.at(at)), Some(Duration::from_secs(left)), "{at} s");
    }
    assert_eq!(election.holder(), "them");
    let taken = written(election.read(Some(theirs("1970-01-01T00:01:00.000000Z")), clocks.at(120))).expect("expired");
    assert_eq!(taken["spec"]["leaseTransitions"], 5);
    assert_eq!(taken["metadata"]["resourceVersion"], "1", "only if nobody else was faster");
}

/// Somebody deletes the Lease, or empties it: its holder leads until it looks.
#[test]
fn a_lease_that_was_taken_away_by_hand_still_protects_its_holder() {
    let clocks = Clocks::new();
    let emptied = || Some(lease(json!({ "holderIdentity": "", "leaseDurationSeconds": 60 })));
    for found in [None, emptied()] {
        let mut election = candidate();
        assert_eq!(election.read(Some(theirs("a")), clocks.at(0)), Move::Stand);
        for at in [5, 25, 45, 64] {
            assert_eq!(election.read(found.clone(), clocks.at(at)), Move::Stand, "{found:?} at {at} s");
        }
        assert!(written(election.read(found.clone(), clocks.at(65))).is_some(), "{found:?}");

        let mut holder = leader(clocks);
        assert!(written(holder.read(found.clone(), clocks.at(5))).is_some(), "its holder takes it again at once");
        assert!(holder.is_leading(clocks.at(5)));
    }
}

/// The field is an `int32`.
#[test]
fn transitions_are_counted_as_far_as_the_api_can() {
    let clocks = Clocks::new();
    for before in [i64::from(i32::MAX), i64::MAX] {
        let full = lease(json!({ "holderIdentity": "", "leaseTransitions": before }));
        let taken = written(candidate().read(Some(full), clocks.at(0))).expect("free");
        assert_eq!(taken["spec"]["leaseTransitions"], i32::MAX);
    }
}

#[test]
fn a_rival_whose_lease_says_no_duration_is_given_ours() {
    let clocks = Clocks::new();
    let mut election = candidate();
    let found = || Some(lease(json!({ "holderIdentity": "them" })));
    for at in [0, 59] {
        assert_eq!(election.read(found(), clocks.at(at)), Move::Stand);
    }
    assert!(written(election.read(found(), clocks.at(60))).is_some());
}

#[test]
fn a_wall_clock_that_jumps_does_not_make_a_rival_older() {
    let clocks = Clocks::new();
    let mut election = candidate();
    election.read(Some(theirs("a")), clocks.at(0));
    let jumped = Now { wall: clocks.at(999_999).wall, ..clocks.at(1) };
    assert_eq!(election.read(Some(theirs("a")), jumped), Move::Stand);
}

#[test]
fn a_leader_leads_until_its_deadline_from_what_it_sent() {
    let clocks = Clocks::new();
    let mut election = leader(clocks);
    let slept = Now { wall: clocks.at(40).wall, ..clocks.at(1) };
    let set_back = Now { wall: SystemTime::UNIX_EPOCH, ..clocks.at(39) };
    let set_back_late = Now { wall: SystemTime::UNIX_EPOCH, ..clocks.at(40) };
    for (now, expected) in [
        (clocks.at(1), true),
        (clocks.at(39), true),
        (clocks.at(40), false),
        (slept, false),
        (set_back, true),
        (set_back_late, false),
    ] {
        assert_eq!(election.is_leading(now), expected, "{now:?}");
    }
    let Move::Write(Write::Replace(renewal)) = election.first(clocks.at(10)) else { panic!("a leader renews") };
    election.wrote(renewal, clocks.at(10), clocks.at(30));
    assert!(election.is_leading(clocks.at(49)) && !election.is_leading(clocks.at(50)));
    assert_eq!(election.first(clocks.at(50)), Move::Read, "whose leadership is over looks first");
}

#[test]
fn a_leader_that_sees_another_holder_follows_at_once() {
    let clocks = Clocks::new();
    let mut election = leader(clocks);
    assert_eq!(election.read(Some(theirs("a")), clocks.at(2)), Move::Stand);
    assert!(!election.is_leading(clocks.at(2)));
    assert_eq!(election.release(clocks.at(3)), None, "what is not ours is not released");
}

#[test]
fn a_release_frees_the_lease_for_the_next() {
    let clocks = Clocks::new();
    let mut election = leader(clocks);
    let Some(Write::Replace(released)) = election.release(clocks.at(5)) else { panic!("it was ours") };
    assert!(!election.is_leading(clocks.at(5)));
    let spec = &serde_json::to_value(&released).expect("JSON")["spec"];
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    let mut next = Election::new("l", "next", TIMINGS);
    assert!(written(next.read(Some(released), clocks.at(5))).is_some());
}
