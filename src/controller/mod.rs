//! The loop: takes in what polls and passes report, and hands tunnels to workers when they are due.
//!
//! Nothing that it keeps is needed: a restart finds the same work in the Services, in Fly and in the cluster.

mod entry;
pub mod poll;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::lease::{Leadership, Permit};

use crate::backoff::jittered;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::TunnelState;
use crate::tunnel::plan::Look;
use crate::tunnel::{TunnelId, desired};
use crate::world::World;
use entry::Entry;
use poll::Poll;
use work::{Clock, Outcome, Pass, Work};

/// What passes in hand are given when the process is to end.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// The loop turns at least that often.
const TURN: Duration = Duration::from_secs(10);

/// A pass may make some hundred requests, of which few hang: one that takes longer than this never comes back.
const LONGEST_PASS: Duration = Duration::from_secs(600);

/// What the loop is told.
pub enum Event {
    Polled(Poll),
    /// This process begins to lead, or ceases to.
    StandingChanged,
    /// How often in a row, and why.
    PollFailed(u32, String),
    /// The permit is the one that the pass had.
    Finished(Box<Work>, Outcome, Permit),
    /// End: no further step is begun.
    Stop,
}

/// How the loop runs.
pub struct Pace {
    pub poll_interval: Duration,
    pub resync_interval: Duration,
    /// Tunnels worked on at once.
    pub workers: usize,
    /// End where nothing is left to do or to wait for, or something failed that often.
    pub once: Option<u32>,
}

/// How the loop ended.
pub struct End {
    /// No step was left under way.
    pub quiet: bool,
    /// Where it ended by itself: what is not as it should be, empty if all is well.
    pub failures: Vec<String>,
}

struct Controller {
    world: Arc<World>,
    clock: Arc<Clock>,
    pace: Pace,
    leadership: Leadership,
    telemetry: Arc<Telemetry>,
    /// Of the term in which the entries were made.
    permit: Option<Permit>,
    polled: bool,
    entries: BTreeMap<TunnelId, Entry>,
    /// What a drain took down, and when.
    down: BTreeMap<TunnelId, Instant>,
    /// Another operator makes this one again.
    made_again: Option<TunnelId>,
    working: usize,
    events: Sender<Event>,
}

/// Runs until an `Event::Stop` comes, or until nothing is left to do, where that is asked for. `orphans` are taken down.
pub fn run(
    world: Arc<World>,
    pace: Pace,
    leadership: Leadership,
    telemetry: Arc<Telemetry>,
    events: (Sender<Event>, Receiver<Event>),
    orphans: Vec<TunnelId>,
) -> End {
    let clock = Arc::new(Clock { started: Instant::now(), stopping: AtomicBool::new(false) });
    let (sender, receiver) = events;
    {
        let (world, leadership, sender) = (Arc::clone(&world), leadership.clone(), sender.clone());
        let (interval, telemetry) = (pace.poll_interval, Arc::clone(&telemetry));
        thread::spawn(move || poll::run(&world, &leadership, interval, &telemetry, &sender));
    }
    let pulse = telemetry.health.pulse("the loop");
    let mut controller = Controller {
        world,
        clock,
        pace,
        leadership,
        telemetry,
        permit: None,
        polled: false,
        entries: BTreeMap::new(),
        down: BTreeMap::new(),
        made_again: None,
        working: 0,
        events: sender,
    };
    controller.take_down(orphans);
    loop {
        pulse.back_within(TURN);
        let event = controller.next_event(&receiver);
        controller.check_permit();
        match event {
            Some(Event::Polled(poll)) => controller.polled(poll),
            Some(Event::Finished(work, outcome, permit)) => controller.finished(work, outcome, &permit),
            Some(Event::PollFailed(times, error)) if controller.pace.once.is_some_and(|tries| times >= tries) => {
                return controller.stop(&receiver, vec![format!("the cluster cannot be asked: {error}")]);
            }
            Some(Event::PollFailed(..) | Event::StandingChanged) | None => {}
            Some(Event::Stop) => {
                let unfinished = if controller.pace.once.is_some() { controller.unfinished() } else { Vec::new() };
                return controller.stop(&receiver, unfinished);
            }
        }
        if let Some(id) = controller.made_again.take() {
            let failure = made_again(&controller.world, &id);
            return controller.stop(&receiver, vec![failure]);
        }
        controller.start_due();
        if controller.pace.once.is_some()
            && let Some(failures) = controller.verdict()
        {
            return controller.stop(&receiver, failures);
        }
    }
}

