//! Stories of a tunnel, each compared with a text that a person can read, and each interrupted everywhere.

use std::time::Duration;

use super::reality::{Reality, reality};
use crate::service::Ingress;
use crate::service::port::Port;
use crate::tunnel::condition::Reason;
use crate::tunnel::desired;
use crate::tunnel::failure::{Attempt, Cause, Failure};
use crate::tunnel::observed::{App, State};
use crate::tunnel::plan::Next;
use crate::tunnel::plan::step::{Look, Step, Waiting};

const SHORT: Duration = Duration::from_secs(10);
pub const LONG: Duration = Duration::from_secs(60);

/// Compares with `snapshots/<name>.txt`; with `UPDATE=1` in the environment writes it.
pub fn assert_story(reality: &Reality, name: &str) {
    let path = format!("{}/src/tunnel/plan/tests/snapshots/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &reality.story).expect("the snapshot can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(reality.story, expected, "{path} tells another story; UPDATE=1 accepts this one");
}

/// The reply to a request for an address was lost, and Fly's lists do not show the address yet. Earlier lists tell nothing of it:
/// not those that showed no App either.
#[test]
fn an_address_is_not_asked_for_again_before_lists_had_time_to_show_it() {
    let mut reality = reality();
    let asks = |next: &Next| matches!(next, Next::Act(steps) if matches!(steps[..], [Step::AllocateAddress(_)]));
    loop {
        match reality.plan().next {
            Next::Act(steps) if steps == [Step::CreateApp] => reality.advance(SHORT), // Fly refuses it for a while
            next if asks(&next) => break,
            _ => {}
        }
        reality.turn();
    }
    reality.turn();
    reality.memory.asked_for_an_address();
    for _ in 0..4 {
        reality.look(&Look::Everything);
        if let Some(App::Ours(app)) = &mut reality.seen.app {
            app.addresses.clear(); // so does the list
        }
        assert!(matches!(reality.plan().next, Next::Wait(_)), "{}", reality.story);
        reality.advance(Duration::from_secs(1));
    }
    reality.look(&Look::Everything);
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
}

pub fn serving() -> Reality {
    let mut reality = reality();
    assert_eq!(reality.run(LONG), Next::Settled);
    reality.story.clear();
    reality
}

pub fn reason(reality: &Reality) -> String {
    reality.service.condition().map(|condition| condition.reason.clone()).unwrap_or_default()
}

/// The condition's status.
pub fn ready(reality: &Reality) -> String {
    reality.service.condition().map(|condition| condition.status.clone()).unwrap_or_default()
}

/// One of everything, and the Service shows it.
pub fn assert_whole(reality: &Reality) {
    let machines = reality.machines();
    assert_eq!(machines.len(), 1, "{}", reality.story);
    let wanted: Vec<Port> = reality.service.spec.ports.iter().map(|port| Port::tcp(port.port)).collect();
    assert_eq!(machines[0].user_ports().collect::<Vec<_>>(), wanted, "{}", reality.story);
    assert!(!machines[0].cordoned, "{}", reality.story);
    let App::Ours(app) = &reality.app else { panic!("no App") };
    assert_eq!(app.addresses.len(), 1, "{}", reality.story);
    assert_eq!(reality.service.addresses(), [app.addresses[0].ip], "{}", reality.story);
    assert_eq!(
        (reality.objects.keys.len(), reality.objects.config_maps.len(), reality.objects.deployments.len()),
        (1, 1, 1)
    );
    assert_eq!(reason(reality), "Serving", "{}", reality.story);
}

pub fn assert_nothing_left(reality: &Reality) {
    assert!(matches!(reality.app, App::Absent), "{}", reality.story);
    let objects = &reality.objects;
    assert!(objects.keys.is_empty() && objects.config_maps.is_empty() && objects.deployments.is_empty());
    assert!(reality.service.metadata.finalizers.is_empty() && reality.service.condition().is_none());
    // Somebody else's finalizer may keep the Service, and the address is somebody else's by then.
    assert_eq!(reality.service.addresses(), [] as [std::net::IpAddr; 0], "{}", reality.story);
}

/// Runs the story again and again, with a crash after each number of turns.
fn with_a_crash_everywhere(mut begin: impl FnMut() -> Reality, patience: Duration, check: impl Fn(&Reality)) {
    for turns in 0.. {
        let mut reality = begin();
        let mut ended = false;
        for _ in 0..turns {
            match reality.turn() {
                Next::Wait(wait) => reality.pass(&wait),
                Next::Settled | Next::LeftAlone(_) | Next::Gone | Next::TryAgain | Next::MadeAgain => ended = true,
                Next::Look(_) | Next::Act(_) => {}
            }
        }
        reality.crash();
        reality.run(patience);
        check(&reality);
        if ended {
            return;
        }
    }
}

#[test]
fn a_service_gets_a_tunnel() {
    let mut reality = reality();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_story(&reality, "creation");
    assert_eq!(reality.plan().next, Next::Settled, "planned twice, there is nothing to do");
    with_a_crash_everywhere(super::reality::reality, LONG, assert_whole);
}

#[test]
fn a_restart_finds_nothing_to_do_but_to_apply_frpc_again() {
    let mut reality = serving();
    reality.crash();
    reality.run(LONG);
    assert_story(&reality, "restart");
}

#[test]
fn other_ports_are_another_lane_that_takes_over() {
    let mut reality = serving();
    reality.ports(&[443, 8443]);
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_story(&reality, "change");
    let begin = || {
        let mut reality = serving();
        reality.ports(&[443, 8443]);
        reality
    };
    with_a_crash_everywhere(begin, LONG, assert_whole);
}

#[test]
fn a_lane_that_never_served_does_not_hold_up_the_next() {
    let mut reality = reality();
    while !matches!(reality.turn(), Next::Wait(_)) {}
    reality.ports(&[8443]);
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert!(reality.now < SHORT, "{}", reality.story);
}

/// Somebody types port numbers: each edit is a lane, and only the last is left, beside the one that serves.
#[test]
fn lanes_that_were_given_up_before_they_served_are_destroyed_at_once() {
    let mut reality = serving();
    for port in [8001, 8002, 8003, 8004] {
        reality.ports(&[443, port]);
        while !matches!(reality.turn(), Next::Wait(_)) {}
        assert!(reality.machines().len() <= 2, "{}", reality.story);
    }
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
}

/// Each Machine is billed: one that fails is destroyed, and the next is made later each time.
#[test]
fn machines_that_fail_to_start_are_made_again_later_each_time() {
    let mut reality = reality();
    let mut made = Vec::new();
    while made.len() < 6 {
        match reality.turn() {
            Next::Wait(wait) => reality.pass(&wait),
            Next::Act(_) => {}
            other => assert!(matches!(other, Next::Look(_)), "{other:?}"),
        }
        let pending: Vec<String> =
            reality.machines().iter().filter(|m| m.state == State::Pending).map(|m| m.id.clone()).collect();
        for id in pending {
            made.push(reality.now.as_secs());
            reality.change(&id, |machine| machine.state = State::Failed);
            reality.forget_view();
        }
        assert!(reality.machines().len() <= 1, "{}", reality.story);
    }
    assert_eq!(made, [0, 2, 6, 14, 30, 62], "{}", reality.story);
    assert_eq!(reason(&reality), "Degraded", "{}", reality.story);
}

/// The old lane serves meanwhile, which is no success of the new one.
#[test]
fn an_image_that_does_not_start_is_tried_again_later_each_time_while_the_old_lane_serves() {
    let mut reality = serving();
    reality.settings.frps_image = "frps:typo".into();
    reality.forget_view();
    let began = reality.now;
    let mut made = Vec::new();
    while made.len() < 6 {
        if let Next::Wait(wait) = reality.turn() {
            reality.pass(&wait);
        }
        let pending: Vec<String> =
            reality.machines().iter().filter(|m| m.state == State::Pending).map(|m| m.id.clone()).collect();
        for id in pending {
            made.push((reality.now - began).as_secs());
            reality.change(&id, |machine| machine.state = State::Failed);
            reality.forget_view();
        }
        assert!(reality.machines().len() <= 2, "{}", reality.story);
        assert!(reality.story.lines().count() < 200, "{}", reality.story);
    }
    assert_eq!(made, [0, 2, 6, 14, 30, 62], "{}", reality.story);
    assert_eq!(reason(&reality), "Degraded", "{}", reality.story);
    let message = &reality.service.condition().expect("a condition").message;
    assert!(message.contains("the old lane serves on") && message.contains("fly logs"), "{message}");
    assert_eq!(ready(&reality), "True", "users are served by the old lane");
}

#[test]
fn an_app_that_fly_does_not_find_for_a_moment_keeps_its_address_in_the_status() {
    let mut reality = serving();
    let app = std::mem::replace(&mut reality.app, App::Absent);
    reality.forget_view();
    assert!(matches!(reality.run(Duration::ZERO), Next::Wait(_)));
    assert_eq!(reason(&reality), "Serving", "{}", reality.story);
    reality.app = app;
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert!(!reality.story.contains("create"), "{}", reality.story);
}

#[test]
fn an_app_that_is_gone_for_a_minute_is_made_again() {
    let mut reality = serving();
    reality.app = App::Absent;
    reality.objects = Default::default();
    reality.forget_view();
    let lost = reality.now;
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert!(reality.now - lost >= Duration::from_secs(60), "{}", reality.story);
}

#[test]
fn an_address_that_is_not_listed_for_a_moment_is_not_bought_again() {
    let mut reality = serving();
    let addresses = std::mem::take(&mut reality.our_app().addresses);
    reality.forget_view();
    reality.turn();
    for _ in 0..8 {
        if let Next::Wait(wait) = reality.turn() {
            reality.pass(&wait);
        }
        assert_eq!(reality.service.addresses().len(), 1, "{}", reality.story);
    }
    reality.our_app().addresses = addresses;
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert!(!reality.story.contains("allocate"), "{}", reality.story);
}

#[test]
fn a_change_taken_back_uncordons_the_old_lane() {
    let mut reality = serving();
    reality.ports(&[8443]);
    assert!(matches!(reality.run(SHORT), Next::Wait(_)), "the old lane is draining");
    reality.ports(&[443]);
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m1");
    assert_story(&reality, "taken-back");
}

#[test]
fn the_port_on_which_a_live_lane_is_controlled_breaks_before_it_makes() {
    let mut reality = serving();
    reality.ports(&[443, 7000]);
    let next = reality.run(Duration::ZERO);
    assert!(matches!(next, Next::Wait(_)), "{next:?}");
    assert_eq!(reason(&reality), Reason::Updating.to_string());
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_story(&reality, "control-port");
}

/// A Service that was deleted and made again between two looks: the lane that is there leads to the old ClusterIP.
#[test]
fn a_service_made_again_shows_no_address_before_its_own_lane_serves() {
    let mut reality = serving();
    reality.service.status = Default::default();
    reality.service.metadata.uid = "another".into();
    reality.service.spec.cluster_ip = "10.96.0.8".into();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m2");
    assert_story(&reality, "made-again");
}

#[test]
fn a_deleted_service_leaves_nothing() {
    let mut reality = serving();
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
    assert_story(&reality, "removal");
    let begin = || {
        let mut reality = serving();
        reality.delete_service();
        reality
    };
    with_a_crash_everywhere(begin, LONG, assert_nothing_left);
}

#[test]
fn an_app_whose_time_to_be_deleted_has_not_come_waits_for_it() {
    let mut reality = serving();
    reality.delete_service();
    let time = reality.clock().monotonic + Duration::from_secs(100);
    reality.memory.deeds.time_of_deletion = Some(time);
    while reality.memory.deeds.app_deleted.is_none() {
        if let Next::Wait(wait) = reality.turn() {
            assert_eq!(wait.what, Waiting::Deletions, "{}", reality.story);
            reality.pass(&wait);
        }
    }
    assert!(reality.clock().monotonic >= time, "{}", reality.story);
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
}

/// The App was missing for long, or this process deleted it. Then it was asked for, the reply was lost, and Fly does not show it yet.
#[test]
fn an_app_that_was_asked_for_is_not_taken_for_gone_at_once() {
    for was_deleted in [false, true] {
        let mut reality = serving();
        let app = std::mem::replace(&mut reality.app, App::Absent);
        reality.forget_view();
        if was_deleted {
            reality.memory.deeds.app_deleted = Some(reality.clock().monotonic);
        } else {
            assert!(matches!(reality.run(Duration::ZERO), Next::Wait(_)), "{}", reality.story);
            reality.advance(Duration::from_secs(60));
        }
        reality.memory.asked_for_the_app();
        reality.delete_service();
        assert!(matches!(reality.run(Duration::ZERO), Next::Wait(_)), "{}", reality.story);
        reality.app = app;
        assert_eq!(reality.run(LONG), Next::Gone);
        assert_nothing_left(&reality);
    }
}

/// Somebody takes type and finalizer off at once, while Fly does not show the App yet that this process made.
#[test]
fn a_service_that_nobody_guards_any_more_leaves_no_app_behind() {
    let mut reality = serving();
    reality.memory.asked_for_the_app();
    reality.service.metadata.finalizers.clear();
    // The API server clears the status of a Service that is no load balancer any more.
    (reality.service.spec.kind, reality.service.status.load_balancer) = ("ClusterIP".into(), Default::default());
    let app = std::mem::replace(&mut reality.app, App::Absent);
    reality.forget_view();
    assert!(matches!(reality.run(Duration::ZERO), Next::Wait(_)), "{}", reality.story);
    assert_eq!(reason(&reality), "Deleting", "it is not done yet: {}", reality.story);
    reality.app = app;
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
}

#[test]
fn a_drained_service_shows_nothing_and_leaves_nothing() {
    let mut reality = serving();
    reality.drain();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
    assert_eq!(reality.service.addresses(), Vec::<std::net::IpAddr>::new());
    assert_story(&reality, "drain");
}

#[test]
fn killed_anywhere_while_it_drains_it_leaves_nothing() {
    let begin = || {
        let mut reality = serving();
        reality.drain();
        reality
    };
    with_a_crash_everywhere(begin, LONG, |reality| {
        assert_nothing_left(reality);
        assert!(reality.service.addresses().is_empty(), "{}", reality.story);
    });
}

/// The App that goes is ours, whatever somebody writes on the Service meanwhile.
#[test]
fn a_served_service_that_gets_annotations_of_the_go_operator_goes_whole() {
    let begin = || {
        let mut reality = serving();
        reality.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-app".into(), "x".into());
        reality.delete_service();
        reality
    };
    with_a_crash_everywhere(begin, LONG * 3, assert_nothing_left);
}

/// It may have been made a moment ago, by the operator that was just killed.
#[test]
fn a_drain_believes_an_absence_no_sooner_than_a_deletion_does() {
    let mut reality = reality();
    reality.service.metadata.finalizers.push(reality.settings.finalizer.clone());
    reality.drain();
    assert_eq!(reality.run(LONG), Next::Gone);
    let removed = reality.story.lines().find(|line| line.contains("remove the finalizer")).expect("it goes");
    assert!(removed.trim_start().starts_with("60."), "{}", reality.story);
}

#[test]
fn a_drain_leaves_alone_what_is_not_ours_and_what_was_never_touched() {
    let mut untouched = reality();
    untouched.drain();
    assert_eq!(desired::drained_tunnel(&untouched.service, &untouched.owner, &untouched.settings), None);

    let mut legacy = reality();
    legacy.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-app".into(), "theirs".into());
    assert_eq!(legacy.run(LONG), Next::Settled);
    let shown = legacy.service.clone();
    legacy.drain();
    assert_eq!(legacy.run(LONG), Next::Settled);
    assert_eq!(legacy.service, shown);
}

#[test]
fn deleted_at_any_point_of_its_creation_a_service_leaves_nothing() {
    for turns in 0..60 {
        let mut reality = reality();
        for _ in 0..turns {
            if let Next::Wait(wait) = reality.turn() {
                reality.pass(&wait);
            }
        }
        let made = reality.service.has_finalizer(&reality.settings.finalizer);
        reality.delete_service();
        if made {
            assert_eq!(reality.run(LONG), Next::Gone);
        }
        assert_nothing_left(&reality);
    }
}

#[test]
fn not_found_is_believed_after_a_minute_and_a_look_at_the_list() {
    let mut reality = reality();
    reality.turn();
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Gone);
    let removed = reality.story.lines().find(|line| line.contains("remove the finalizer")).expect("it goes");
    assert!(removed.trim_start().starts_with("60."), "{}", reality.story);
    assert_story(&reality, "never-seen");
}

