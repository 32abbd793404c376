//! Somebody changes by hand what the operator made, or the cluster does not run it.

use std::time::Duration;

use super::reality::Reality;
use super::stories::{LONG, assert_whole, ready, reason, serving};
use crate::examples;
use crate::service::machine_size::MachineSize;
use crate::service::port::Port;
use crate::tunnel::effect::Reply;
use crate::tunnel::lane::Exposed;
use crate::tunnel::observed::{App, Machine, Objects, OurApp, State};
use crate::tunnel::plan::step::{Look, ServiceStep, Step, Wait, Waiting};
use crate::tunnel::plan::{BELIEVED, Next};

const TYPO: &str = "fly-tunnel-operator.dev/fly-regoin";

/// Lets the operator work for so long.
fn work(reality: &mut Reality, time: Duration) {
    let end = reality.now + time;
    for _ in 0..200_000 {
        match reality.turn() {
            Next::Look(_) | Next::Act(_) => {}
            Next::Wait(wait) => reality.pass(&wait),
            _ => {
                reality.advance(Duration::from_secs(1));
                reality.forget_view();
            }
        }
        if reality.now >= end {
            return;
        }
    }
    panic!("time stands still:\n{}", reality.story);
}

#[test]
fn a_machine_that_somebody_changed_is_replaced_make_before_break() {
    type Edit = fn(&mut Machine);
    let edits: [(Edit, &str); 8] = [
        (|m| m.exposed.retain(|exposed| exposed.port != Port::tcp(8443)), "it does not expose port 8443"),
        (|m| m.exposed.retain(|exposed| !exposed.checked), "it does not expose port 443, it does not expose port 8443"),
        (|m| m.exposed.push(Exposed { port: Port::tcp(22), internal: 22, checked: false }), "it exposes port 22"),
        (|m| m.exposed[1].internal = 80, "port 443 leads to its port 80 and not 443"),
        (|m| m.exposed[1].checked = false, "port 443 has no check"),
        (|m| m.image = "frps:other".into(), "the image is frps:other and not"),
        (|m| m.image += "@sha256:0a with the command /bin/sleep", "with the command /bin/sleep and not"),
        (
            |m| m.guest = MachineSize::parse("shared-cpu-2x").ok().map(MachineSize::guest),
            "it has 2 shared CPU with 512 MiB and not 1 shared CPU with 256 MiB",
        ),
    ];
    for (edit, why) in edits {
        let mut reality = serving();
        reality.ports(&[443, 8443]);
        assert_eq!(reality.run(LONG), Next::Settled);
        let before = reality.machines()[0].id.clone();
        reality.story.clear();
        reality.change(&before, edit);
        reality.forget_view();
        assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
        assert_whole(&reality);
        assert_ne!(reality.machines()[0].id, before, "{}", reality.story);
        assert!(reality.story.contains(why), "{why}:\n{}", reality.story);
        let (made, destroyed) = (reality.story.find("create Machine"), reality.story.find("destroy Machine"));
        assert!(made < destroyed, "{}", reality.story);
    }
}

/// The simulator found that the next Machine got the same control port, and was destroyed for it at once, again and again.
#[test]
fn a_machine_whose_control_port_is_taken_out_is_replaced() {
    let mut reality = serving();
    let before = reality.machines()[0].id.clone();
    reality.change(&before, |machine| machine.exposed.clear());
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_whole(&reality);
    assert_eq!(reality.story.matches("create Machine").count(), 1, "{}", reality.story);
}

#[test]
fn a_machine_that_fly_itself_writes_in_another_way_is_left_as_it_is() {
    for image in ["docker.io/IMAGE", "registry-1.docker.io/IMAGE", "IMAGE@sha256:0123", ""] {
        let mut reality = serving();
        let image = image.replace("IMAGE", &reality.settings.frps_image);
        let id = reality.machines()[0].id.clone();
        reality.change(&id, |machine| machine.image = image);
        reality.forget_view();
        assert_eq!(reality.run(LONG), Next::Settled);
        assert_eq!(reality.machines()[0].id, id, "{}", reality.story);
    }
}