/// What a drain says that gives up: who makes again what it took down.
pub fn made_again(world: &World, id: &TunnelId) -> String {
    format!(
        "the tunnel of the Service {id} was taken down, and is made again: another operator of this class runs, whose \
         --namespace is not {}, or which has --leader-elect=false. Give --drain the same --namespace, or end that operator, and \
         drain again",
        world.namespace
    )
}

impl Controller {
    fn next_event(&self, receiver: &Receiver<Event>) -> Option<Event> {
        let may_start = self.permit.is_some() && self.working < self.pace.workers;
        let due = if may_start { self.entries.values().filter_map(|e| e.due).min() } else { None };
        let pause = due.map_or(TURN, |due| due.saturating_duration_since(Instant::now()).min(TURN));
        receiver.recv_timeout(pause).ok()
    }

    /// Whoever leads begins with nothing: another may have led before. Tunnels that a worker has are kept until it gives
    /// them back, so that nobody else works on them.
    fn check_permit(&mut self) {
        if self.permit.as_ref().is_some_and(Permit::holds) {
            return;
        }
        if self.permit.take().is_some() {
            self.entries.retain(|_, entry| entry.work.is_none());
            self.telemetry.metrics.leading(false);
        }
        self.permit = self.leadership.permit();
        self.telemetry.metrics.leading(self.permit.is_some());
    }

