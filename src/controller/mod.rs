//! The loop, as a state machine: it takes in what polls and passes report, and says what to begin. Threads and the clock are
//! outside, in [`threads`], so that a test can be them.
//!
//! Nothing that it keeps is needed: a restart finds the same work in the Services, in Fly and in the cluster.

mod entry;
mod finished;
pub mod orphans;
pub mod poll;
#[cfg(test)]
mod simulation;
pub mod sweep;
pub mod threads;
mod turns;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube_client_lite::lease::Permit;

use crate::backoff::jittered;
use crate::goal::Goal;
use crate::report::{self, Orphan};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::TunnelState;
use crate::tunnel::{TunnelId, desired};
use crate::world::World;
use entry::Entry;
use orphans::Orphans;
use poll::Poll;
use sweep::Sweep;
use turns::Turns;
use work::{Outcome, Work};

/// Something happened.
pub enum Event {
    Polled(Poll),
    /// How often in a row, and why.
    PollFailed(u32, String),
    Swept(Sweep),
    /// A pass ended. The permit is the one that it had.
    Finished(Box<Work>, Outcome, Permit),
    /// This process begins to lead or ceases to, or some time has passed.
    Woken,
    /// The process was told to end.
    Stop,
}

/// The loop wants this to be done.
pub enum Command {
    /// Begin a pass, with this permit.
    Start(Box<Work>, Permit),
    /// Begin no further step, and end. The texts say what is not as it should be; there are none if all is well.
    End(Vec<String>),
}

/// How the loop runs.
pub struct Pace {
    pub poll_interval: Duration,
    pub resync_interval: Duration,
    /// Tunnels worked on at once.
    pub workers: usize,
    /// Tunnels that replace lanes that serve at once.
    pub moves: usize,
    /// Apps of this owner that no Service asks for are deleted.
    pub delete_orphans: bool,
}

/// The loop. All times are since the process started.
pub struct Controller {
    world: Arc<World>,
    pace: Pace,
    goal: Goal,
    telemetry: Arc<Telemetry>,
    /// The right to act, of the term in which the entries were made.
    permit: Option<Permit>,
    polled: bool,
    entries: BTreeMap<TunnelId, Entry>,
    /// How many tunnels workers have.
    working: usize,
    /// How many sweeps failed in a row.
    sweeps_failed: u32,
    orphans: Orphans,
    /// It was told that frpc's pods never get ready. They all have one image.
    told_never_ready: bool,
    turns: Turns,
    /// Tunnels that went since the last list began, and when. A list from before may still have their Services.
    gone: BTreeMap<TunnelId, Duration>,
    /// Tunnels of Services that the last list has, and that cannot be read. Nobody knows what they ask for.
    unreadable: BTreeSet<TunnelId>,
}

/// A tunnel that serves is asked after at Fly once in so many intervals, for what sweeps do not show: checks, cordons, addresses. A lost
/// host shows in a sweep, since frpc's pod is not ready then.
const INTERVALS_PER_LOOK: u32 = 10;

/// After so many sweeps in a row that failed each tunnel is looked at by itself, and tells of what it meets.
const SWEEPS_TO_FAIL: u32 = 2;

impl Controller {
    /// A loop that knows nothing yet, but for tunnels without a Service that are to be taken down.
    pub fn new(
        world: Arc<World>,
        pace: Pace,
        goal: Goal,
        telemetry: Arc<Telemetry>,
        orphans: Vec<TunnelId>,
    ) -> Controller {
        let mut controller = Controller {
            world,
            turns: Turns::new(pace.moves),
            pace,
            goal,
            telemetry,
            permit: None,
            polled: false,
            entries: BTreeMap::new(),
            working: 0,
            sweeps_failed: 0,
            orphans: Orphans::default(),
            told_never_ready: false,
            gone: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        };
        controller.take_down(orphans, Duration::ZERO);
        controller
    }