#[test]
fn copies_of_our_objects_go_and_serve_nobody() {
    let mut reality = serving();
    reality.objects.copies.deployments = vec!["a-copy".into(), "z-copy".into()];
    reality.objects.copies.config_maps = vec!["a-copy".into()];
    reality.objects.useless_keys = vec!["a-copy".into()];
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    let (objects, story) = (&reality.objects, &reality.story);
    assert!(objects.copies.deployments.is_empty() && objects.copies.config_maps.is_empty(), "{story}");
    assert!(objects.useless_keys.is_empty() && !story.contains("create"), "{story}");
}

/// Nobody is reached through the lane, so all that comes after the wait for traffic has to wait. A copy's pods would be taken for ours.
#[test]
fn copies_of_our_objects_go_while_nobody_is_reached() {
    let mut reality = serving();
    reality.objects.deployments[0].available = false;
    reality.objects.copies.deployments = vec!["a-copy".into()];
    reality.forget_view();
    work(&mut reality, LONG);
    assert!(reality.objects.copies.deployments.is_empty(), "{}", reality.story);
}

#[test]
fn keys_without_labels_are_labelled_and_no_lane_moves() {
    let mut reality = serving();
    let (before, keys) = (reality.machines()[0].id.clone(), reality.objects.keys[0].name.clone());
    reality.objects.keys[0].labelled = false;
    reality.crash();
    reality.story.clear();
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_whole(&reality);
    assert!(reality.objects.keys[0].labelled && reality.objects.keys[0].name == keys, "{}", reality.story);
    assert_eq!(reality.machines()[0].id, before, "{}", reality.story);
}

#[test]
fn a_new_lane_whose_frpc_does_not_run_is_told_and_given_up() {
    let mut reality = serving();
    reality.frpc_trouble = Some("its pod is forbidden".into());
    reality.settings.frpc_image = "frpc:other".into();
    reality.forget_view();
    work(&mut reality, Duration::from_secs(60));
    assert_eq!((reason(&reality).as_str(), ready(&reality).as_str()), ("FrpcUnavailable", "True"), "{}", reality.story);
    let message = reality.service.condition().expect("a condition").message.clone();
    assert!(message.contains("its pod is forbidden") && message.contains("the old lane serves on"), "{message}");
    work(&mut reality, Duration::from_secs(300));
    assert_eq!(reality.machines().len(), 1, "the new one is not left billed:\n{}", reality.story);
    assert_eq!(reality.objects.deployments.len(), 1, "nor does its frpc run on:\n{}", reality.story);
    assert_eq!(reality.objects.config_maps.len(), 1, "{}", reality.story);
    assert_eq!(reality.service.condition().map(|c| c.message.clone()), Some(message), "it is still told");
    work(&mut reality, Duration::from_secs(3600 * 6));
    let made = reality.story.matches("create Machine").count();
    assert!((5..=9).contains(&made), "{made} in six hours:\n{}", reality.story);
    reality.frpc_trouble = None;
    work(&mut reality, Duration::from_secs(3600 + 300));
    assert_whole(&reality);
}

#[test]
fn a_first_lane_whose_frpc_does_not_run_waits_for_it() {
    let mut reality = super::reality::reality();
    reality.frpc_trouble = Some("Unschedulable: 0/1 nodes are available".into());
    work(&mut reality, Duration::from_secs(3600));
    assert_eq!(
        (reason(&reality).as_str(), ready(&reality).as_str()),
        ("FrpcUnavailable", "False"),
        "{}",
        reality.story
    );
    assert_eq!(reality.story.matches("create Machine").count(), 1, "{}", reality.story);
}

