//! A tunnel with several lanes: more and fewer of them, one that is lost, one that cannot be made.

use std::time::Duration;

use super::reality::{Reality, reality};
use super::stories::{LONG, assert_story, ready, reason};
use crate::tunnel::failure::{Attempt, Cause, Failure};
use crate::tunnel::observed::{Machine, Ours, State};
use crate::tunnel::plan::Next;
use crate::tunnel::plan::step::Step;

const REPLICAS: &str = "fly-tunnel-operator.dev/replicas";
const REGION: &str = "fly-tunnel-operator.dev/fly-region";

/// The Service wants so many lanes.
fn wants(reality: &mut Reality, replicas: &str) {
    reality.say(&format!("— the Service wants {replicas} lanes"));
    annotate(reality, REPLICAS, replicas);
}

fn annotate(reality: &mut Reality, name: &str, value: &str) {
    reality.service.metadata.annotations.insert(name.into(), value.into());
    reality.forget_view();
}

/// A Service that is served by so many lanes.
fn served_by(replicas: &str) -> Reality {
    let mut reality = reality();
    wants(&mut reality, replicas);
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    reality
}

fn ours(machine: &Machine) -> &Ours {
    machine.ours.as_ref().expect("it is ours")
}

/// The slots of the Machines that are there, in order.
fn slots(reality: &Reality) -> Vec<u8> {
    let mut slots: Vec<u8> = reality.machines().iter().map(|machine| ours(machine).slot.index).collect();
    slots.sort_unstable();
    slots
}

fn ids(reality: &Reality) -> Vec<String> {
    reality.machines().iter().map(|machine| machine.id.clone()).collect()
}

fn message(reality: &Reality) -> &str {
    reality.service.condition().map_or("", |condition| &condition.message)
}

/// For so long Fly makes no Machine, as this failure tells. Everything else works.
fn without_machines(reality: &mut Reality, failure: &Failure, time: Duration) {
    let end = reality.now + time;
    while reality.now < end {
        reality.memory.begin_pass();
        loop {
            let plan = reality.plan();
            match &plan.next {
                Next::Act(steps) if matches!(steps[..], [Step::CreateMachine(_)]) => {
                    reality.memory.step_failed(&steps[0], failure);
                    reality.memory.failed(Attempt::CreateMachine, failure.clone());
                }
                _ => match reality.turn() {
                    Next::Wait(wait) => {
                        reality.memory.end_pass(false);
                        reality.pass(&wait);
                        break;
                    }
                    Next::Look(_) | Next::Act(_) => {}
                    _ => {
                        reality.advance(Duration::from_secs(10));
                        reality.forget_view();
                        break;
                    }
                },
            }
        }
    }
}

#[test]
fn two_lanes_are_made_together_and_shown_when_the_first_serves() {
    let mut reality = reality();
    annotate(&mut reality, REPLICAS, "2");
    annotate(&mut reality, REGION, "ord,iad");
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_story(&reality, "two-lanes");
    assert_eq!((slots(&reality), reason(&reality).as_str()), (vec![0, 1], "Serving"));
    let ports: Vec<u16> = reality.machines().iter().map(|machine| ours(machine).control_port).collect();
    assert_ne!(ports[0], ports[1]);
    assert!(reality.machines().iter().all(|machine| ours(machine).pool == 25));
}

#[test]
fn more_lanes_are_made_beside_and_fewer_retire_and_the_others_are_untouched() {
    let mut reality = served_by("1");
    let first = ids(&reality);
    reality.story.clear();
    wants(&mut reality, "3");
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(slots(&reality), [0, 1, 2]);
    assert_eq!(message(&reality), "serving at 192.0.2.1 by 3 lanes");
    wants(&mut reality, "2");
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_story(&reality, "more-and-fewer-lanes");
    assert_eq!(slots(&reality), [0, 1]);
    assert_eq!(ids(&reality)[0], first[0]);
    assert!(!reality.story.contains(&format!("Machine {}", first[0])), "{}", reality.story);
    assert!(!reality.story.contains("ServingDegraded"), "{}", reality.story);
}

#[test]
fn a_lane_that_is_lost_is_made_again_and_the_other_serves_on() {
    let mut reality = served_by("2");
    let lost = ids(&reality)[1].clone();
    reality.story.clear();
    reality.advance(LONG);
    let since = humantime::format_rfc3339_seconds(reality.clock().wall).to_string();
    reality.change(&lost, |machine| machine.state = State::Gone);
    reality.forget_view();
    let mut told = String::new();
    for _ in 0..200 {
        match reality.turn() {
            Next::Wait(wait) => reality.pass(&wait),
            Next::Settled => break,
            _ => {}
        }
        if reason(&reality) == "ServingDegraded" {
            told = message(&reality).to_owned();
            assert_eq!(ready(&reality), "True", "{}", reality.story);
        }
    }
    assert_eq!(told, format!("1 of 2 lanes serve, since {since}: lane 1 is being repaired"));
    assert_eq!((slots(&reality), reason(&reality).as_str()), (vec![0, 1], "Serving"), "{}", reality.story);
    assert!(!reality.story.contains("cordon"), "{}", reality.story);
}