    /// Takes in an event, at this time, where the process leads with this permit, if at all.
    pub fn on(&mut self, event: Event, leads: Option<Permit>, now: Duration) -> Vec<Command> {
        self.check_permit(leads);
        let end = match event {
            Event::Polled(poll) => self.polled(poll, now),
            Event::Swept(sweep) => {
                self.swept(sweep, now);
                None
            }
            Event::Finished(work, outcome, permit) => self.finished(work, outcome, &permit, now),
            Event::PollFailed(times, error) => self.goal.poll_failed(times, &error),
            Event::Woken => None,
            Event::Stop => Some(self.goal.stopped(self.entries.keys())),
        };
        if let Some(failures) = end {
            return vec![Command::End(failures)];
        }
        for id in self.turns.next(|id| self.entries.contains_key(id), now) {
            self.entries.entry(id).and_modify(|entry| entry.start_anew(now));
        }
        let mut commands = self.start_due(now);
        if let Some(failures) = self.at_rest() {
            commands.push(Command::End(failures));
        }
        commands
    }

    /// When something is to be begun next, if nothing happens before.
    pub fn due(&self) -> Option<Duration> {
        let may_start = self.permit.is_some() && self.working < self.pace.workers;
        self.entries.values().filter(|_| may_start).filter_map(Entry::due).min()
    }

    /// How many passes are under way.
    pub fn working(&self) -> usize {
        self.working
    }

    /// A process that begins to lead begins with nothing: another may have led before. Tunnels that a worker has are kept
    /// until it gives them back, so that nobody else works on them.
    fn check_permit(&mut self, leads: Option<Permit>) {
        if self.permit.as_ref().is_some_and(Permit::holds) {
            return;
        }
        if self.permit.take().is_some() {
            self.entries.retain(|_, entry| entry.is_with_a_worker());
            self.telemetry.metrics.leading(false);
        }
        self.permit = leads;
        // Nothing is known yet of who asks for which App.
        self.polled &= self.permit.is_none();
        self.orphans = Orphans::default();
        self.turns = Turns::new(self.pace.moves);
        self.telemetry.metrics.orphans(Vec::new());
        self.telemetry.metrics.leading(self.permit.is_some());
    }

    /// Returns what is not as it should be, where the process is to end for it.
    fn polled(&mut self, poll: Poll, now: Duration) -> Option<Vec<String>> {
        // A list from before this term may be older than what another leader did.
        if !poll.permit.as_ref().is_some_and(Permit::holds) {
            return None;
        }
        self.polled = true;
        let (mut listed, mut end) = (BTreeSet::new(), None);
        for service in poll.listed.services {
            let Some(tunnel) = self.world.tunnel(&service) else { continue };
            let id = tunnel.id.clone();
            if tunnel.legacy().is_none() {
                end = end.or(self.goal.listed(&id, poll.began));
            }
            listed.insert(id.clone());
            match self.entries.get_mut(&id) {
                Some(entry) => entry.listed(tunnel, service, poll.began, now),
                None if self.gone.get(&id).is_some_and(|gone| *gone > poll.began) => {}
                None => {
                    let entry = Entry::new(tunnel, Some(service), now);
                    if let Some(work) = entry.work() {
                        self.telemetry.metrics.tunnel(&id, TunnelState::of(&work.tunnel, &work.seen));
                    }
                    self.entries.insert(id, entry);
                }
            }
        }
        // Its tunnel stays as it is, until somebody mends it.
        self.unreadable = poll.listed.unreadable.iter().map(TunnelId::of).collect();
        listed.extend(self.unreadable.iter().cloned());
        self.gone.retain(|_, gone| *gone > poll.began);
        let strays: Vec<TunnelId> = poll.strays.iter().map(TunnelId::of).collect();
        listed.extend(strays.iter().cloned());
        self.take_down(strays, now);
        let vanished = self.entries.iter_mut().filter(|(id, _)| !listed.contains(id));
        vanished.for_each(|(_, entry)| entry.vanished(now));
        end
    }

    /// Takes down tunnels without a Service that wants one.
    fn take_down(&mut self, ids: Vec<TunnelId>, now: Duration) {
        for id in ids {
            let removed = desired::without_members(id.clone(), &self.world.owner);
            self.entries.entry(id).or_insert_with(|| Entry::new(removed, None, now));
        }
    }

