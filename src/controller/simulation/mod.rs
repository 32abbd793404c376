//! Random schedules of the whole loop: polls, passes, edits by users, losses, failures and crashes in any order. When all is
//! quiet again, everything is as the Services want it, and nothing is left beside.

mod check;
mod happen;
mod run;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube_client_lite::lease::{Leadership, Permit};

use super::work::{Outcome, Pass, Work};
use super::{Command, Controller, Event, Pace, poll, sweep};
use crate::events::Events;
use crate::examples::{self, Dice};
use crate::goal::Goal;
use crate::model::{Faults, Model};
use crate::render::objects;
use crate::tunnel::TunnelId;
use crate::tunnel::desired::{self, Desire};
use crate::world::World;
use happen::{happen, happen_without_operator, heal};

const SECOND: Duration = Duration::from_secs(1);

/// Once everything is quiet, a tunnel is as it should be within this time: a lane that retires keeps its connections for a
/// minute, a Machine that does not boot is given up after five, the address is looked at once in ten minutes, an App that no Service asks
/// for is deleted after ten, and what was given up is tried again after up to an hour.
const QUIET: Duration = Duration::from_secs(5400);

/// The resync interval.
const RESYNC: Duration = Duration::from_secs(60);

/// An operator on the model, and everything that its threads would have in hand.
struct Process {
    model: Model,
    world: Arc<World>,
    controller: Controller,
    leadership: Leadership,
    /// Passes that were begun, and not run yet.
    begun: Vec<(Box<Work>, Permit)>,
    /// Passes that ended, and that the loop was not told of yet.
    ended: Vec<(Box<Work>, Outcome, Permit)>,
    /// A list that the loop was not told of yet.
    listed: Option<poll::Poll>,
    /// A sweep that the loop was not told of yet.
    swept: Option<sweep::Sweep>,
    polls: u64,
    /// When all tunnels are looked at together again, once nothing goes wrong any more.
    next_sweep: Duration,
    /// How it ended, if it did.
    end: Option<Vec<String>>,
}

impl Process {
    fn start(model: &Model, desire: Desire, goal: Goal, orphans: Vec<TunnelId>) -> Process {
        let owner = examples::owner();
        let world = Arc::new(World {
            cluster: Arc::new(model.clone()),
            fly: Box::new(model.clone()),
            events: Events::unwritten(),
            random: Box::new(model.clone()),
            namespace: "fly-tunnel-operator-system".into(),
            owner_id: owner.id(),
            owner,
            settings: examples::settings(),
            desire,
        });
        let pace =
            Pace { poll_interval: 5 * SECOND, resync_interval: RESYNC, workers: 2, moves: 1, delete_orphans: true };
        let controller = Controller::new(Arc::clone(&world), pace, goal, Arc::default(), orphans);
        Process {
            model: model.clone(),
            world,
            controller,
            leadership: Leadership::without_election(),
            begun: Vec::new(),
            ended: Vec::new(),
            listed: None,
            swept: None,
            polls: 0,
            next_sweep: model.state().now + RESYNC,
            end: None,
        }
    }

    fn serve(model: &Model) -> Process {
        Process::start(model, desired::tunnel, Goal::Serve, Vec::new())
    }

    fn drain(model: &Model) -> Process {
        // A drain looks for Apps that no Service asks for before it begins.
        let orphans = {
            let (state, owner) = (model.state(), examples::owner());
            let of_apps = state.apps.keys().filter_map(|app| owner.tunnel_of(app));
            let labels = state.secrets.values().map(|secret| &secret.metadata.labels);
            let labels = labels.chain(state.config_maps.values().map(|map| &map.metadata.labels));
            let labels = labels.chain(state.deployments.values().map(|deployment| &deployment.metadata.labels));
            let of_objects = labels.filter_map(|labels| objects::tunnel_of(labels)).map(|(id, _)| id);
            let made_for = of_apps.chain(of_objects);
            let settings = examples::settings();
            let tunnels =
                state.services.values().filter_map(|service| desired::drained_tunnel(service, &owner, &settings));
            let asked_for: Vec<TunnelId> = tunnels.map(|tunnel| tunnel.id).collect();
            made_for.filter(|id| !asked_for.contains(id)).collect()
        };
        Process::start(model, desired::drained_tunnel, Goal::drain("fly-tunnel-operator-system"), orphans)
    }

    fn tell(&mut self, event: Event) {
        let now = self.model.state().now;
        for command in self.controller.on(event, self.leadership.permit(), now) {
            match command {
                Command::Start(work, permit) => self.begun.push((work, permit)),
                Command::End(failures) => self.end = Some(failures),
            }
        }
    }

    /// The Services are listed. The loop is told later, as a list may be old when it arrives.
    fn list(&mut self) {
        let began = self.model.state().now;
        let listed = poll::poll(&self.world, self.leadership.permit(), began, self.polls.is_multiple_of(12));
        self.polls += 1;
        self.listed = listed.ok().or(self.listed.take());
    }

    /// All tunnels are looked at together. The loop is told later.
    fn sweep(&mut self) {
        let began = self.model.state().now;
        self.swept = Some(sweep::sweep(&self.world, self.leadership.permit(), began));
    }

    /// One of the passes that were begun is run.
    fn run(&mut self, choice: u64) {
        let (mut work, permit) = self.begun.swap_remove(choice as usize % self.begun.len());
        let stopping = AtomicBool::new(false);
        let pass = Pass { world: &self.world, time: &self.model, stopping: &stopping, permit: &permit };
        let outcome = work.pass(&pass);
        self.ended.push((work, outcome, permit));
    }

