//! A process of the operator on the model, and whatever its threads would do, in any order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube_client_lite::lease::{Leadership, Permit};

use super::bounds::Bounds;
use crate::controller::work::{Outcome, Pass, Work};
use crate::controller::{Command, Controller, Event, Pace, poll, sweep};
use crate::events::{Counted, Events};
use crate::examples;
use crate::goal::Goal;
use crate::model::Model;
use crate::render::objects;
use crate::service::Service;
use crate::tunnel::TunnelId;
use crate::tunnel::desired::{self, Desire};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// The resync interval.
pub const RESYNC: Duration = Duration::from_secs(60);

/// An operator on the model, and everything that its threads would have in hand.
pub struct Process {
    pub model: Model,
    world: Arc<World>,
    controller: Controller,
    pub leadership: Leadership,
    events: Counted,
    bounds: Bounds,
    /// Events that it wanted to write.
    pub posted: usize,
    /// Passes that were begun, and not run yet.
    begun: Vec<(Box<Work>, Permit)>,
    /// Passes that ended, and that the loop was not told of yet.
    ended: Vec<(Box<Work>, Outcome, Permit)>,
    /// A list that the loop was not told of yet.
    listed: Option<poll::Poll>,
    /// The list takes long: the loop is not told of it, nor is another begun.
    pub lists_slowly: bool,
    /// A sweep that the loop was not told of yet.
    swept: Option<sweep::Sweep>,
    polls: u64,
    /// When all tunnels are looked at together again, once nothing goes wrong any more.
    next_sweep: Duration,
    /// How it ended, if it did.
    pub end: Option<Vec<String>>,
}

impl Process {
    fn start(model: &Model, desire: Desire, goal: Goal, orphans: Vec<TunnelId>) -> Process {
        let (to_be_written, events) = Events::counted();
        let world = Arc::new(model.world(to_be_written, desire));
        let pace =
            Pace { poll_interval: 5 * SECOND, resync_interval: RESYNC, workers: 2, moves: 1, delete_orphans: true };
        let started = model.state().now;
        model.state().started = started;
        let controller = Controller::new(Arc::clone(&world), pace, goal, Arc::default(), orphans);
        Process {
            model: model.clone(),
            world,
            controller,
            leadership: Leadership::without_election(),
            events,
            bounds: Bounds::default(),
            posted: 0,
            begun: Vec::new(),
            ended: Vec::new(),
            listed: None,
            lists_slowly: false,
            swept: None,
            polls: 0,
            next_sweep: started + RESYNC,
            end: None,
        }
    }

    pub fn serve(model: &Model) -> Process {
        Process::start(model, desired::tunnel, Goal::Serve, Vec::new())
    }

    pub fn drain(model: &Model) -> Process {
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
            let is_listed =
                |service: &&Service| service.spec.kind == "LoadBalancer" || service.has_finalizer(&settings.finalizer);
            let listed = state.services.values().filter(is_listed);
            let tunnels = listed.filter_map(|service| desired::drained_tunnel(service, &owner, &settings));
            let asked_for: Vec<TunnelId> = tunnels.map(|tunnel| tunnel.id).collect();
            made_for.filter(|id| !asked_for.contains(id)).collect()
        };
        Process::start(model, desired::drained_tunnel, Goal::drain("fly-tunnel-operator-system"), orphans)
    }

    /// The time, and how many requests were sent so far.
    fn sent(&self) -> (Duration, u64) {
        let state = self.model.state();
        (state.now, state.requests)
    }

    fn note_events(&mut self) {
        for event in self.events.take() {
            self.posted += 1;
            let state = self.model.state();
            if let Err(what) = self.bounds.told(event, state.now) {
                state.forbid(&what);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.model.state().now;
        self.note_events();
        for command in self.controller.on(event, self.leadership.permit(), now) {
            match command {
                Command::Start(work, permit) => self.begun.push((work, permit)),
                Command::End(failures) => self.end = Some(failures),
            }
        }
    }

    /// The Services are listed. The loop is told later, as a list may be old when it arrives.
    pub fn list(&mut self) {
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
        let (began, sent) = self.sent();
        let outcome = work.pass(&pass);
        let sent = self.sent().1 - sent;
        self.note_events();
        let state = self.model.state();
        // A second leader sends requests in the midst of a pass.
        if !state.rivals
            && let Err(what) = self.bounds.passed(&work.tunnel.id, began, sent as usize, &outcome)
        {
            state.forbid(&what);
        }
        drop(state);
        self.ended.push((work, outcome, permit));
    }

    /// One thing happens in the process, whichever it may be.
    pub fn step(&mut self) {
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
            2 if self.listed.is_some() && !self.lists_slowly => {
                let listed = self.listed.take().map(Event::Polled);
                self.tell(listed.expect("it is there"));
            }
            3 if which == 0 && !self.lists_slowly => self.list(),
            3 if which == 1 => self.sweep(),
            4 if self.swept.is_some() => {
                let swept = self.swept.take().map(Event::Swept);
                self.tell(swept.expect("it is there"));
            }
            _ => self.tell(Event::Woken),
        }
    }

    /// Time passes until something is due, but no longer than a poll interval, after which the Services are listed.
    pub fn wait(&mut self) {
        let due = self.controller.due();
        let busy = !self.begun.is_empty() || !self.ended.is_empty();
        let mut state = self.model.state();
        let now = state.now;
        let pause = due.map_or(5 * SECOND, |due| due.saturating_sub(now)).min(5 * SECOND);
        state.pass(if busy { Duration::ZERO } else { pause });
    }

    /// Everything goes its way without a fault, for that long.
    pub fn go_on(&mut self, time: Duration) {
        let end = self.model.state().now + time;
        let mut next_poll = Duration::ZERO;
        while self.end.is_none() && self.model.state().now < end {
            if self.model.state().now >= next_poll {
                self.list();
                next_poll = self.model.state().now + 20 * SECOND;
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
