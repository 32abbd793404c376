//! Random schedules of the whole loop: polls, sweeps and passes in any order, edits by users and what people change by hand in the
//! midst of them, losses, failures of each kind, crashes, two leaders for a moment. Each request that changes something is checked
//! against what is true (`tunnel/invariants.rs`), and requests and events are few at each moment (`bounds.rs`). When all is quiet again, everything is as the Services want it within a bounded time,
//! nothing is left beside, and nothing is done any more.
//!
//! Errors that were planted to try it, one at a time, and the first seed from 0 that failed. (They were measured once; with each new
//! fault all schedules are others.)
//!
//! | error | seed |
//! |---|---|
//! | a second Machine for one slot, of another name | 1 |
//! | the edit of a Machine is taken for Fly's spelling | 5 |
//! | the finalizer goes before the App is deleted | 8 |
//! | a released address stays in the status | 8 |
//! | an orphan is taken down without the pause | 9 |
//! | whatever is to be done waits for the status to be written | 24 |
//! | an old lane is cordoned before the edges know the new one | 24 |
//! | a step is begun without leading | 24 |
//! | a 404 is believed at once | 40 |
//! | what failed is tried again after a second each time | 42 |
//! | an address is asked for again after a lost reply | 133 |
//! | a lane that is not wanted any more stays | 229 |
//! | one list is enough to delete a lane's frpc | 448 |
//! | a list from before a tunnel went makes its entry anew | 1625 |
//! | an old lane retires before the new one serves | 2550 |
//! | what waits is looked at without a longer pause each time | 8878 |
//!
//! One that is only slow is not found: that a lane waits for the one before it. `plan/tests/lanes.rs` tells.

mod bounds;
mod check;
mod happen;
mod process;
mod run;

use std::time::Duration;

use kube_client_lite::lease::Leadership;

use crate::examples::{self, Dice};
use crate::model::{Faults, Model, Side, names};
use crate::render::objects::APP_LABEL;
use happen::{happen, happen_without_operator, heal, others};
use process::{Process, RESYNC};

/// Once everything is quiet, a tunnel is as it should be within this time: a lane that retires keeps its connections for a
/// minute, a Machine that does not boot is given up after five, the address is looked at once in ten minutes, an App that no Service asks
/// for is deleted after ten, and what was given up is tried again after up to an hour.
const QUIET: Duration = Duration::from_secs(5400);

/// Once everything is quiet it is looked so often whether all is as it should be.
const SLICE: Duration = Duration::from_secs(30);

/// The most rounds of a schedule.
const ROUNDS: u64 = 12;

/// A part of a schedule that can be left out, to make a story short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of the round.
    Round,
    /// The thing that happens at its beginning.
    Event,
    /// Things that happen in the midst of it.
    Meanwhile,
    Faults,
    /// The operator is killed, or ceases to lead.
    Crash,
    /// Two lead in the next round.
    Rival,
}

/// How a schedule is run.
#[derive(Clone, Default)]
pub struct Run {
    pub left_out: Vec<(u64, Part)>,
    /// Somebody reads the story.
    pub told: bool,
}

impl Run {
    fn has(&self, round: u64, part: Part) -> bool {
        !self.left_out.contains(&(round, part))
    }
}

/// The end of a schedule that went well.
pub struct Done {
    /// Requests that were sent.
    pub requests: u64,
    /// How long it took, once all was quiet, until everything was as the Services want it.
    pub took: Duration,
}

/// One schedule.
fn schedule(seed: u64, run: &Run) -> Done {
    let model = Model::new(seed, run.told);
    model.state().spells = seed % 8 == 4;
    let mut process = Process::serve(&model);
    let rounds = {
        let mut state = model.state();
        others(&mut state);
        state.dice.below(ROUNDS)
    };
    let mut rival = None;
    for round in (0..rounds).filter(|round| run.has(*round, Part::Round)) {
        process.lists_slowly = (seed + round).is_multiple_of(8);
        if process.lists_slowly {
            process.list();
        }
        let steps = begin_round(seed, round, run, &model, rival.take());
        for _ in 0..steps {
            process.step();
            process.wait();
        }
        end_meanwhile(&model);
        let mut state = model.state();
        let died = state.dies_after.take().is_some_and(|left| left == 0);
        let chance = state.dice.below(100);
        if died {
            happen_without_operator(&mut state);
            drop(state);
            process = Process::serve(&model);
        } else if chance < 8 && run.has(round, Part::Rival) {
            state.say(|| "— another operator starts, and both lead for a while".into());
            drop(state);
            rival = Some(std::mem::replace(&mut process, Process::serve(&model)));
        } else if chance < 16 && run.has(round, Part::Crash) {
            state.say(|| "— the operator does not lead for a while".into());
            drop(state);
            stand_by(&mut process);
            process.leadership = Leadership::without_election();
        }
    }
    heal(&model);
    let (drains, cannot_tell) = {
        let dice = &mut model.state().dice;
        (dice.percent(25), dice.percent(15))
    };
    if cannot_tell {
        process.mend_untold();
    }
    if drains {
        let mut state = model.state();
        state.say(|| "— the operator is to be uninstalled".into());
        state.drains = true;
        drop(state);
        process = Process::drain(&model);
    }
    let took = process.settle(drains);
    if !drains && seed.is_multiple_of(4) {
        restart(&model);
    }
    let state = model.state();
    Done { requests: state.requests, took }
}