/// A typo in an annotation refuses the Service. The tunnel that runs is kept as it was.
#[test]
fn the_tunnel_of_a_refused_service_is_repaired_as_it_was() {
    type Loss = fn(&mut Reality);
    let losses: [(&str, Loss); 6] = [
        ("the Machine", |r| r.our_app().machines.clear()),
        ("frpc's Deployment", |r| r.objects.deployments.clear()),
        ("frpc's ConfigMap", |r| r.objects.config_maps.clear()),
        ("the Secret", |r| r.objects.keys.clear()),
        ("the App", |r| r.app = App::Absent),
        ("nothing", |_| ()),
    ];
    for (lost, lose) in losses {
        let mut reality = serving();
        reality.ports(&[443, 8443]);
        assert_eq!(reality.run(LONG), Next::Settled);
        let before: Vec<Port> = reality.machines()[0].user_ports().collect();
        reality.service.metadata.annotations.insert(TYPO.into(), "iad".into());
        reality.ports(&[9999]);
        reality.crash();
        assert_eq!(reality.run(LONG), Next::Settled);
        lose(&mut reality);
        reality.crash();
        assert_eq!(reality.run(LONG), Next::Settled, "{lost}:\n{}", reality.story);
        let machines = reality.machines();
        assert_eq!(machines.len(), 1, "{lost}:\n{}", reality.story);
        assert_eq!(machines[0].user_ports().collect::<Vec<_>>(), before, "{lost}:\n{}", reality.story);
        assert_eq!(
            (reason(&reality).as_str(), ready(&reality).as_str()),
            ("InvalidService", "True"),
            "{lost}:\n{}",
            reality.story
        );
        let objects = &reality.objects;
        assert_eq!((objects.keys.len(), objects.config_maps.len(), objects.deployments.len()), (1, 1, 1), "{lost}");
    }
}

#[test]
fn a_lane_that_runs_and_serves_nobody_is_told_with_what_to_do() {
    let mut reality = serving();
    reality.objects.deployments[0].available = false;
    reality.forget_view();
    work(&mut reality, Duration::from_secs(100));
    let message =
        |reality: &Reality| reality.service.condition().map_or(String::new(), |condition| condition.message.clone());
    assert!(message(&reality).contains("it is being repaired"), "{}", reality.story);
    work(&mut reality, Duration::from_secs(100));
    assert_eq!(reason(&reality), "Degraded");
    assert!(message(&reality).contains("Machine m1 of the App") && message(&reality).contains("fly machine destroy"));
    assert_eq!((reality.machines().len(), reality.machines()[0].id.as_str()), (1, "m1"), "{}", reality.story);
}

/// Somebody, or Fly itself, edits each Machine once it serves. The old one serves on, and is of the new one's own generation.
#[test]
fn an_edit_that_comes_back_each_time_is_repaired_later_each_time() {
    let mut reality = serving();
    let end = Duration::from_secs(3600);
    while reality.now < end {
        let serving = reality.our_app().machines.iter_mut().filter(|machine| !machine.passing.is_empty());
        serving.for_each(|machine| machine.edits = vec!["env is another".into()]);
        reality.forget_view();
        work(&mut reality, Duration::from_secs(5));
    }
    let made = reality.story.matches("create Machine").count();
    assert!((5..=25).contains(&made), "{made} in an hour:\n{}", reality.story);
    assert_eq!(ready(&reality), "True", "{}", reality.story);
}

/// Another version may compare what this one does not: then each Machine counts as edited.
#[test]
fn a_machine_that_counts_as_edited_and_serves_waits_for_its_turn() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.edits = vec!["env is another".into()]);
    reality.forget_view();
    reality.memory.waits_its_turn = true;
    work(&mut reality, Duration::from_secs(60));
    assert!(!reality.story.contains("create Machine"), "{}", reality.story);
    reality.memory.waits_its_turn = false;
    work(&mut reality, Duration::from_secs(120));
    assert!(reality.story.contains("create Machine"), "{}", reality.story);
    assert_whole(&reality);
}

/// Fly's reads come from a store that lags, and what is in the App is billed.
#[test]
fn an_app_that_the_list_alone_shows_keeps_the_finalizer_of_a_deleted_service() {
    let mut reality = serving();
    let app = std::mem::replace(&mut reality.app, App::Absent);
    (reality.listed, reality.service.metadata.deletion_timestamp) = (true, Some("now".into()));
    reality.crash();
    work(&mut reality, Duration::from_secs(600));
    assert!(reality.service.has_finalizer(&reality.settings.finalizer), "{}", reality.story);
    (reality.app, reality.listed) = (app, false);
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Gone, "{}", reality.story);
    assert!(matches!(reality.app, App::Absent), "{}", reality.story);
}