#[test]
fn an_app_of_somebody_elses_is_left_alone() {
    let mut reality = reality();
    reality.app = App::Foreign("it is of the organisation other".into());
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reason(&reality), "NameConflict");
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert!(matches!(reality.app, App::Foreign(_)));
    assert_story(&reality, "name-conflict");
}

/// Objects that another owner made for the Service: `--cluster-name` was changed, or a backup was restored.
fn with_another_owner(mut reality: Reality) -> Reality {
    reality.service.metadata.finalizers = vec![reality.settings.finalizer.clone()];
    reality.service.status.load_balancer.ingress =
        vec![crate::service::Ingress::proxy("192.0.2.9".parse().expect("an address"))];
    reality.objects.other_apps.insert("lb-default-web-0123456789ab".into());
    reality
}

#[test]
fn a_service_that_another_owner_serves_is_left_to_it() {
    let mut reality = with_another_owner(reality());
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!((reason(&reality).as_str(), reality.service.addresses().len()), ("NameConflict", 1));
    assert!(matches!(reality.app, App::Absent), "no second bill: {}", reality.story);
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reality.service.metadata.finalizers.len(), 1, "the other owner's App may bill: {}", reality.story);
    reality.say("— the other owner's objects are deleted");
    reality.objects.other_apps.clear();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
    assert_story(&reality, "another-owner");

    assert_a_drain_leaves_it(with_another_owner(super::reality::reality()));
}

