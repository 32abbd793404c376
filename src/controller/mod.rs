//! The loop: takes in what polls and passes report, and hands tunnels to workers when they are due.
//!
//! Nothing that it keeps is needed: a restart finds the same work in the Services, in Fly and in the cluster.

mod entry;
mod poll;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::backoff::jittered;
use crate::tunnel::plan::Look;
use crate::tunnel::{TunnelId, desired};
use crate::world::World;
use entry::Entry;
use poll::Poll;
use work::{Clock, Outcome, Work};

/// What passes in hand are given when the process is to end.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// What the loop is told.
pub enum Event {
    Polled(Poll),
    Finished(Box<Work>, Outcome),
    /// End: no further step is begun.
    Stop,
}

/// How the loop runs.
pub struct Pace {
    pub poll_interval: Duration,
    pub resync_interval: Duration,
    /// Tunnels worked on at once.
    pub workers: usize,
}

struct Controller {
    world: Arc<World>,
    clock: Arc<Clock>,
    pace: Pace,
    entries: BTreeMap<TunnelId, Entry>,
    working: usize,
    events: Sender<Event>,
}

/// Runs until an `Event::Stop` comes.
pub fn run(world: World, pace: Pace, events: (Sender<Event>, Receiver<Event>)) {
    let world = Arc::new(world);
    let clock = Arc::new(Clock { started: Instant::now(), stopping: AtomicBool::new(false) });
    let (sender, receiver) = events;
    {
        let (world, sender, interval) = (Arc::clone(&world), sender.clone(), pace.poll_interval);
        thread::spawn(move || poll::run(world, interval, sender));
    }
    let mut controller = Controller { world, clock, pace, entries: BTreeMap::new(), working: 0, events: sender };
    loop {
        match controller.next_event(&receiver) {
            Some(Event::Polled(poll)) => controller.polled(poll),
            Some(Event::Finished(work, outcome)) => controller.finished(work, outcome),
            Some(Event::Stop) => return controller.stop(&receiver),
            None => {}
        }
        controller.start_due();
    }
}

impl Controller {
    fn next_event(&self, receiver: &Receiver<Event>) -> Option<Event> {
        let due =
            if self.working < self.pace.workers { self.entries.values().filter_map(|e| e.due).min() } else { None };
        match due {
            Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())).ok(),
            None => receiver.recv().ok(),
        }
    }

    /// Ends once no step is under way, or after a while.
    fn stop(mut self, receiver: &Receiver<Event>) {
        self.clock.stopping.store(true, Ordering::Release);
        let end = Instant::now() + LAST_STEPS;
        while self.working > 0 {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Finished(..)) => self.working -= 1,
                Ok(_) => {}
                Err(_) => {
                    return log::warn!(
                        "{} requests are still under way; what they do is found at the next start",
                        self.working
                    );
                }
            }
        }
    }

    fn polled(&mut self, poll: Poll) {
        let now = Instant::now();
        let mut listed = BTreeSet::new();
        for service in poll.services {
            let (owner, settings) = (&self.world.owner, &self.world.settings);
            let Some(tunnel) = desired::tunnel(&service, owner, &settings.finalizer, &settings.lanes) else { continue };
            listed.insert(tunnel.id.clone());
            match self.entries.get_mut(&tunnel.id) {
                Some(entry) => entry.listed(tunnel, service, poll.began, now),
                None => drop(self.entries.insert(tunnel.id.clone(), Entry::new(tunnel, Some(service), now))),
            }
        }
        for id in poll.strays {
            let removed = desired::removed(id.clone(), &self.world.owner);
            listed.insert(id.clone());
            self.entries.entry(id).or_insert_with(|| Entry::new(removed, None, now));
        }
        self.entries.retain(|id, entry| listed.contains(id) || entry.vanished(now));
    }

    fn finished(&mut self, work: Box<Work>, outcome: Outcome) {
        self.working -= 1;
        let now = Instant::now();
        let id = work.tunnel.id.clone();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let changed = entry.returned(work, &self.world.settings.finalizer, now);
        match outcome {
            Outcome::Gone if !changed => {
                self.entries.remove(&id);
            }
            _ if changed => entry.start_anew(now),
            Outcome::Settled => entry.settled(now + jittered(self.pace.resync_interval)),
            Outcome::Wait(wait) => entry.wait(wait, now, self.pace.resync_interval),
            Outcome::TryAgain(delay) => entry.due = Some(now + delay),
            Outcome::Gone | Outcome::Stopped => {}
        }
    }

    /// Hands what is due to workers, the longest due first.
    fn start_due(&mut self) {
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
            self.working += 1;
            let (world, clock, events) = (Arc::clone(&self.world), Arc::clone(&self.clock), self.events.clone());
            thread::spawn(move || {
                let outcome = work.pass(&world, &clock);
                let _ = events.send(Event::Finished(work, outcome)); // nobody listens: the process ends
            });
        }
    }
}