    /// One thing happens in the process, whichever it may be.
    fn step(&mut self) {
        let (choice, which) = {
            let mut state = self.model.state();
            (state.dice.below(5), state.dice.below(8))
        };
        match choice {
            0 if !self.begun.is_empty() => self.run(which),
            1 if !self.ended.is_empty() => {
                let (work, outcome, permit) = self.ended.swap_remove(which as usize % self.ended.len());
                self.tell(Event::Finished(work, outcome, permit));
            }
            2 if self.listed.is_some() => {
                let listed = self.listed.take().map(Event::Polled);
                self.tell(listed.expect("it is there"));
            }
            3 if which == 0 => self.list(),
            3 if which == 1 => self.sweep(),
            4 if self.swept.is_some() => {
                let swept = self.swept.take().map(Event::Swept);
                self.tell(swept.expect("it is there"));
            }
            _ => self.tell(Event::Woken),
        }
    }

    /// Time passes until something is due, but no longer than a poll interval, after which the Services are listed.
    fn wait(&mut self) {
        let due = self.controller.due();
        let busy = !self.begun.is_empty() || !self.ended.is_empty();
        let mut state = self.model.state();
        let now = state.now;
        let pause = due.map_or(5 * SECOND, |due| due.saturating_sub(now)).min(5 * SECOND);
        state.pass(if busy { Duration::ZERO } else { pause });
    }

    /// Everything goes its way without a fault, for that long.
    fn go_on(&mut self, time: Duration) {
        let end = self.model.state().now + time;
        let mut next_poll = Duration::ZERO;
        while self.end.is_none() && self.model.state().now < end {
            if self.model.state().now >= next_poll {
                self.list();
                next_poll = self.model.state().now + 5 * SECOND;
                if let Some(listed) = self.listed.take() {
                    self.tell(Event::Polled(listed));
                }
            }
            if self.model.state().now >= self.next_sweep {
                self.sweep();
                self.next_sweep = self.model.state().now + RESYNC;
                if let Some(swept) = self.swept.take() {
                    self.tell(Event::Swept(swept));
                }
            }
            while let Some((work, outcome, permit)) = self.ended.pop() {
                self.tell(Event::Finished(work, outcome, permit));
            }
            self.tell(Event::Woken);
            if self.begun.is_empty() { self.wait() } else { self.run(0) }
        }
    }
}

/// The end of a schedule that went well.
pub struct Done {
    /// Requests that were sent.
    requests: u64,
    /// How long it took, once all was quiet, until everything was as the Services want it.
    took: Duration,
}

/// One schedule. Rounds that `kept` leaves out do not happen.
fn schedule(seed: u64, kept: &dyn Fn(u64) -> bool) -> Done {
    let model = Model::new(seed);
    let mut process = Process::serve(&model);
    let rounds = model.state().dice.below(12);
    for round in (0..rounds).filter(|round| kept(*round)) {
        {
            let mut state = model.state();
            // Each round has dice of its own, so that a story without some of them is the same otherwise.
            state.dice = Dice(seed ^ (round + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
            happen(&mut state);
            state.faults = Faults::rolled(&mut state.dice);
            let dies = state.dice.percent(20);
            state.dies_after = dies.then(|| state.dice.below(40) as u32);
        }
        let steps = model.state().dice.below(200);
        for _ in 0..steps {
            process.step();
            process.wait();
        }
        let died = model.state().dies_after.take().is_some_and(|left| left == 0);
        if died {
            happen_without_operator(&mut model.state());
            process = Process::serve(&model);
        }
    }
    heal(&mut model.state());
    let drains = model.state().dice.percent(25);
    if drains {
        let mut state = model.state();
        state.say("— the operator is to be uninstalled".into());
        state.drains = true;
        drop(state);
        process = Process::drain(&model);
    }
    let took = process.settle(drains);
    let state = model.state();
    Done { requests: state.requests, took }
}

impl Process {
    /// Goes on until everything is as the Services want it, and makes sure that nothing is done any more then. Gives how long it took.
    fn settle(&mut self, drains: bool) -> Duration {
        let began = self.model.state().now;
        loop {
            self.go_on(SLICE);
            let state = self.model.state();
            let passed = state.now - began;
            let verdict = check::converged(&state, drains).and_then(|()| match &self.end {
                None if drains => Err("the drain does not end".into()),
                Some(failures) if !failures.is_empty() => Err(format!("it ends with {failures:?}")),
                _ => Ok(()),
            });
            match verdict {
                Ok(()) => break,
                Err(why) => {
                    assert!(
                        passed < QUIET && self.end.is_none(),
                        "after {passed:?} {why}; the end is {:?}\n{}",
                        self.end,
                        state.story.join("\n")
                    )
                }
            }
        }
        let took = self.model.state().now - began;
        let written = self.model.state().story.len();
        self.go_on(RESYNC * 5 / 2);
        let state = self.model.state();
        assert!(state.story.len() == written, "it is settled, and goes on\n{}", state.story.join("\n"));
        took
    }
}

/// Once everything is quiet it is looked so often whether all is as it should be.
const SLICE: Duration = Duration::from_secs(30);

#[test]
fn whatever_the_schedule_everything_converges_and_nothing_leaks() {
    let requests: u64 = (0..300).map(|seed| schedule(seed, &|_| true).requests).sum();
    assert!(requests > 10_000, "the schedules are empty: {requests} requests");
}