/// As it is, since that owner writes to it too.
fn assert_a_drain_leaves_it(mut reality: Reality) {
    let before = reality.service.clone();
    reality.drain();
    let next = reality.run(LONG);
    assert!(matches!(&next, Next::LeftAlone(why) if why.contains("Give --drain the --cluster-name")), "{next:?}");
    assert_eq!(reality.service, before, "{}", reality.story);
}

/// As after a reinstall in another namespace with another cluster name: nothing in the cluster tells of the owner.
#[test]
fn a_service_whose_address_another_owner_has_is_left_to_it() {
    let held = || {
        let mut reality = with_another_owner(reality());
        reality.objects.other_apps.clear();
        reality.holder = Some("lb-default-web-0123456789ab".into());
        reality
    };
    let left = |reality: &Reality| {
        let shown = (reason(reality), reality.service.addresses().len(), reality.service.metadata.finalizers.len());
        assert_eq!(shown, ("NameConflict".into(), 1, 1), "{}", reality.story);
        assert!(matches!(reality.app, App::Absent), "no second bill: {}", reality.story);
    };
    let mut reality = held();
    assert_eq!(reality.run(LONG), Next::Settled);
    left(&reality);
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    left(&reality);
    reality.say("— the other owner's App is destroyed");
    reality.holder = None;
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);

    let mut reality = held();
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    left(&reality);

    assert_a_drain_leaves_it(held());

    let mut reality = held();
    reality.holder = None;
    reality.drain();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert_nothing_left(&reality);
    assert!(reality.service.addresses().is_empty(), "{}", reality.story);
}

