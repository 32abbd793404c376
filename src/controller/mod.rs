//! The loop: takes in what polls and passes report, and hands tunnels to workers when they are due.
//!
//! Nothing that it keeps is needed: a restart finds the same work in the Services, in Fly and in the cluster.

mod poll;
mod work;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::backoff::{Repeating, jittered};
use crate::failure::Kind;
use crate::service::Service;
use crate::tunnel::memory::Memory;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::{Look, Wait, Waiting};
use crate::tunnel::{Tunnel, TunnelId, Wanted, desired};
use crate::world::World;
use poll::Poll;
use work::{Clock, Outcome, Work};

/// How soon a tunnel that waits is looked at again. Fly allows five reads of a Machine a second, one of anything else.
const SOONEST_MACHINE: Duration = Duration::from_millis(250);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);

/// Who waited for long is looked at less often: each time after this part of the time that it waited.
const PART_OF_THE_WAIT: u32 = 20;

/// What was seen is not trusted any longer when it was "only early" this often in a row.
const EARLY_TRIES: u32 = 5;

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

/// What is kept of a tunnel between passes.
struct Entry {
    /// `None` while a worker has it.
    work: Option<Box<Work>>,
    /// What the tunnel was to be, and how its Service looked, when it was last worked on.
    tunnel: Tunnel,
    fingerprint: u64,
    /// How the Service looked before the last pass.
    fingerprint_before: u64,
    /// Its Service has our finalizer: something may have been made for it.
    finalized: bool,
    /// When to work on it next; `None`: when a poll or a worker says so.
    due: Option<Instant>,
    /// Nothing is left to do; when to look whether it is still so.
    resync: Option<Instant>,
    /// When everything was last looked at, or began to be.
    looked: Instant,
    finished: Option<Instant>,
    /// A poll saw the Service change while a worker had the tunnel.
    changed: bool,
    /// What it waits for, and since when.
    waiting: Option<(Waiting, Instant)>,
    failures: Repeating,
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
        let patience = due.map_or(LATEST, |due| due.saturating_duration_since(Instant::now()));
        receiver.recv_timeout(patience).ok()
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
        entry.tunnel = work.tunnel.clone();
        entry.fingerprint_before = entry.fingerprint;
        entry.fingerprint = fingerprint(work.seen.service.as_ref());
        entry.finalized =
            work.seen.service.as_ref().is_some_and(|service| service.has_finalizer(&self.world.settings.finalizer));
        entry.finished = Some(now);
        entry.work = Some(work);
        if !matches!(outcome, Outcome::Wait(_)) {
            entry.waiting = None;
        }
        if !matches!(outcome, Outcome::Failed(_)) {
            entry.failures.succeeded();
        }
        let changed = std::mem::take(&mut entry.changed);
        match outcome {
            Outcome::Gone if !changed => {
                self.entries.remove(&id);
            }
            _ if changed => entry.start_anew(now),
            Outcome::Settled => entry.settled(now + jittered(self.pace.resync_interval)),
            Outcome::Wait(wait) => entry.wait(wait, now, self.pace.resync_interval),
            Outcome::Failed(failure) => {
                let (delay, new) = entry.failures.failed(&failure.message);
                if failure.kind == Kind::Early && entry.failures.count() > EARLY_TRIES {
                    entry.start_anew(now);
                }
                if new && failure.kind == Kind::Cluster {
                    log::warn!(namespace = id.namespace, name = id.name, app = entry.tunnel.app; "{failure}; trying again");
                }
                entry.due = Some(now + failure.retry_after.unwrap_or(delay));
            }
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

impl Entry {
    fn new(tunnel: Tunnel, service: Option<Service>, now: Instant) -> Entry {
        let reread = service.is_none();
        let seen = Observed { service, ..Observed::default() };
        Entry {
            fingerprint: fingerprint(seen.service.as_ref()),
            fingerprint_before: fingerprint(seen.service.as_ref()),
            finalized: true, // until a pass knows better
            work: Some(Box::new(Work { tunnel: tunnel.clone(), seen, memory: Memory::default(), look: None, reread })),
            tunnel,
            due: Some(now),
            resync: None,
            looked: now,
            finished: None,
            changed: false,
            waiting: None,
            failures: Repeating::default(),
        }
    }

    /// A poll shows the Service.
    fn listed(&mut self, tunnel: Tunnel, service: Service, began: Instant, now: Instant) {
        let shown = fingerprint(Some(&service));
        let changed = tunnel != self.tunnel || shown != self.fingerprint;
        // A list that began before the last pass ended may be older than what that pass wrote.
        let older = self.finished.is_some_and(|finished| finished > began);
        if older && tunnel == self.tunnel && shown == self.fingerprint_before {
            return;
        }
        let resync = self.resync.is_some_and(|resync| resync <= now);
        if !changed && !resync {
            return;
        }
        match &mut self.work {
            None => self.changed |= changed,
            Some(_) if older => self.start_anew(now),
            Some(work) => {
                work.forget();
                work.reread = false;
                work.tunnel = tunnel;
                work.seen.service = Some(service);
                self.due = Some(now);
            }
        }
    }

    /// No list shows the Service any more. Returns whether the tunnel is still to be worked on.
    fn vanished(&mut self, now: Instant) -> bool {
        let removing = self.tunnel.wanted == Wanted::Removed;
        if self.work.is_some() && !removing {
            if !self.finalized {
                return false;
            }
            self.start_anew(now); // one list is not enough: it is read by name
        }
        true
    }

    /// Reads the Service, then looks at everything.
    fn start_anew(&mut self, now: Instant) {
        if let Some(work) = &mut self.work {
            work.forget();
        }
        self.due = Some(now);
    }

    /// Keeps no more than it takes to see a change.
    fn settled(&mut self, resync: Instant) {
        if let Some(work) = &mut self.work {
            work.forget();
            work.seen = Observed::default();
        }
        self.resync = Some(resync);
        // One that is in no list of load balancers is not woken by a poll.
        self.due = (self.tunnel.wanted == Wanted::Removed).then_some(resync);
    }

    /// A known time, or soon and later each time. What nobody looked at for a whole interval is looked at again.
    fn wait(&mut self, wait: Wait, now: Instant, resync_interval: Duration) {
        let soonest = if matches!(wait.look, Look::Machines(_)) { SOONEST_MACHINE } else { SOONEST };
        let since = match self.waiting {
            Some((what, since)) if what == wait.what => since,
            _ => now,
        };
        self.waiting = Some((wait.what, since));
        let pause = (now.duration_since(since) / PART_OF_THE_WAIT).clamp(soonest, LATEST);
        self.due = Some(now + wait.after.unwrap_or(pause));
        let stale = now.duration_since(self.looked) >= resync_interval;
        if let Some(work) = &mut self.work {
            work.look = Some(if stale { Look::Everything } else { wait.look });
        }
    }
}

/// Tells whether a Service is as it was left: everything that we read of it beside what makes the tunnel.
fn fingerprint(service: Option<&Service>) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(service) = service {
        service.metadata.uid.hash(&mut hasher);
        service.metadata.finalizers.hash(&mut hasher);
        service.addresses().hash(&mut hasher);
        if let Some(condition) = service.condition() {
            (&condition.status, &condition.reason, &condition.message).hash(&mut hasher);
        }
    }
    hasher.finish()
}
