//! The judgement of the operator: what to do next about one tunnel, and what its Service shows meanwhile.
//!
//! A plan is made of steps in a fixed order. Each either finds its part as it should be and goes on, or halts the plan
//! with what to do about it. So the first thing that is missing is what happens next, at creation, change, repair and
//! after a crash alike. A look or a step that failed is an input like any other: the plan decides what the Service shows
//! of it.

mod drain;
mod foreign;
mod lanes;
mod refuse;
mod remove;
mod serve;
mod show;
pub mod step;
#[cfg(test)]
pub(crate) mod tests;
mod waits;
mod why;

use std::time::Duration;

use super::condition::Shown;
use super::memory::Memory;
use super::now::Now;
use super::observed::{Absence, App, Machine, Observed};
use super::settings::Settings;
use super::situation::{Situation, Slot, SlotState};
use super::{Tunnel, Wanted};
use crate::service::Service;
pub use show::condition;
use step::{Look, ServiceStep, Step, Wait, Waiting};
pub use why::Why;

/// The next thing to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub next: Next,
    /// The difference that the plan acts on, where the steps do not say it themselves.
    pub why: Option<Why>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Look first: nothing can be decided without it.
    Look(Look),
    /// Carry these out, in order, then plan again.
    Act(Vec<Step>),
    /// Nothing to do until something happens elsewhere.
    Wait(Wait),
    /// Something failed, and all is told of it: try again after a while.
    TryAgain,
    /// Nothing to do, and nothing to wait for.
    Settled,
    /// A drain leaves it to another owner, who may serve it, and tells why. The Service is that owner's to write to.
    LeftAlone(String),
    /// Somebody makes again what a drain takes down.
    MadeAgain,
    /// The tunnel and all that it was made of are gone.
    Gone,
}

/// How long an absence must have been seen before it is believed, where acting on it would cost or break something:
/// Fly's lists come from a replicated store, and lag.
const BELIEVED: Duration = Duration::from_secs(5);

/// How long Fly may say "not found" of an App that was just made (fly-go's `WaitForApp` retries for a minute).
const READS_LAG: Duration = Duration::from_secs(60);

/// Where nobody was reached through a lane for so long, something is wrong: it is given up where another serves, else people are told.
/// Pulling frpc's image to a small node may take some minutes.
const UNREACHED_PATIENCE: Duration = Duration::from_secs(180);

/// A process that is to end waits so long for a frpc that the cluster does not run.
const IN_VAIN: Duration = Duration::from_secs(45);

/// Why a step did not let the plan go on.
struct Halt(Next, Option<Why>);

type Go<T> = Result<T, Halt>;

/// A plan before it was decided whether what the Service shows is written first.
struct Draft {
    next: Next,
    why: Option<Why>,
    /// The Service is to show this. `None`: leave it as it is.
    shown: Option<Shown>,
}

/// All that a plan is made from.
struct Context<'a> {
    tunnel: &'a Tunnel,
    settings: &'a Settings,
    seen: &'a Observed,
    memory: &'a Memory,
    situation: Situation<'a>,
    now: Now,
}

/// Decides what to do next. Never waits, never remembers, never asks.
pub fn plan(tunnel: &Tunnel, settings: &Settings, seen: &Observed, memory: &Memory, now: Now) -> Plan {
    let situation = Situation::of(tunnel, settings, seen, memory, now);
    let context = Context { tunnel, settings, seen, memory, situation, now };
    if let Some(told) = context.tell_of_a_failed_write() {
        return told;
    }
    let draft = match (&memory.trouble, tunnel.wanted()) {
        (Some(trouble), _) if trouble.fresh => context.after_failure(trouble),
        (_, Wanted::Served(wish)) => serve::plan(&context, wish),
        (_, Wanted::Refused { message, close }) => refuse::plan(&context, message, *close),
        (_, Wanted::Removed) => remove::plan(&context),
        (_, Wanted::Drained) => drain::plan(&context),
    };
    let plan = context.show_first(draft);
    #[cfg(test)]
    super::invariants::check(&plan, tunnel, settings, seen);
    match plan.next {
        Next::Wait(wait) if context.waits_in_vain() => {
            Plan { next: Next::Wait(Wait { in_vain: true, ..wait }), ..plan }
        }
        _ => plan,
    }
}

impl Context<'_> {
    fn service(&self) -> Option<&Service> {
        self.seen.service()
    }

    /// Whether a wanted lane was tried again and again, or the cluster does not run its frpc.
    fn waits_in_vain(&self) -> bool {
        let Context { memory, now, .. } = self;
        self.situation.slots.iter().any(|slot| {
            let unreached = slot.machine.and_then(|lane| memory.sightings.unreached.elapsed(&lane.machine.id, *now));
            let frpc = slot.machine.and_then(|lane| self.seen.deployment(&lane.machine.id));
            let not_run = frpc.is_some_and(|deployment| deployment.trouble.is_some());
            not_run && unreached.is_some_and(|long| long >= IN_VAIN)
                || memory.deeds.is_given_up(slot.id, &slot.generation)
        })
    }

    /// The Machine of a wanted lane, where it runs and nobody has long been reached through it.
    fn long_unreached<'s>(&self, slot: &Slot<'s>) -> Option<&'s Machine> {
        let machine = slot.machine.filter(|_| slot.state == SlotState::Unreached)?.machine;
        let long = self.memory.sightings.unreached.elapsed(&machine.id, self.now)?;
        (long >= UNREACHED_PATIENCE).then_some(machine)
    }

    fn has_finalizer(&self) -> bool {
        self.service().is_some_and(|service| service.has_finalizer(&self.settings.finalizer))
    }

    /// The App, once it was looked at.
    fn app(&self) -> Go<&App> {
        self.seen.app.as_ref().ok_or(look(Look::Everything))
    }

    /// The last look before the absence of the App is believed.
    fn confirmed_absence(&self) -> Go<&Absence> {
        self.seen.absence.as_ref().ok_or(look(Look::AppList))
    }
}

impl Draft {
    fn new(next: Next, shown: Option<Shown>) -> Draft {
        Draft { next, why: None, shown }
    }
}

/// Halts with these steps, if there are any.
fn all(steps: impl Iterator<Item = Step>) -> Go<()> {
    let steps: Vec<Step> = steps.collect();
    if steps.is_empty() { Ok(()) } else { Err(Halt(Next::Act(steps), None)) }
}

fn act(step: Step) -> Halt {
    Halt(Next::Act(vec![step]), None)
}

fn look(look: Look) -> Halt {
    Halt(Next::Look(look), None)
}

fn wait(what: Waiting, look: Look) -> Halt {
    Halt(Next::Wait(Wait { what, look, after: None, in_vain: false }), None)
}

fn wait_for(what: Waiting, look: Look, after: Duration) -> Halt {
    Halt(Next::Wait(Wait { what, look, after: Some(after), in_vain: false }), None)
}

fn settled() -> Halt {
    Halt(Next::Settled, None)
}

/// The step for this Service.
fn for_service(service: &Service, step: ServiceStep) -> Step {
    Step::For(service.id(), step)
}