#[test]
fn a_tunnel_of_ours_goes_on_beside_another_owners_objects_and_tells_of_them() {
    let mut reality = serving();
    reality.objects.other_apps.insert("lb-default-web-0123456789ab".into());
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    let message = &reality.service.condition().expect("a condition").message;
    assert!(message.contains("lb-default-web-0123456789ab"), "{message}");
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert!(matches!(reality.app, App::Absent), "what is ours is taken down: {}", reality.story);
    assert_eq!((reason(&reality).as_str(), reality.service.metadata.finalizers.len()), ("NameConflict", 1));
}

#[test]
fn a_service_of_the_go_operator_is_not_touched() {
    let mut reality = reality();
    reality.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-app".into(), "old".into());
    reality.service.metadata.finalizers.push(reality.settings.finalizer.clone());
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reason(&reality), "LegacyTunnel");
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reality.service.metadata.finalizers.len(), 1, "its finalizer may guard an App that bills");
    assert!(matches!(reality.app, App::Absent));

    let mut reality = with_another_owner(super::reality::reality());
    reality.run(LONG);
    reality.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-app".into(), "old".into());
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reason(&reality), "LegacyTunnel", "whoever's the objects are, the Go operator is who to ask");
}

#[test]
fn a_refused_service_keeps_the_tunnel_that_runs() {
    let mut reality = serving();
    reality.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-machine-size".into(), "huge".into());
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reason(&reality), "InvalidService");
    assert_eq!(reality.service.addresses().len(), 1);
    assert_eq!(reality.machines().len(), 1);
}