/// Nobody would take its tunnel down otherwise.
#[test]
fn a_refused_service_that_serves_gets_its_finalizer_back() {
    let mut reality = serving();
    reality.service.metadata.annotations.insert(TYPO.into(), "iad".into());
    reality.service.metadata.finalizers.clear();
    reality.objects.deployments.clear();
    reality.crash();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert!(reality.service.has_finalizer(&reality.settings.finalizer), "{}", reality.story);
    assert_eq!((reason(&reality).as_str(), reality.objects.deployments.len()), ("InvalidService", 1));
    reality.delete_service();
    assert_eq!(reality.run(LONG), Next::Gone);
    assert!(matches!(reality.app, App::Absent), "{}", reality.story);
}

#[test]
fn a_closed_service_shows_no_address_that_was_released() {
    let mut reality = serving();
    reality.service.spec.load_balancer_source_ranges = vec!["10.0.0.0/8".into()];
    reality.our_app().addresses.clear();
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reality.service.addresses().len(), 1, "one list may lack it");
    for _ in 0..3 {
        reality.advance(Duration::from_secs(60));
        reality.forget_view();
        assert_eq!(reality.run(LONG), Next::Settled);
    }
    assert!(reality.service.addresses().is_empty(), "{}", reality.story);
}

/// Our App is gone, and somebody made another one of its name. A Service of the Go operator shows that operator's address.
#[test]
fn a_service_whose_apps_name_somebody_took_shows_no_address_that_was_released() {
    for (is_legacy, reason_shown, addresses) in [(false, "NameConflict", 0), (true, "LegacyTunnel", 1)] {
        let mut reality = serving();
        reality.app = App::Foreign("it is of the organisation other".into());
        if is_legacy {
            reality.service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-app".into(), "old".into());
        }
        reality.crash();
        assert_eq!(reality.run(LONG), Next::Settled);
        assert_eq!(reason(&reality), reason_shown);
        assert_eq!(reality.service.addresses().len(), 1, "one look may be wrong");
        for _ in 0..3 {
            reality.advance(Duration::from_secs(60));
            reality.forget_view();
            assert_eq!(reality.run(LONG), Next::Settled);
        }
        assert_eq!(reality.service.addresses().len(), addresses, "{}", reality.story);
        assert_eq!(reason(&reality), reason_shown);
    }
}

#[test]
fn a_machine_whose_marks_somebody_took_off_keeps_its_name_and_another_takes_its_place() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.ours = None);
    reality.crash();
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    assert_eq!(reality.machines().len(), 2, "{}", reality.story);
    assert_eq!((reason(&reality).as_str(), ready(&reality).as_str()), ("Serving", "True"));
}

#[test]
fn a_machine_that_stops_after_each_start_is_started_later_each_time() {
    let mut reality = serving();
    let end = reality.now + Duration::from_secs(6 * 3600);
    let mut starts = 0;
    while reality.now < end && starts < 100 {
        reality.change("m1", |machine| (machine.state, machine.passing) = (State::Stopped, Vec::new()));
        reality.look(&Look::Everything);
        match reality.turn() {
            Next::Act(steps) => starts += steps.iter().filter(|step| matches!(step, Step::StartMachine(_))).count(),
            Next::Wait(wait) => reality.pass(&wait),
            Next::Look(_) => {}
            other => panic!("{other:?}:\n{}", reality.story),
        }
    }
    assert!((10..100).contains(&starts), "{starts}");
    assert!(reality.service.condition().is_some_and(|condition| condition.message.contains("fly logs")));
}

#[test]
fn a_lane_that_does_not_tell_what_it_was_made_from_is_left_alone_while_its_service_is_refused() {
    let mut reality = serving();
    let id = reality.machines()[0].id.clone();
    reality.change(&id, |machine| machine.ours.iter_mut().for_each(|ours| ours.recipe = None));
    reality.service.metadata.annotations.insert(TYPO.into(), "iad".into());
    reality.crash();
    reality.story.clear();
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_eq!(reality.machines()[0].id, id);
    assert!(!reality.story.contains("create") && !reality.story.contains("destroy"), "{}", reality.story);
}

