//! A process remembers four things of a tunnel:
//!
//! - [`Sightings`]: since when something is as it is. They only make a tunnel wait longer, or spare a request.
//! - [`Deeds`]: what this process did itself. They may spare a wait.
//! - [`Told`]: what people were told.
//! - [`Trouble`]: what failed last, and how often.
//!
//! Nothing here is needed to be right after a restart.

use std::time::Duration;

use super::deeds::Deeds;
use super::failure::{Attempt, Cause, Failure, Trouble};
use super::few::{Few, Since};
use super::lane::SlotId;
use super::machines::{self, LaneMachine};
use super::names;
use super::now::Now;
use super::observed::{App, Family, Machine, Observed, State};
use super::plan::step::{Look, Step};
use crate::service::request::Warning;

/// One tunnel's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub sightings: Sightings,
    pub deeds: Deeds,
    pub told: Told,
    /// `None` where the last pass worked out.
    pub trouble: Option<Trouble>,
    /// `None` where the last write of what the Service shows worked out.
    pub unwritten: Option<Box<Unwritten>>,
    /// Enough other tunnels replace lanes that serve: this one does not begin to.
    pub waits_its_turn: bool,
}

/// A write of what the Service shows that failed: a policy refuses it, say. It holds up nothing else, and is tried again later each
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// The words of the API server.
    pub text: String,
    /// Failures in a row.
    pub times: u32,
    /// When it is tried again.
    pub again: Duration,
    /// The reply may be lost, and the Service may show it: nothing is written before the Service was read again.
    pub unread: bool,
}

/// Since when something is as it is, by the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// Machines that serve and are not cordoned.
    pub in_service: Since,
    pub cordoned: Since,
    pub host_lost: Since,
    /// Machines that are on their way to a state that they do not reach.
    pub pending: Since,
    /// Machines that run, and through which no traffic passes.
    pub unreached: Since,
    /// Machines that an object of ours belongs to and that Fly does not list.
    pub missing_machines: Since,
    /// Since when Fly lists no address for the tunnel, or no App of ours.
    pub no_address: Option<Duration>,
    /// Since when lists of the App's addresses have had none, beginning anew where one was asked for: what came of it may be listed late.
    pub no_address_since_asked: Option<Duration>,
    /// When all was last looked at. What is missing since then is missing in one list alone, however long ago that was.
    listed: Option<Duration>,
    /// A Machine of ours was seen.
    pub saw_a_lane: bool,
    /// Since when Fly has listed no Machine of ours.
    pub no_lane: Option<Duration>,
    /// The last attempt at a Machine of a generation and slot that is there, as far as anybody knows. A list may lack it.
    attempts: Few<u32>,
    /// Since when the App was seen absent.
    pub absent: Option<Duration>,
    /// Whether a lane served when Fly was last asked; `None` where it could not be.
    pub users_served: Option<bool>,
}

/// Events that were written. The condition alone does not tell: a failure overwrites it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// People know that the tunnel is being taken down.
    pub deleting: bool,
    pub warnings: Vec<Warning>,
}

/// A Service that could not be read before it is written again is read again after that time.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Sightings {
    /// The time of the last look at everything: for as long as until then lists have shown what they show.
    pub fn as_listed(&self, now: Now) -> Now {
        Now { monotonic: self.listed.unwrap_or(now.monotonic), ..now }
    }

    /// Takes note of a Machine of that name: it is there, or was asked for.
    pub fn attempted(&mut self, generation: &str, slot: SlotId, name: &str) {
        let attempt = names::attempt(name, generation, slot);
        if attempt > self.last_attempt(generation, slot) {
            self.attempts.set(&recipe_and_slot(generation, slot), attempt.unwrap_or(1));
        }
    }

    /// Takes note that the Machine of that name is gone.
    fn destroyed(&mut self, generation: &str, slot: SlotId, name: &str) {
        let attempt = names::attempt(name, generation, slot);
        if attempt.is_some() && attempt == self.last_attempt(generation, slot) {
            self.attempts.remove(&recipe_and_slot(generation, slot));
        }
    }

    /// The last attempt at a Machine of this generation and slot that is there, as far as anybody knows, or was asked for.
    pub fn last_attempt(&self, generation: &str, slot: SlotId) -> Option<u32> {
        self.attempts.get(&recipe_and_slot(generation, slot)).copied()
    }
}

/// Names attempts that differ in nothing but their number.
fn recipe_and_slot(generation: &str, slot: SlotId) -> String {
    format!("{generation}-{slot}")
}