    /// Picks the tunnels that a sweep shows otherwise than as they were left. What a list lacks may be there all the same, and a list
    /// that failed says nothing.
    fn swept(&mut self, sweep: Sweep, now: Duration) {
        if !sweep.permit.as_ref().is_some_and(Permit::holds) {
            return;
        }
        self.sweeps_failed = if sweep.fly.is_err() || sweep.objects.is_err() { self.sweeps_failed + 1 } else { 0 };
        for entry in self.entries.values_mut() {
            let Some((tunnel, summary)) = entry.settled_before(sweep.began) else { continue };
            let objects = sweep.objects.as_ref().ok().map(|all| all.get(&tunnel.app));
            let objects_differ = objects.is_some_and(|objects| {
                objects.is_none_or(|objects| !objects.all_available || objects.digest != summary.objects)
            });
            let app = sweep.fly.as_ref().ok().map(|all| (all.complete, all.apps.get(&tunnel.app)));
            let (app_differs, machines) = match app {
                None | Some((false, None)) => (false, None),
                Some((true, None)) => (true, None),
                // A list that is not whole may lack some of its Machines.
                Some((false, Some(app))) => (app.network != tunnel.network, None),
                Some((true, Some(app))) => {
                    let new = entry.is_new(app.machines).then_some(app.machines);
                    (app.network != tunnel.network || !app.all_run || new.is_some(), new)
                }
            };
            if objects_differ || app_differs {
                let tunnel = &tunnel.id;
                log::debug!(tunnel:%, objects_differ, app_differs; "a sweep shows it otherwise than it was left");
                entry.suspect(machines, now);
            } else if self.sweeps_failed >= SWEEPS_TO_FAIL {
                entry.watch_alone(now + jittered(self.pace.resync_interval / 2, &*self.world.random));
            }
        }
        self.look_for_orphans(&sweep, now);
    }

    /// Tells of Apps of this owner that no Service asks for, and takes them down where the user said so.
    fn look_for_orphans(&mut self, sweep: &Sweep, now: Duration) {
        // A Service whose name cannot be read may ask for any of them.
        let nameless = self.unreadable.iter().any(|id| id.name.is_empty());
        let Some(permit) = self.permit.as_ref().filter(|_| self.polled && !nameless) else { return };
        let (owner, pace) = (&self.world.owner, &self.pace);
        let claimed: BTreeSet<String> = self.entries.keys().chain(&self.unreadable).map(|id| owner.app(id)).collect();
        let news = self.orphans.swept(sweep, owner, |app| claimed.contains(app), now);
        for orphan in &news.found {
            report::orphan(&self.world, orphan, pace.delete_orphans, permit);
        }
        self.telemetry.metrics.orphans(self.orphans.told().map(|(app, cost)| (app.to_owned(), cost)).collect());
        if pace.delete_orphans {
            let tunnels = news.due.into_iter().filter_map(|Orphan { tunnel, .. }| tunnel).collect();
            self.take_down(tunnels, now);
        }
    }

    /// Hands what is due to workers, the longest due first.
    fn start_due(&mut self, now: Duration) -> Vec<Command> {
        let Some(permit) = &self.permit else { return Vec::new() };
        let due =
            self.entries.iter().filter_map(|(id, entry)| Some((entry.due().filter(|due| *due <= now)?, id.clone())));
        let mut due: Vec<(Duration, TunnelId)> = due.collect();
        due.sort();
        let mut commands = Vec::new();
        for (_, id) in due.into_iter().take(self.pace.workers.saturating_sub(self.working)) {
            if let Some(mut work) = self.entries.get_mut(&id).and_then(|entry| entry.start(now)) {
                work.memory.waits_its_turn = !self.turns.take(&id, now);
                self.goal.begun(&id);
                self.working += 1;
                commands.push(Command::Start(work, permit.clone()));
            }
        }
        commands
    }

    /// The failures to tell at the end, where the process ends by itself.
    fn at_rest(&self) -> Option<Vec<String>> {
        if !self.polled {
            return None;
        }
        if self.permit.is_none() {
            return self.goal.lost_the_lease();
        }
        if self.working > 0 { None } else { self.goal.verdict(self.entries.keys()) }
    }
}
