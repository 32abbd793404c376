//! The things that this process did itself. They may spare a wait, or a second attempt without a pause.

use std::time::Duration;

use super::condition::Shown;
use super::few::Few;
use super::lane::SlotId;
use super::now::Now;
use super::observed::Ours;
use crate::service::{Service, Status};

/// Pause before a second Machine is made where the first did not come to serve; then twice as long each time, up to
/// five minutes. Each is billed, and Fly has its limits.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// An edit so long after the last is not of the same row.
const A_ROW: Duration = Duration::from_secs(3600);

/// So many failures in a row are more than a bad moment of Fly's.
const A_FEW: u32 = 3;

/// So many Machines in a row that do not come to serve are no accident.
const MANY: u32 = 4;

/// Pause after a Machine that ran was given up since nobody was reached through it; then twice as long each time, up to an hour.
/// Each such attempt is billed for some minutes.
const FIRST_PAUSE_UNREACHED: Duration = Duration::from_secs(600);
const LONGEST_PAUSE_UNREACHED: Duration = Duration::from_secs(3600);

/// The things that this process did itself.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// It made the App, so nothing can be in it that it did not ask for.
    pub app_created: bool,
    /// It asked for the App, whatever came of it.
    pub app_asked: bool,
    /// It asked for an address, whatever came of it.
    pub address_asked: bool,
    /// When it may ask for the App's deletion, once it wanted to.
    pub time_of_deletion: Option<Duration>,
    /// When it saw the App's DELETE accepted.
    pub app_deleted: Option<Duration>,
    /// How often the App had something in it again after its deletion was accepted.
    pub refills: u32,
    /// `metadata.generation` of the Deployments as it last applied them: a Deployment with another one was edited.
    pub applied: Few<i64>,
    /// How the last Machine that it made differed from what was asked for at once. Fly writes it so, and nobody edited it.
    pub spelling: Vec<String>,
    /// How often in a row Fly did not start a Machine, by its ID.
    starts_refused: Few<u32>,
    /// It had the Service show this, and the cluster's own admission made something else of it.
    rewritten: Option<Box<(Shown, Status)>>,
    /// The Machines that it made for each slot since one of that slot and generation served.
    creations: Vec<Creations>,
    /// The Machines that it made for each slot because one of that slot and generation was edited.
    repairs: Vec<Repairs>,
}

/// Machines that took the place of edited ones. Each served, and was edited in turn.
#[derive(Clone, Debug)]
struct Repairs {
    slot: SlotId,
    generation: String,
    count: u32,
    last: Duration,
}

#[derive(Clone, Debug)]
struct Creations {
    slot: SlotId,
    generation: String,
    count: u32,
    last: Duration,
    /// How often Fly did not make one since the last was made.
    refused: u32,
    /// How often such a Machine ran, nobody was reached through it, and it was given up.
    given_up: u32,
    /// Why the cluster did not run its frpc, as far as that is known.
    why: Option<String>,
}

impl Deeds {
    /// Takes note of a Machine that was made or started. Another generation of the slot begins to count anew.
    pub fn tried(&mut self, slot: SlotId, generation: &str, now: Now) {
        let made = self.entry(slot, generation);
        (made.count, made.last, made.refused) = (made.count + 1, now.monotonic, 0);
    }

    /// Takes note of a Machine that is to take the place of an edited one, which serves. Edits that come now and then are no row.
    pub fn repaired(&mut self, slot: SlotId, generation: &str, now: Now) {
        let before = self.repairs.iter().find(|known| known.slot == slot && known.generation == generation);
        let count = before.filter(|known| now.since(known.last) < A_ROW).map_or(0, |known| known.count);
        self.repairs.retain(|known| known.slot != slot);
        let (generation, last) = (generation.to_owned(), now.monotonic);
        self.repairs.push(Repairs { slot, generation, count: count + 1, last });
    }

    /// Takes note that Fly did not make a Machine.
    pub fn refused(&mut self, slot: SlotId, generation: &str) {
        self.entry(slot, generation).refused += 1;
    }

    /// Takes note that Fly did not start a Machine that is stopped.
    pub fn start_refused(&mut self, machine: &str) {
        let times = self.starts_refused.get(machine).unwrap_or(&0) + 1;
        self.starts_refused.set(machine, times);
    }

    /// Takes note that a Machine was started, or is gone.
    pub fn start_settled(&mut self, machine: &str) {
        self.starts_refused.remove(machine);
    }

    /// Whether Fly does not start this Machine: its host has no room for it any more, say.
    pub fn cannot_be_started(&self, machine: &str) -> bool {
        self.starts_refused.get(machine).is_some_and(|times| *times >= A_FEW)
    }

    /// Takes note that a Machine was given up through which nobody was reached.
    pub fn gave_up(&mut self, slot: SlotId, generation: &str, why: Option<&str>, now: Now) {
        let made = self.entry(slot, generation);
        (made.given_up, made.last, made.why) = (made.given_up + 1, now.monotonic, why.map(str::to_owned));
    }