#[test]
fn a_lane_that_cannot_be_made_disturbs_none_that_serves_and_none_that_can_be_made() {
    let mut reality = served_by("1");
    reality.story.clear();
    wants(&mut reality, "2");
    let full = Failure::new(Cause::Capacity, "no host has room");
    without_machines(&mut reality, &full, LONG);
    assert_eq!((reason(&reality).as_str(), ready(&reality).as_str()), ("ServingDegraded", "True"), "{}", reality.story);
    assert!(message(&reality).contains("lane 1: Fly has no capacity: no host has room"), "{}", message(&reality));
    assert_eq!(reality.story.matches("show").count(), 2, "{}", reality.story);
    // frpc of the lane that serves is lost meanwhile.
    reality.objects.deployments.clear();
    reality.forget_view();
    without_machines(&mut reality, &full, LONG);
    assert_eq!(reality.objects.deployments.len(), 1, "{}", reality.story);
    assert_eq!((slots(&reality), ready(&reality).as_str()), (vec![0], "True"), "{}", reality.story);
    reality.memory.begin_pass();
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_eq!((slots(&reality), reason(&reality).as_str()), (vec![0, 1], "Serving"), "{}", reality.story);
}

/// The first of two fails each time, and the second has its own attempts.
#[test]
fn of_two_lanes_that_fail_each_is_tried() {
    let mut reality = served_by("1");
    wants(&mut reality, "3");
    let mut tried = Vec::new();
    for _ in 0..20 {
        if let Next::Act(steps) = reality.plan().next
            && let [Step::CreateMachine(lane)] = &steps[..]
        {
            tried.push(lane.slot.index);
            let failure = Failure::new(Cause::Capacity, "no host has room");
            reality.memory.step_failed(&steps[0], &failure);
            reality.memory.failed(Attempt::CreateMachine, failure);
            reality.memory.begin_pass();
        } else {
            reality.turn();
        }
    }
    assert!(tried.starts_with(&[1, 2, 1, 2]), "{tried:?}");
}

/// The change moves one lane, and the other's Machine does not boot.
#[test]
fn an_old_lane_that_leads_alike_serves_until_its_successor_does() {
    for (annotation, value, stays) in [(Some("fly-machine-size"), "shared-cpu-2x", true), (None, "", false)] {
        let mut reality = served_by("2");
        match annotation {
            Some(name) => annotate(&mut reality, &format!("fly-tunnel-operator.dev/{name}"), value),
            None => reality.ports(&[8443]),
        }
        let full = Failure::new(Cause::Capacity, "no host has room");
        // The first of both is made.
        while reality.machines().len() < 3 {
            reality.turn();
        }
        without_machines(&mut reality, &full, 4 * LONG);
        let old = reality.machines().iter().filter(|machine| ours(machine).slot.index == 1).count();
        assert_eq!(old, usize::from(stays), "{value}: {}", reality.story);
        assert_eq!(ready(&reality), "True", "{}", reality.story);
        reality.memory.begin_pass();
        assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
        assert_eq!((slots(&reality), reason(&reality).as_str()), (vec![0, 1], "Serving"), "{}", reality.story);
    }
}

/// One attempt more is made for it. If the next Machine is there, too, it stays.
#[test]
fn two_lanes_on_one_host_are_told_apart_once() {
    for hosts in [[1, 1, 2], [1, 1, 1]] {
        let mut reality = reality();
        wants(&mut reality, "2");
        for _ in 0..500 {
            for machine in reality.our_machines() {
                let number: usize = machine.id[1..].parse().expect("m and a number");
                machine.host = hosts.get(number - 1).copied();
            }
            match reality.turn() {
                Next::Wait(wait) => reality.pass(&wait),
                Next::Settled => break,
                _ => {}
            }
        }
        assert_eq!(ids(&reality), ["m1", "m3"], "{}", reality.story);
        assert!(reality.story.contains("Machine m2 got the host that Machine m1 has"), "{}", reality.story);
        let told = message(&reality).contains("lanes 0 and 1 run on one host of Fly's");
        assert_eq!(told, hosts[1] == hosts[2], "{}", message(&reality));
    }
}

#[test]
fn no_more_than_three_lanes_retire_at_once() {
    let mut reality = served_by("1");
    reality.settings.drain_timeout = Duration::from_secs(3600);
    for ports in [[81], [82], [83], [84], [85]] {
        reality.ports(&ports);
        assert!(matches!(reality.run(LONG), Next::Wait(_)), "{}", reality.story);
    }
    let retiring: Vec<String> =
        reality.machines().iter().filter(|machine| machine.cordoned).map(|machine| machine.id.clone()).collect();
    assert_eq!(retiring, ["m3", "m4", "m5"], "{}", reality.story);
}

#[test]
fn a_service_that_is_refused_keeps_all_its_lanes() {
    let mut reality = served_by("2");
    let lost = ids(&reality)[1].clone();
    annotate(&mut reality, REPLICAS, "many");
    reality.change(&lost, |machine| machine.state = State::Gone);
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_eq!((slots(&reality), reason(&reality).as_str()), (vec![0, 1], "InvalidService"), "{}", reality.story);
}