/// Enough other tunnels move. The old lane serves on, and one that does not serve any more is replaced all the same.
#[test]
fn a_lane_that_serves_is_replaced_when_it_is_its_turn() {
    let updated = || {
        let mut reality = serving();
        reality.settings.frps_image = "frps:2".into();
        reality.memory.waits_its_turn = true;
        reality.forget_view();
        reality
    };
    let mut reality = updated();
    let before = reality.machines()[0].id.clone();
    for _ in 0..20 {
        if let Next::Wait(wait) = reality.turn() {
            assert_eq!(wait.what, Waiting::Turn, "{}", reality.story);
            reality.pass(&wait);
        }
    }
    assert_eq!(reality.machines().len(), 1, "{}", reality.story);
    assert_eq!((reason(&reality).as_str(), ready(&reality).as_str()), ("Updating", "True"), "{}", reality.story);
    reality.memory.waits_its_turn = false;
    assert_eq!(reality.run(LONG), Next::Settled);
    assert_whole(&reality);
    assert_ne!(reality.machines()[0].id, before);

    let mut lost = updated();
    let before = lost.machines()[0].id.clone();
    lost.change(&before, |machine| machine.state = State::Gone);
    assert_eq!(lost.run(LONG), Next::Settled);
    assert_whole(&lost);
}

/// A webhook of the cluster's own sets another mode, and cuts the message, at each write.
#[test]
fn what_an_admission_makes_of_the_status_is_not_written_again() {
    let mut reality = serving();
    let admit = |reality: &mut Reality| {
        reality
            .service
            .status
            .load_balancer
            .ingress
            .iter_mut()
            .for_each(|ingress| ingress.ip_mode = Some("VIP".into()));
        reality.service.status.conditions.iter_mut().for_each(|condition| condition.message.truncate(4));
    };
    admit(&mut reality);
    let Next::Act(steps) = reality.plan().next else { panic!("it is written once:\n{}", reality.story) };
    let [Step::For(_, ServiceStep::Show(shown))] = &steps[..] else { panic!("{steps:?}") };
    // The API server answers with what its admission made of the write.
    reality.memory.deeds.shown(shown, &reality.service);
    assert_eq!(reality.run(LONG), Next::Settled, "{}", reality.story);
    reality.service.status.load_balancer.ingress.clear();
    assert!(matches!(reality.plan().next, Next::Act(_)), "somebody else's edit is mended");
}

/// Fly's list shows the App without any Machine.
fn lists_no_machine(reality: &mut Reality) {
    let app = OurApp { machines: Vec::new(), ..reality.our_app().clone() };
    (reality.seen.app, reality.seen.objects) = (Some(App::Ours(app)), Some(reality.objects.clone()));
}

/// The next thing to do, once the Service shows how it is.
fn beside_the_status(reality: &mut Reality) -> Next {
    let next = reality.plan().next;
    match &next {
        Next::Act(steps) if matches!(steps[..], [Step::For(_, ServiceStep::Show(_))]) => {
            let [Step::For(_, ServiceStep::Show(shown))] = &steps[..] else { return next };
            examples::show(&mut reality.service, shown);
            reality.plan().next
        }
        _ => next,
    }
}

#[test]
fn a_list_that_lacks_the_machine_makes_no_second_one() {
    let mut reality = serving();
    reality.change("m1", |machine| machine.state = State::Failed);
    reality.forget_view();
    assert_eq!(reality.run(LONG), Next::Settled);
    let name = reality.machines()[0].name.clone();
    assert!(name.ends_with("-2"), "{name}");
    lists_no_machine(&mut reality);
    // A Machine of the same name is a conflict at Fly.
    let Next::Act(steps) = beside_the_status(&mut reality) else { panic!("it waits:\n{}", reality.story) };
    assert!(matches!(&steps[..], [Step::CreateMachine(lane)] if lane.name == name), "{steps:?}");
    // An operator that starts does not know of the second attempt, and of the tunnel's objects maybe nothing is left.
    for objects in [reality.objects.clone(), Objects::default()] {
        reality.objects = Objects { keys: reality.objects.keys.clone(), ..objects };
        reality.crash();
        lists_no_machine(&mut reality);
        let next = beside_the_status(&mut reality);
        assert!(matches!(next, Next::Wait(Wait { what: Waiting::SecondLook, .. })), "{next:?}");
        // A second list lacks it, too.
        let (seen, now) = (reality.seen.clone(), reality.clock());
        reality.memory.looked(&Look::Everything, &seen, now);
        reality.now += BELIEVED;
        let (seen, now) = (reality.seen.clone(), reality.clock());
        reality.memory.looked(&Look::Everything, &seen, now);
        let next = beside_the_status(&mut reality);
        assert!(matches!(&next, Next::Act(steps) if matches!(steps[0], Step::CreateMachine(_))), "{next:?}");
    }
}