impl Memory {
    /// A pass begins: what failed before may be tried again.
    pub fn begin_pass(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.fresh = false;
        }
    }

    /// The Service was read again.
    pub fn service_read(&mut self) {
        if let Some(unwritten) = &mut self.unwritten {
            unwritten.unread = false;
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.unread = false;
        }
    }

    /// How long nothing is written that the Service is to show; `None` where it may be written now.
    pub fn write_waits(&self, now: Now) -> Option<Duration> {
        let Unwritten { again, unread, .. } = &**self.unwritten.as_ref()?;
        let left = again.saturating_sub(now.monotonic);
        let left = if *unread { left.max(READ_AGAIN) } else { left };
        Some(left).filter(|left| !left.is_zero())
    }

    /// Whether the Service is to be read now, so that it may be written again.
    pub fn is_to_be_read(&self, now: Now) -> bool {
        self.unwritten.as_ref().is_some_and(|unwritten| unwritten.unread && unwritten.again <= now.monotonic)
    }

    /// Takes note that what the Service is to show could not be written. `delay` says when to try again after so many
    /// failures. Returns whether people do not know of it yet.
    pub fn set_aside(&mut self, text: String, now: Now, delay: impl FnOnce(u32) -> Duration) -> bool {
        let before = self.unwritten.take();
        let times = before.as_ref().map_or(0, |before| before.times) + 1;
        let news = before.is_none_or(|before| before.text != text);
        self.unwritten = Some(Box::new(Unwritten { text, times, again: now.monotonic + delay(times), unread: true }));
        news
    }

    /// Takes note that something worked out.
    pub fn succeeded(&mut self, attempt: Attempt) {
        if attempt == Attempt::Show {
            self.unwritten = None;
        }
        if let (Some(trouble), Attempt::Show) = (&mut self.trouble, attempt) {
            trouble.untold = false;
        }
        if let Some(trouble) = self.trouble.as_mut().filter(|trouble| trouble.attempt == attempt) {
            trouble.solved = true;
        }
    }

    /// A pass ends without a failure. Only a step that failed and was not carried out since is remembered, unless there is
    /// nothing left to do.
    pub fn end_pass(&mut self, at_rest: bool) {
        self.trouble = self.trouble.take().filter(|trouble| trouble.is_unsolved() && !at_rest);
    }

    /// Takes note that a step did not work out.
    pub fn step_failed(&mut self, step: &Step, failure: &Failure) {
        if let Step::CreateMachine(lane) = step
            && failure.cause != Cause::Early
        {
            self.deeds.refused(lane.slot, &lane.generation);
        }
        // Whatever else fails would fail with another Machine, too.
        if let Step::StartMachine(id) = step
            && matches!(failure.cause, Cause::Capacity | Cause::Refused)
        {
            self.deeds.start_refused(id);
        }
    }

    /// Takes note of a failure. Returns whether it is another one than the last.
    pub fn failed(&mut self, attempt: Attempt, failure: Failure) -> bool {
        if attempt == Attempt::Look && failure.cause != Cause::Cluster {
            self.sightings.users_served = None;
        }
        match &mut self.trouble {
            // To tell the Service of a failure failed. That one is what to do something about.
            Some(trouble) if trouble.fresh => {
                trouble.untold = true;
                false
            }
            before => {
                let times = before.as_ref().filter(|before| !before.is_over()).map_or(0, |before| before.times) + 1;
                let new = before.as_ref().is_none_or(|before| before.failure.text != failure.text);
                let unread =
                    attempt.may_have_changed_the_service() || before.as_ref().is_some_and(|before| before.unread);
                *before = Some(Trouble { attempt, failure, times, fresh: true, untold: unread, unread, solved: false });
                new
            }
        }
    }

    /// Takes note that something was looked at. An App is empty when its deletion is asked for.
    pub fn looked(&mut self, look: &Look, seen: &Observed, now: Now) {
        if *look == Look::Everything {
            self.sightings.listed = Some(now.monotonic);
        }
        // The thing that was only early is there now: a failure that follows is the first of a row.
        let was_early = |trouble: &Trouble| {
            let early = trouble.attempt == Attempt::Look && trouble.failure.cause == Cause::Early;
            early && !trouble.unread && !trouble.lasts_too_long_for_early()
        };
        self.trouble = self.trouble.take().filter(|trouble| !was_early(trouble));
        let deleted = seen.our_app().filter(|_| self.deeds.app_deleted.is_some());
        if deleted.is_some_and(|app| !app.addresses.is_empty() || app.machines.iter().any(Machine::exists)) {
            self.deeds.refills += 1;
        }
    }

    /// Fly was asked for the App, and may have made it: it has to be missing for a while from now on before it is believed to be gone.
    pub fn asked_for_the_app(&mut self) {
        (self.deeds.app_asked, self.deeds.app_deleted, self.sightings.absent) = (true, None, None);
    }

    /// Fly was asked for an address, and may have given one: lists have to be without it for a while from now on.
    pub fn asked_for_an_address(&mut self) {
        (self.deeds.address_asked, self.sightings.no_address_since_asked) = (true, None);
    }

    /// The organisation's list has the App, so it is there after all; Fly's other reads will come to know.
    pub fn app_is_listed(&mut self) {
        let Sightings { absent, no_address, no_address_since_asked, .. } = &mut self.sightings;
        (*absent, *no_address, *no_address_since_asked) = (None, None, None);
    }

    /// Takes note of whether users are served, as far as Fly told. The cluster may have told nothing.
    pub fn note_users(&mut self, seen: &Observed) {
        if seen.app.is_some() {
            self.sightings.users_served = machines::machines(seen).users_served(seen);
        }
    }

    /// Takes note of a look.
    pub fn note(&mut self, seen: &Observed, now: Now) {
        let Some(app) = &seen.app else { return };
        let (absent, ours) = (matches!(app, App::Absent), seen.our_app());
        let Memory { sightings, deeds, .. } = self;
        sightings.absent = absent.then(|| sightings.absent.unwrap_or(now.monotonic));
        let no_address = ours.is_none_or(|app| !app.addresses.iter().any(|a| a.serves(Family::V4)));
        let since = |is_so: bool, before: Option<Duration>| is_so.then(|| before.unwrap_or(now.monotonic));
        sightings.no_address = since(no_address, sightings.no_address);
        // That Fly does not find the App says nothing of its addresses.
        sightings.no_address_since_asked = since(no_address && ours.is_some(), sightings.no_address_since_asked);

        let machines = machines::machines(seen);
        let all = || machines.ours.iter().map(|lane| lane.machine).chain(machines.strangers.iter().copied());
        for machine in ours.iter().flat_map(|app| &app.machines).filter(|machine| !machine.exists()) {
            if let Some(ours) = &machine.ours {
                sightings.destroyed(&ours.generation, ours.slot, &machine.name);
            }
        }
        for LaneMachine { machine, ours, .. } in &machines.ours {
            sightings.saw_a_lane = true;
            sightings.attempted(&ours.generation, ours.slot, &machine.name);
        }
        sightings.no_lane = since(machines.ours.is_empty(), sightings.no_lane);
        let in_service = machines.ours.iter().filter(|lane| lane.takes_users());
        sightings.users_served = machines.users_served(seen);
        sightings.in_service.note(in_service.map(|lane| &lane.machine.id), now);
        sightings.cordoned.note(all().filter(|m| m.cordoned).map(|m| &m.id), now);
        sightings.pending.note(all().filter(|m| m.state == State::Pending).map(|m| &m.id), now);
        let unreached = machines.ours.iter().filter(|lane| lane.is_unreached()).map(|lane| &lane.machine.id);
        sightings.unreached.note(unreached, now);
        sightings.host_lost.note(all().filter(|m| !m.host_ok).map(|m| &m.id), now);
        if let Some(objects) = &seen.objects {
            let config_maps = objects.config_maps.iter().map(|map| &map.object);
            let of_lanes = config_maps.chain(objects.deployments.iter().map(|d| &d.object));
            let missing = of_lanes.filter(|object| !all().any(|machine| machine.id == object.machine));
            sightings.missing_machines.note(missing.map(|object| &object.machine), now);
        }
        deeds.served(machines.ours.iter().filter(|lane| lane.serves).map(|lane| lane.ours));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Fly's reads lag after each creation. That is no reason to wait long, or to say a word, when something else fails once.
    #[test]
    fn a_look_that_was_only_early_and_works_now_ends_the_row_of_failures() {
        for (cause, early, expected) in [(Cause::Early, 2, 1), (Cause::Early, 6, 7), (Cause::Unavailable, 2, 3)] {
            let mut memory = Memory::default();
            let fail = |memory: &mut Memory, attempt, cause| {
                memory.begin_pass();
                memory.failed(attempt, Failure::new(cause, "no"));
            };
            (0..early).for_each(|_| fail(&mut memory, Attempt::Look, cause));
            let now = Now { monotonic: Duration::ZERO, wall: SystemTime::UNIX_EPOCH };
            memory.looked(&Look::Everything, &Observed::default(), now);
            fail(&mut memory, Attempt::OtherStep, Cause::Cluster);
            assert_eq!(memory.trouble.map(|trouble| trouble.times), Some(expected), "{early} times {cause:?}");
        }
    }

    /// To "another step" many are counted, so that one that is carried out tells nothing of one that failed.
    #[test]
    fn a_step_that_is_carried_out_ends_the_row_of_its_failures() {
        for (attempt, expected) in [(Attempt::AllocateAddress, 1), (Attempt::OtherStep, 4)] {
            let mut memory = Memory::default();
            for _ in 0..3 {
                memory.begin_pass();
                memory.failed(attempt, Failure::new(Cause::Refused, "no"));
            }
            memory.begin_pass();
            memory.succeeded(attempt);
            memory.failed(Attempt::Look, Failure::new(Cause::Early, "not yet"));
            assert_eq!(memory.trouble.map(|trouble| trouble.times), Some(expected), "{attempt:?}");
        }
    }
}