    /// Takes note that the Service was to show this, and how it is since then.
    pub fn shown(&mut self, shown: &Shown, service: &Service) {
        let rewritten = !shown.is_shown_by(service);
        self.rewritten = rewritten.then(|| Box::new((shown.clone(), ours(service))));
    }

    /// Whether the Service shows what the cluster itself makes of this. Whoever wrote it again would write for ever.
    pub fn is_rewritten(&self, shown: &Shown, service: &Service) -> bool {
        self.rewritten.as_ref().is_some_and(|known| known.0 == *shown && known.1 == ours(service))
    }

    /// Takes note that a Machine of ours serves: those that were made for its slot and generation before count no longer.
    pub fn served<'a>(&mut self, ours: impl Iterator<Item = &'a Ours> + Clone) {
        let serves =
            |made: &Creations| ours.clone().any(|ours| ours.slot == made.slot && ours.generation == made.generation);
        self.creations.retain(|made| !serves(made));
        self.creations.shrink_to_fit();
    }

    fn entry(&mut self, slot: SlotId, generation: &str) -> &mut Creations {
        let is_of_this_slot = |known: &Creations| known.slot == slot;
        self.creations.retain(|known| !is_of_this_slot(known) || known.generation == generation);
        let index = self.creations.iter().position(is_of_this_slot).unwrap_or_else(|| {
            let (generation, last) = (generation.to_owned(), Duration::ZERO);
            self.creations.push(Creations { slot, generation, count: 0, last, refused: 0, given_up: 0, why: None });
            self.creations.len() - 1
        });
        &mut self.creations[index]
    }

    /// How long to wait before another Machine is made for this slot by this recipe.
    pub fn pause(&self, slot: SlotId, generation: &str, now: Now) -> Duration {
        let doubled = |first: Duration, times: u32| first * 2u32.pow(times.saturating_sub(1).min(10));
        let after_creation = self.creations(slot, generation).map(|made| {
            let pause = match made.given_up {
                0 if made.count == 0 => Duration::ZERO,
                0 => LONGEST_PAUSE.min(doubled(FIRST_PAUSE, made.count)),
                times => LONGEST_PAUSE_UNREACHED.min(doubled(FIRST_PAUSE_UNREACHED, times)),
            };
            pause.saturating_sub(now.since(made.last))
        });
        let repairs = self.repairs.iter().find(|known| known.slot == slot && known.generation == generation);
        let after_repair = repairs
            .map(|known| LONGEST_PAUSE.min(doubled(FIRST_PAUSE, known.count)).saturating_sub(now.since(known.last)));
        after_creation.max(after_repair).unwrap_or_default()
    }

    /// Whether so many Machines were made for this slot by this recipe, and none came to serve, that a process that is to end
    /// does not wait for another.
    pub fn is_given_up(&self, slot: SlotId, generation: &str) -> bool {
        self.creations(slot, generation).is_some_and(|made| made.count >= MANY || made.given_up > 0)
    }

    /// Whether Machines were made again and again for this slot by this recipe, and none came to serve.
    pub fn fails_to_start(&self, slot: SlotId, generation: &str) -> bool {
        self.creations(slot, generation).is_some_and(|made| made.count > 1 || made.given_up > 0)
    }

    /// Whether a lane of this slot and recipe could not be made, or did not come to serve, and none has served since.
    pub fn fails(&self, slot: SlotId, generation: &str) -> bool {
        self.refusals(slot, generation) > 0 || self.fails_to_start(slot, generation)
    }

    /// Whether such a lane failed so often that nobody waits for it.
    pub fn is_stuck(&self, slot: SlotId, generation: &str) -> bool {
        self.refusals(slot, generation) >= A_FEW || self.fails_to_start(slot, generation)
    }

    /// How often in a row Fly did not make a Machine for this slot and recipe.
    pub fn refusals(&self, slot: SlotId, generation: &str) -> u32 {
        self.creations(slot, generation).map_or(0, |made| made.refused)
    }

    /// Whether one Machine was made for this slot by this recipe since the last that served.
    pub fn is_first_try(&self, slot: SlotId, generation: &str) -> bool {
        self.creations(slot, generation).is_some_and(|made| made.count == 1)
    }

    /// Why the cluster did not run the frpc of the Machine that was given up last for this slot and recipe.
    pub fn why_given_up(&self, slot: SlotId, generation: &str) -> Option<&str> {
        self.creations(slot, generation)?.why.as_deref()
    }

    fn creations(&self, slot: SlotId, generation: &str) -> Option<&Creations> {
        self.creations.iter().find(|known| known.slot == slot && known.generation == generation)
    }
}

/// The part of the status that we write.
fn ours(service: &Service) -> Status {
    let Status { load_balancer, .. } = service.status.clone();
    Status { load_balancer, conditions: service.condition().cloned().into_iter().collect() }
}