#[test]
fn the_frpc_of_a_machine_goes_only_where_a_second_list_lacks_it() {
    let mut reality = serving();
    reality.ports(&[80]);
    while reality.machines().len() < 2 || reality.machines()[1].passing.is_empty() {
        if let Next::Wait(wait) = reality.turn() {
            reality.pass(&wait);
        }
    }
    // One list lacks the old lane, and after that the new one alone is looked at for a while.
    let mut app = reality.our_app().clone();
    app.machines.remove(0);
    (reality.seen.app, reality.seen.objects) = (Some(App::Ours(app)), Some(reality.objects.clone()));
    let waits = |next: &Next| matches!(next, Next::Wait(Wait { what: Waiting::SecondLook, .. }));
    let next = beside_the_status(&mut reality);
    assert!(waits(&next), "{next:?}");
    reality.now += Duration::from_secs(20);
    let next = reality.plan().next;
    assert!(waits(&next), "{next:?}");
    // A second list lacks it, too.
    let (seen, now) = (reality.seen.clone(), reality.clock());
    reality.memory.looked(&Look::Everything, &seen, now);
    let next = reality.plan().next;
    assert!(matches!(&next, Next::Act(steps) if matches!(steps[0], Step::DeleteDeployment(_))), "{next:?}");
}

#[test]
fn what_somebody_changed_in_a_machine_of_the_same_name_is_no_spelling_of_flys() {
    let mut reality = serving();
    let mut twin = reality.machines()[0].clone();
    twin.image = "frps:other".into();
    lists_no_machine(&mut reality);
    let Next::Act(steps) = beside_the_status(&mut reality) else { panic!("it waits:\n{}", reality.story) };
    let (mut seen, mut memory, now) = (reality.seen.clone(), reality.memory.clone(), reality.clock());
    seen.done(&steps[0], Reply::Twin(twin), "app", &mut memory.deeds, now);
    assert_eq!(seen.our_app().map(|app| app.machines.len()), Some(1));
    assert!(memory.deeds.spelling.is_empty(), "{:?}", memory.deeds.spelling);
}

#[test]
fn an_address_that_was_asked_for_may_be_listed_late() {
    let asks = |next: &Next| matches!(next, Next::Act(steps) if matches!(steps[..], [Step::AllocateAddress(_)]));
    let mut reality = super::reality::reality();
    for _ in 0..20 {
        if asks(&reality.plan().next) {
            break;
        }
        reality.turn();
    }
    // It is asked for again and again, and Fly gives none.
    reality.advance(Duration::from_secs(60));
    reality.look(&Look::Everything);
    assert!(asks(&reality.plan().next), "{}", reality.story);
    // At last Fly gives one, the reply gets lost, and the next list lacks it.
    reality.memory.asked_for_an_address();
    let next = reality.plan().next;
    assert!(matches!(next, Next::Wait(Wait { what: Waiting::SecondLook, .. })), "{next:?}");
    reality.advance(Duration::from_secs(5));
    let next = reality.plan().next;
    assert!(matches!(next, Next::Wait(_)), "nobody looked again: {next:?}");
    reality.look(&Look::Everything);
    assert!(asks(&reality.plan().next), "{}", reality.story);
}

#[test]
fn that_the_app_was_not_found_says_nothing_of_its_addresses() {
    let mut reality = serving();
    reality.service.status = Default::default();
    reality.our_app().addresses.clear();
    // Fly does not find the App for a while; then one list has no address.
    reality.crash();
    (reality.seen.app, reality.seen.objects) = (Some(App::Absent), Some(reality.objects.clone()));
    reality.plan();
    reality.now += Duration::from_secs(20);
    reality.look(&Look::Everything);
    let next = beside_the_status(&mut reality);
    assert!(matches!(next, Next::Wait(Wait { what: Waiting::SecondLook, .. })), "{next:?}");
}