    /// Ends once no step is under way, or after a while.
    fn stop(mut self, receiver: &Receiver<Event>, failures: Vec<String>) -> End {
        self.clock.stopping.store(true, Ordering::Release);
        let end = Instant::now() + LAST_STEPS;
        while self.working > 0 {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Finished(..)) => self.working -= 1,
                Ok(_) => {}
                Err(_) => {
                    log::warn!(
                        "still under way: {} of the steps; what they do is found at the next start, and nobody else leads before the Lease expires",
                        self.working
                    );
                    break;
                }
            }
        }
        self.world.events.finish();
        End { quiet: self.working == 0, failures }
    }

    fn polled(&mut self, poll: Poll) {
        // A list from before this term may be older than what another leader did.
        if !poll.permit.as_ref().is_some_and(Permit::holds) {
            return;
        }
        self.polled = true;
        let now = Instant::now();
        let mut listed = BTreeSet::new();
        for service in poll.services {
            let Some(tunnel) = self.world.tunnel(&service) else { continue };
            if tunnel.legacy.is_none() && self.down.get(&tunnel.id).is_some_and(|down| *down < poll.began) {
                self.made_again = Some(tunnel.id.clone());
            }
            listed.insert(tunnel.id.clone());
            match self.entries.get_mut(&tunnel.id) {
                Some(entry) => entry.listed(tunnel, service, poll.began, now),
                None => {
                    let (id, entry) = (tunnel.id.clone(), Entry::new(tunnel, Some(service), now));
                    if let Some(work) = &entry.work {
                        self.telemetry.metrics.tunnel(&id, TunnelState::of(&work.tunnel, &work.seen));
                    }
                    self.entries.insert(id, entry);
                }
            }
        }
        listed.extend(poll.strays.iter().cloned());
        self.take_down(poll.strays);
        let metrics = &self.telemetry.metrics;
        self.entries.retain(|id, entry| {
            let kept = listed.contains(id) || entry.vanished(now);
            if !kept {
                metrics.tunnel_gone(id);
            }
            kept
        });
    }

    /// Tunnels without a Service that wants one.
    fn take_down(&mut self, ids: Vec<TunnelId>) {
        for id in ids {
            let removed = desired::removed(id.clone(), &self.world.owner);
            self.entries.entry(id).or_insert_with(|| Entry::new(removed, None, Instant::now()));
        }
    }

    fn finished(&mut self, work: Box<Work>, outcome: Outcome, permit: &Permit) {
        self.working -= 1;
        let now = Instant::now();
        let id = work.tunnel.id.clone();
        if !permit.holds() {
            // The next poll of whoever leads finds it.
            self.entries.remove(&id);
            return;
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let tries = self.pace.once.unwrap_or(u32::MAX);
        let verdict = match &outcome {
            // The Go operator's, and left as it is.
            Outcome::Settled if self.world.draining && work.tunnel.legacy.is_some() => Some(None),
            Outcome::Settled => Some(work.shown_failure()),
            Outcome::Left(why) => Some(Some(why.clone())),
            Outcome::TryAgain(_) if work.failures.count() >= tries => Some(Some(work.failures.last().to_owned())),
            Outcome::TryAgain(_) | Outcome::MadeAgain | Outcome::Gone | Outcome::Wait(_) | Outcome::Stopped => None,
        };
        match &outcome {
            Outcome::Gone if self.world.draining => drop(self.down.insert(id.clone(), now)),
            Outcome::MadeAgain => self.made_again = Some(id.clone()),
            _ => {}
        }
        let metrics = &self.telemetry.metrics;
        metrics.tunnel(&id, TunnelState::of(&work.tunnel, &work.seen));
        if let Some(after) = entry.first_address(&work.seen, now) {
            metrics.address_shown(after);
        }
        if matches!(outcome, Outcome::TryAgain(_)) {
            metrics.retry();
        }
        let changed = entry.returned(work, &self.world.settings.finalizer, now);
        entry.verdict = verdict.filter(|_| !changed);
        match outcome {
            Outcome::Gone if !changed => {
                metrics.tunnel_gone(&id);
                self.entries.remove(&id);
            }
            _ if changed => entry.start_anew(now),
            Outcome::Settled | Outcome::Left(_) => entry.settled(now + jittered(self.pace.resync_interval)),
            Outcome::Wait(wait) => entry.wait(wait, now, self.pace.resync_interval),
            Outcome::TryAgain(delay) => entry.due = Some(now + delay),
            Outcome::MadeAgain | Outcome::Gone | Outcome::Stopped => {}
        }
    }

    /// What is not as it should be, once nothing is left to do or to wait for.
    fn verdict(&self) -> Option<Vec<String>> {
        if self.permit.is_none() && self.polled {
            return Some(vec!["the Lease was lost before all was done".into()]);
        }
        if !self.polled || self.working > 0 {
            return None;
        }
        let verdicts: Option<Vec<_>> =
            self.entries.iter().map(|(id, entry)| Some((id, entry.verdict.as_ref()?))).collect();
        Some(verdicts?.into_iter().filter_map(|(id, why)| Some(format!("{id}: {}", why.as_ref()?))).collect())
    }

    /// Told to end before all was done: what is left.
    fn unfinished(&self) -> Vec<String> {
        let left = self.entries.iter().filter_map(|(id, entry)| match &entry.verdict {
            Some(verdict) => Some(format!("{id}: {}", verdict.as_ref()?)),
            None => Some(format!("{id}: not done yet")),
        });
        ["it was told to end before all was done".into()].into_iter().chain(left).collect()
    }

    /// Hands what is due to workers, the longest due first.
    fn start_due(&mut self) {
        let Some(permit) = &self.permit else { return };
        let now = Instant::now();
        let mut due: Vec<(Instant, TunnelId)> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| entry.due.filter(|due| *due <= now).map(|due| (due, id.clone())))
            .collect();
        due.sort();
        for (_, id) in due.into_iter().take(self.pace.workers - self.working) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(mut work) = entry.work.take() else { continue };
            if work.seen.app.is_none() || work.look == Some(Look::Everything) {
                entry.looked = now;
            }
            entry.due = None;
            entry.resync = None;
            entry.verdict = None;
            self.working += 1;
            let (world, clock, events) = (Arc::clone(&self.world), Arc::clone(&self.clock), self.events.clone());
            let permit = permit.clone();
            let pulse = self.telemetry.health.pulse(format!("the pass over {id}"));
            pulse.back_within(LONGEST_PASS);
            thread::spawn(move || {
                let _pulse = pulse;
                let outcome = work.pass(&Pass { world: &world, clock: &clock, permit: &permit });
                let _ = events.send(Event::Finished(work, outcome, permit)); // nobody listens: the process ends
            });
        }
    }
}