/// A round begins, with dice of its own, so that a story without some of them is the same otherwise. Returns how many steps it has.
fn begin_round(seed: u64, round: u64, run: &Run, model: &Model, mut rival: Option<Process>) -> u64 {
    let mut state = model.state();
    state.dice = Dice(seed ^ (round + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
    let mut events = Dice(state.dice.below(u64::MAX));
    if run.has(round, Part::Event) {
        happen(&mut state);
    }
    let mut faults = Faults::rolled(&mut state.dice);
    // Fly lies in one way in a schedule: of two reads in a row, both would be wrong otherwise, and two are believed.
    if seed.is_multiple_of(2) {
        faults.stale = 0;
    } else {
        faults.lists_lack = 0;
    }
    state.faults = if run.has(round, Part::Faults) { faults } else { Faults::default() };
    let faults = state.story.is_some().then(|| state.faults.to_string()).filter(|faults| !faults.is_empty());
    if let Some(faults) = faults {
        state.say(|| format!("— it goes wrong: {faults}"));
    }
    let dies = state.dice.percent(20).then(|| state.dice.below(40) as u32);
    state.dies_after = dies.filter(|_| rival.is_none() && run.has(round, Part::Crash));
    state.rivals = rival.is_some();
    let mut left = if run.has(round, Part::Meanwhile) { events.below(4) } else { 0 };
    if left == 0 && rival.is_none() {
        return state.dice.below(200);
    }
    let there = model.clone();
    let meanwhile = move || match &mut rival {
        Some(rival) if events.percent(90) => rival.step(),
        _ if left > 0 && events.percent(50) => {
            left -= 1;
            happen(&mut there.state());
        }
        _ => {}
    };
    state.meanwhile = (if state.rivals { 30 } else { 5 }, Some(Box::new(meanwhile)));
    state.dice.below(200)
}

/// Nothing happens in the midst of things any more, and a second leader is none any more.
fn end_meanwhile(model: &Model) {
    let mut state = model.state();
    let meanwhile = std::mem::take(&mut state.meanwhile);
    if std::mem::take(&mut state.rivals) {
        state.rivals_ended = Some(state.now);
    }
    drop(state);
    drop(meanwhile); // it may hold a process, which holds the model
}

/// A process that does not lead any more begins nothing.
fn stand_by(process: &mut Process) {
    process.leadership.end();
    let changes = process.model.state().changes;
    for _ in 0..10 {
        process.step();
    }
    let state = process.model.state();
    if state.changes != changes {
        state.forbid("it does not lead, and acts");
    }
}

/// An operator that starts where all is as it should be changes nothing.
fn restart(model: &Model) {
    let changes = model.state().changes;
    let mut process = Process::serve(model);
    process.go_on(RESYNC * 3 / 2);
    let state = model.state();
    if state.changes != changes || process.posted > 0 {
        state.forbid("all is as it should be, and an operator that starts changes something");
    }
}

impl Process {
    /// The API server takes nothing that a Service is to show. All that users and bills see is mended and taken down all the same.
    fn mend_untold(&mut self) {
        let mut state = self.model.state();
        state.faults = Faults { status_refused: true, ..Faults::default() };
        state.say(|| "— a policy refuses what Services show, for long".into());
        let end = state.now + QUIET;
        drop(state);
        loop {
            self.go_on(SLICE);
            let mut state = self.model.state();
            match check::converged(&state, false, false) {
                Ok(()) => return state.faults = Faults::default(),
                Err(why) if state.now >= end => state.forbid(&format!("it cannot be told, and {why}")),
                Err(_) => {}
            }
        }
    }

    /// Goes on until everything is as the Services want it, and nothing is done any more for some intervals. Gives how long it took
    /// until then.
    fn settle(&mut self, drains: bool) -> Duration {
        let began = self.model.state().now;
        loop {
            self.go_on(SLICE);
            let (passed, changes, posted) = {
                let state = self.model.state();
                (state.now - began, state.changes, self.posted)
            };
            let verdict = check::converged(&self.model.state(), drains, true).and_then(|()| match &self.end {
                None if drains => Err("the drain does not end".into()),
                Some(failures) if !failures.is_empty() => Err(format!("it ends with {failures:?}")),
                _ => Ok(()),
            });
            let verdict = verdict.and_then(|()| {
                self.go_on(RESYNC * 5 / 2);
                let at_rest = self.model.state().changes == changes && self.posted == posted;
                if at_rest { Ok(()) } else { Err("it is settled, and goes on".into()) }
            });
            match verdict {
                Ok(()) => return passed,
                Err(why) if passed >= QUIET || self.end.is_some() => {
                    self.model.state().forbid(&format!("after {passed:?} {why}; the end is {:?}", self.end))
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn whatever_the_schedule_everything_converges_and_nothing_leaks() {
    let requests: u64 = (0..300).map(|seed| schedule(seed, &Run::default()).requests).sum();
    assert!(requests > 10_000, "the schedules are empty: {requests} requests");
}

/// Two Services that serve.
fn serving() -> (Model, Process) {
    let model = Model::new(7, true);
    let mut process = Process::serve(&model);
    for names in &names()[..2] {
        let mut service = examples::service();
        service.metadata.name = names.id.name.clone();
        model.state().put(service);
    }
    process.go_on(3 * RESYNC);
    (0..2).for_each(|which| shows(&model, which, &["Serving"], "True"));
    (model, process)
}

/// One of the Services shows one of these reasons with this status.
#[track_caller]
fn shows(model: &Model, which: usize, reasons: &[&str], status: &str) {
    let state = model.state();
    let condition = state.services[&names()[which].id].condition().expect("it has our condition");
    let is_so = condition.status == status && reasons.contains(&condition.reason.as_str());
    assert!(is_so, "{condition:?} and not {reasons:?} {status}: {}", state.told());
}

/// For an hour Fly takes nothing from us. Pods whose frpc is connected tell that users are served; of one whose frpc is not, nobody can
/// tell.
#[test]
fn ready_stays_true_for_an_hour_without_fly_while_frpc_is_connected() {
    let (model, mut process) = serving();
    model.state().faults.refused_by = Some(Side::Fly);
    for minute in 0..60 {
        process.go_on(RESYNC);
        let not_noticed = if minute < 2 { "Serving" } else { "FlyUnauthorized" };
        (0..2).for_each(|which| shows(&model, which, &[not_noticed, "FlyUnauthorized"], "True"));
    }
    // Another owner's frpc for the same Service tells nothing of ours.
    let mut state = model.state();
    let ours = state.deployments.iter().find(|(name, _)| name.contains(&names()[0].app));
    let mut theirs = ours.expect("it has an frpc").1.clone();
    theirs.metadata.name = "lb-theirs".into();
    theirs.metadata.labels.insert(APP_LABEL.into(), "lb-theirs".into());
    state.deployments.insert("lb-theirs".into(), theirs);
    drop(state);
    for (available, expected) in [(0, "Unknown"), (1, "True")] {
        let mut state = model.state();
        let of_one = state.deployments.iter_mut().filter(|(name, _)| name.contains(&names()[0].app));
        of_one.for_each(|(_, deployment)| deployment.status.available_replicas = available);
        drop(state);
        process.go_on(2 * RESYNC);
        shows(&model, 0, &["FlyUnauthorized"], expected);
        shows(&model, 1, &["FlyUnauthorized"], "True");
    }
    model.state().faults.lists_refused = true;
    process.go_on(2 * RESYNC);
    (0..2).for_each(|which| shows(&model, which, &["FlyUnauthorized"], "Unknown"));
}

/// Fly tells whether users are served, whatever the cluster does not tell.
#[test]
fn ready_tells_what_fly_tells_where_the_cluster_lets_us_list_nothing() {
    let (model, mut process) = serving();
    model.state().faults.lists_refused = true;
    process.go_on(10 * RESYNC);
    (0..2).for_each(|which| shows(&model, which, &["Degraded"], "True"));
    let mut state = model.state();
    let app = state.apps.get_mut(&names()[0].app).expect("it has an App");
    app.machines[0].state = "stopped".into();
    drop(state);
    process.go_on(2 * RESYNC);
    shows(&model, 0, &["Degraded"], "False");
    shows(&model, 1, &["Degraded"], "True");
}

/// A Service that serves: somebody writes what is no region, or its frpc stops running. Then its Machine is lost, and Fly gives no
/// other for an hour. Both are told, and neither again at each attempt.
#[test]
fn two_things_that_are_wrong_at_once_are_not_told_in_turn() {
    type Breaks = fn(&mut Faults);
    let refusals: [(&str, Breaks); 3] = [
        ("no capacity", |faults| faults.no_capacity = true),
        ("over quota", |faults| faults.over_quota = true),
        ("refused Machines", |faults| faults.machines_refused = true),
    ];
    for (name, breaks) in refusals {
        for is_bad_region in [true, false] {
            let (model, mut process) = serving();
            let first = &names()[0];
            if is_bad_region {
                let mut state = model.state();
                let mut service = state.services[&first.id].clone();
                service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-region".into(), "No Where".into());
                state.put(service);
                drop(state);
                process.go_on(2 * RESYNC);
                shows(&model, 0, &["InvalidService"], "True");
            } else {
                give_up_a_new_lane(&model, &mut process);
            }
            let mut state = model.state();
            breaks(&mut state.faults);
            let app = state.apps.get_mut(&first.app).expect("it has an App");
            for machine in &mut app.machines {
                machine.state = "destroyed".into();
                app.by_hand.insert(machine.id.clone());
            }
            drop(state);
            process.go_on(10 * RESYNC);
            let (posted, writes) = (process.posted, model.state().told().matches("shows").count());
            process.go_on(50 * RESYNC);
            let posted = process.posted - posted;
            let writes = model.state().told().matches("shows").count() - writes;
            assert!(
                posted <= 2 && writes <= 2,
                "{} {name}, bad region {is_bad_region}: {posted} events, {writes} writes",
                model.state().told()
            );
            if is_bad_region {
                shows(&model, 0, &["InvalidService"], "False");
                let state = model.state();
                let message = &state.services[&first.id].condition().expect("it has our condition").message;
                assert!(message.contains("No Where") && message.contains("; Fly"), "{message}");
            }
        }
    }
}

/// For an hour Fly has no room for the second of two lanes.
#[test]
fn a_lane_that_cannot_be_made_is_told_once() {
    let model = Model::new(7, true);
    let mut process = Process::serve(&model);
    let mut service = examples::service();
    service.metadata.annotations.insert(happen::REPLICAS.into(), "2".into());
    model.state().put(service);
    process.go_on(3 * RESYNC);
    shows(&model, 0, &["Serving"], "True");
    let mut state = model.state();
    state.faults.no_capacity = true;
    let app = state.apps.get_mut(&names()[0].app).expect("it has an App");
    app.machines[1].state = "destroyed".into();
    app.by_hand.insert(app.machines[1].id.clone());
    drop(state);
    process.go_on(5 * RESYNC);
    let posted = process.posted;
    for _ in 0..60 {
        process.go_on(RESYNC);
        shows(&model, 0, &["ServingDegraded"], "True");
        let state = model.state();
        let condition = state.services[&names()[0].id].condition().expect("it has our condition");
        assert!(condition.message.contains("lane 1: Fly has no capacity"), "{}", condition.message);
    }
    assert!(process.posted <= posted + 1, "{} events: {}", process.posted - posted, model.state().told());
    model.state().faults.no_capacity = false;
    process.go_on(3 * RESYNC);
    shows(&model, 0, &["Serving"], "True");
}

/// The lists that a look asks for are as many whatever is in them.
#[test]
fn a_settled_tunnel_takes_as_many_requests_whatever_its_lanes() {
    let [one, five] = ["1", "5"].map(|replicas| {
        let model = Model::new(7, true);
        let mut process = Process::serve(&model);
        let mut service = examples::service();
        service.metadata.annotations.insert(happen::REPLICAS.into(), replicas.into());
        model.state().put(service);
        process.go_on(3 * RESYNC);
        shows(&model, 0, &["Serving"], "True");
        let before = model.state().requests;
        process.go_on(100 * RESYNC);
        let state = model.state();
        assert_eq!(state.apps[&names()[0].app].machines.len().to_string(), replicas, "{}", state.told());
        state.requests - before
    });
    // The times of looks are jittered.
    assert!(five <= one + one / 20, "an hour and a half takes {one} requests with one lane, and {five} with five");
}

/// The Service moves to another region, and the cluster does not run the frpc of the new lane: that is given up.
fn give_up_a_new_lane(model: &Model, process: &mut Process) {
    let mut state = model.state();
    state.faults.no_frpc = true;
    let mut service = state.services[&names()[0].id].clone();
    service.metadata.annotations.insert("fly-tunnel-operator.dev/fly-region".into(), "iad".into());
    state.put(service);
    drop(state);
    process.go_on(10 * RESYNC);
    shows(model, 0, &["FrpcUnavailable"], "True");
}