#[test]
fn source_ranges_close_the_door_and_keep_the_address() {
    let mut reality = serving();
    reality.service.spec.load_balancer_source_ranges = vec!["10.0.0.0/8".into()];
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert!(reality.machines()[0].cordoned);
    assert_eq!((reason(&reality).as_str(), reality.service.addresses().len()), ("InvalidService", 1));
    reality.service.spec.load_balancer_source_ranges.clear();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
}

#[test]
fn a_lost_machine_is_replaced() {
    let mut reality = serving();
    reality.our_app().machines.clear();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_story(&reality, "lost-machine");
}

#[test]
fn a_stopped_machine_is_started_and_a_failed_one_replaced() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.state = State::Stopped);
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m1");
    reality.change("m1", |machine| machine.state = State::Failed);
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m2");
}

/// Fly starts a stopped Machine on its own host alone, and that may have no room any more.
#[test]
fn a_stopped_machine_that_fly_does_not_start_is_replaced() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.state = State::Stopped);
    reality.forget_view();
    let mut tries = 0;
    for _ in 0..200 {
        if let Next::Act(steps) = reality.plan().next
            && let [Step::StartMachine(_)] = &steps[..]
        {
            tries += 1;
            let failure = Failure::new(Cause::Capacity, "insufficient resources on the host");
            reality.memory.step_failed(&steps[0], &failure);
            reality.memory.failed(Attempt::OtherStep, failure);
            reality.memory.begin_pass();
            continue;
        }
        match reality.turn() {
            Next::Wait(wait) => reality.pass(&wait),
            Next::Settled => break,
            _ => {}
        }
    }
    assert_eq!(tries, 3, "{}", reality.story);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m2");
}

#[test]
fn a_machine_on_a_lost_host_is_replaced_after_a_minute_under_another_name() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.host_ok = false);
    reality.forget_view();
    let lost = reality.now;
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert!(reality.now - lost >= Duration::from_secs(60), "{}", reality.story);
    assert_eq!(reality.machines()[0].name.rsplit('-').next(), Some("2"));
}

#[test]
fn a_secret_deleted_by_hand_rotates_the_keys() {
    let mut reality = serving();
    reality.objects.keys.clear();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_eq!(reality.machines()[0].id, "m2");
}

#[test]
fn a_drain_takes_an_address_away_that_nobody_has() {
    let mut reality = reality();
    let made_up = Ingress { ip: Some([203, 0, 113, 9].into()), ..Ingress::default() };
    reality.service.status.load_balancer.ingress = vec![made_up];
    reality.drain();
    assert_eq!(reality.run(LONG), Next::Gone, "{}", reality.story);
    assert_eq!(reality.service.addresses(), [] as [std::net::IpAddr; 0], "{}", reality.story);
    assert!(reality.service.condition().is_none(), "{}", reality.story);
}
