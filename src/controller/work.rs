//! One pass over one tunnel: look, plan, act, until there is nothing to do but wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kube_client_lite::lease::Permit;

use crate::act::Hand;
use crate::backoff;
use crate::goal::Passed;
use crate::observe;
use crate::report;
use crate::service::{Service, ServiceId};
use crate::tunnel::condition::{Read, Reason};
use crate::tunnel::failure::{Attempt, Cause, Failure, Trouble};
use crate::tunnel::memory::Memory;
use crate::tunnel::now::Now;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::step::{Look, ServiceStep, Step, Wait, Waiting};
use crate::tunnel::plan::{self, Next, Plan, Why};
use crate::tunnel::settings::Settings;
use crate::tunnel::situation::Situation;
use crate::tunnel::summary::Summary;
use crate::tunnel::{Tunnel, TunnelId, desired};
use crate::world::World;

/// No tunnel takes more than some twenty steps from nothing to gone. A pass that takes more goes round in circles: it
/// gives its place to another tunnel.
const MOST_ROUNDS: usize = 100;

/// A tunnel, and what is known of it.
pub struct Work {
    pub tunnel: Tunnel,
    pub seen: Observed,
    pub memory: Memory,
    pub first: First,
}

/// The first thing that a pass does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Plan with what was seen.
    Plan,
    /// Look at this.
    Look(Look),
    /// Read the Service, which may have changed or gone, and look at everything anew.
    ReadService,
    /// Look whether Fly shows the Machines and addresses as they were found. If not, look at everything anew.
    Confirm(Summary),
}

/// How a pass ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Settled,
    /// Fly shows everything as it was found when the tunnel settled.
    Confirmed,
    /// It is another owner's, for this reason.
    LeftAlone(String),
    Gone,
    Wait(Wait),
    /// Something failed; after this time.
    TryAgain(Duration),
    /// Somebody makes again what was taken down.
    MadeAgain,
    /// The process is to end, or leads no more; nothing more was begun.
    Stopped,
}

impl Outcome {
    pub fn waits_its_turn(&self) -> bool {
        matches!(self, Outcome::Wait(Wait { what: Waiting::Turn, .. }))
    }
}

/// The time, for everything that the process does.
#[derive(Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// It starts now.
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }
}

/// Tells the time.
pub trait Time: Send + Sync {
    fn now(&self) -> Now;
}

impl Time for Clock {
    fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), wall: SystemTime::now() }
    }
}

/// Everything that a pass works with.
pub struct Pass<'a> {
    pub world: &'a World,
    pub time: &'a dyn Time,
    /// The process is to end: no further step is begun.
    pub stopping: &'a AtomicBool,
    pub permit: &'a Permit,
}

impl Pass<'_> {
    /// Whether another step may be begun.
    fn may_act(&self) -> bool {
        !self.stopping.load(Ordering::Acquire) && self.permit.holds()
    }
}

impl Work {
    pub fn new(tunnel: Tunnel, seen: Observed, first: First) -> Work {
        Work { tunnel, seen, memory: Memory::default(), first }
    }

    /// Works until there is nothing to do but wait.
    pub fn pass(&mut self, pass: &Pass) -> Outcome {
        self.memory.begin_pass();
        match self.begin(pass) {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            Err(failure) => self.failed(Attempt::Look, failure),
        }
        // An address was released that the Service still shows.
        let mut shows_a_released_address = false;
        for _ in 0..MOST_ROUNDS {
            self.memory.note(&self.seen, pass.time.now());
            let Plan { next, why } =
                plan::plan(&self.tunnel, &pass.world.settings, &self.seen, &self.memory, pass.time.now());
            let outcome = match next {
                Next::Look(look) => {
                    if let Err(failure) = self.look(&look, pass) {
                        self.failed(Attempt::Look, failure);
                    }
                    continue;
                }
                Next::Act(steps) => {
                    self.tell_why(why);
                    for step in steps {
                        // A released address may be given to a stranger at once, so it is taken out of the status even
                        // while the process is to end.
                        let urgent = shows_a_released_address && shows(&step) && pass.permit.holds();
                        if !pass.may_act() && !urgent {
                            return Outcome::Stopped;
                        }
                        match self.act(&step, pass) {
                            Err(failure) if shows(&step) && failure.cause != Cause::Outdated => {
                                self.set_aside(&failure, pass);
                                break;
                            }
                            Err(failure) => {
                                self.memory.step_failed(&step, &failure);
                                self.failed(Attempt::of(&step), failure);
                                break;
                            }
                            Ok(()) => {}
                        }
                        shows_a_released_address = matches!(step, Step::ReleaseAddress(_));
                    }
                    continue;
                }
                Next::TryAgain => return Outcome::TryAgain(self.pause(pass.world)),
                Next::Wait(wait) => Outcome::Wait(wait),
                Next::Settled => Outcome::Settled,
                Next::LeftAlone(why) => Outcome::LeftAlone(why),
                Next::MadeAgain => Outcome::MadeAgain,
                Next::Gone => Outcome::Gone,
            };
            self.memory.end_pass(!matches!(outcome, Outcome::Wait(_)));
            return outcome;
        }
        log::error!("{}: the pass goes round in circles; this is a bug worth a report", self.tunnel.id);
        self.failed(Attempt::OtherStep, Failure::new(Cause::Outdated, "the pass goes round in circles"));
        Outcome::TryAgain(self.pause(pass.world))
    }

    /// How the pass ended, as far as the goal of the process cares.
    pub fn passed(&self, outcome: &Outcome) -> Passed {
        match (outcome, &self.memory.trouble) {
            (Outcome::Settled, _) => {
                let of_the_go_operator = self.tunnel.legacy().is_some();
                Passed::Settled { failure: self.shown_failure(), of_the_go_operator }
            }
            (Outcome::LeftAlone(why), _) => Passed::LeftAlone(why.clone()),
            (Outcome::Wait(Wait { what: Waiting::Write, .. }), _) => {
                let Some(unwritten) = &self.memory.unwritten else { return Passed::Unfinished };
                Passed::Failed { times: unwritten.times, text: unwritten.text.clone() }
            }
            (Outcome::Wait(Wait { in_vain: true, .. }), _) => {
                let shown = self.seen.service().and_then(Read::of).map(|read| read.to_string());
                Passed::InVain(shown.unwrap_or_else(|| "it does not come to serve".to_owned()))
            }
            (Outcome::TryAgain(_), Some(trouble)) => {
                Passed::Failed { times: trouble.times, text: trouble.failure.to_string() }
            }
            _ => Passed::Unfinished,
        }
    }

    /// The failure that the Service shows, if any.
    fn shown_failure(&self) -> Option<String> {
        self.seen.service().and_then(Read::of).filter(|read| read.reason.is_failure()).map(|read| read.to_string())
    }

    /// Whether its Service says that it serves.
    pub fn serves(&self) -> bool {
        self.seen.service().and_then(Read::of).is_some_and(|read| read.reason == Reason::Serving)
    }

    /// Whether users are served by an frpc whose pod is not ready, though the cluster runs it.
    pub fn serves_unready(&self) -> bool {
        let mut deployments = self.seen.objects.iter().flat_map(|objects| &objects.deployments);
        self.serves() && deployments.any(|deployment| !deployment.available && deployment.trouble.is_none())
    }

    /// Whether a new lane is on its way beside one that serves, as far as was seen at this time.
    pub fn moves(&self, settings: &Settings, now: Duration) -> bool {
        let now = Now { monotonic: now, wall: SystemTime::UNIX_EPOCH };
        Situation::of(&self.tunnel, settings, &self.seen, &self.memory, now).moves()
    }

    /// The world may not be as it was seen: the next pass looks at everything.
    pub fn forget(&mut self) {
        self.first = First::ReadService;
        (self.seen.app, self.seen.objects, self.seen.frpc_connected) = (None, None, None);
    }

    /// Whether the next pass looks at the tunnel as a whole.
    pub fn will_look_at_everything(&self) -> bool {
        match &self.first {
            First::Plan => self.seen.app.is_none(),
            First::Look(look) => *look == Look::Everything,
            First::ReadService | First::Confirm(_) => true,
        }
    }

    /// Gives how the pass ends where there is nothing to plan.
    fn begin(&mut self, pass: &Pass) -> Result<Option<Outcome>, Failure> {
        if self.memory.is_to_be_read(pass.time.now()) {
            self.forget();
        }
        match self.first.clone() {
            First::Plan => return Ok(None),
            First::Look(look) => {
                self.look(&look, pass)?;
                self.first = First::Plan;
                return Ok(None);
            }
            First::ReadService => {}
            First::Confirm(found) => {
                self.forget();
                // Otherwise the look at everything tells what differs, or what fails.
                if observe::is_as_found(pass.world, &self.tunnel, &found).is_ok_and(|same| same) {
                    return Ok(Some(Outcome::Confirmed));
                }
            }
        }
        self.read_service(pass.world)?;
        self.first = First::Plan;
        Ok(None)
    }

    fn service(&self, world: &World) -> Result<Option<Service>, Failure> {
        let TunnelId { namespace, name } = self.tunnel.id.clone();
        Ok(world.cluster.service(&ServiceId { namespace, name })?)
    }

    fn look(&mut self, look: &Look, pass: &Pass) -> Result<(), Failure> {
        let now = pass.time.now();
        observe::look(pass.world, look, &self.tunnel, &mut self.seen, &mut self.memory, now)?;
        self.memory.looked(look, &self.seen, pass.time.now());
        Ok(())
    }

    fn act(&mut self, step: &Step, pass: &Pass) -> Result<(), Failure> {
        let Pass { world, permit, .. } = *pass;
        let before = self.applied_version(step);
        let hand = Hand { world, tunnel: &self.tunnel, now: pass.time.now(), permit };
        hand.carry_out(step, &mut self.seen, &mut self.memory)?;
        self.memory.succeeded(Attempt::of(step));
        if !shows(step) {
            let (namespace, name, app) = (&self.tunnel.id.namespace, &self.tunnel.id.name, &self.tunnel.app);
            // An operator that starts applies each Deployment once, to be sure.
            let unchanged = before.is_some() && before == self.applied_version(step);
            let level = if unchanged { log::Level::Debug } else { log::Level::Info };
            log::log!(level, namespace, name, app; "{step}");
        }
        Ok(())
    }

    /// The version of the Deployment that the step applies, if it is there.
    fn applied_version(&self, step: &Step) -> Option<i64> {
        match step {
            Step::ApplyDeployment(frpc) => self.seen.deployment(&frpc.machine).map(|deployment| deployment.version),
            _ => None,
        }
    }

    fn tell_why(&self, why: Option<Why>) {
        if let Some(why) = why {
            let (namespace, name, app) = (&self.tunnel.id.namespace, &self.tunnel.id.name, &self.tunnel.app);
            log::info!(namespace, name, app; "{why}");
        }
    }

    /// The API server does not take what the Service is to show. The work goes on without it.
    fn set_aside(&mut self, failure: &Failure, pass: &Pass) {
        let text = format!("what the Service is to show cannot be written: {failure}");
        let delay =
            |times| failure.retry_after.map_or_else(|| backoff::delay(times, &*pass.world.random), backoff::wished);
        if self.memory.set_aside(text.clone(), pass.time.now(), delay) {
            let (namespace, name, app) = (&self.tunnel.id.namespace, &self.tunnel.id.name, &self.tunnel.app);
            log::warn!(namespace, name, app; "{text}; the work goes on, and this is tried again");
            if let Some(service) = self.seen.service() {
                report::unwritten(pass.world, service, &text, pass.permit);
            }
        }
    }

    /// Takes note of a failure, which the next plan judges.
    fn failed(&mut self, attempt: Attempt, failure: Failure) {
        let (namespace, name, app) = (&self.tunnel.id.namespace, &self.tunnel.id.name, &self.tunnel.app);
        let fly_request = failure.request_id.clone().unwrap_or_default();
        let (text, cause) = (failure.to_string(), failure.cause);
        self.memory.note_users(&self.seen);
        let new = self.memory.failed(attempt, failure);
        match cause {
            Cause::Cluster if new => log::warn!(namespace, name, app; "{text}; trying again"),
            _ if fly_request.is_empty() => log::debug!(namespace, name, app; "{text}; trying again"),
            _ => log::debug!(namespace, name, app, fly_request; "{text}; trying again"),
        }
        if self.memory.trouble.as_ref().is_some_and(Trouble::outdates_what_was_seen) {
            self.forget();
        }
    }

    /// How long to wait after a failure.
    fn pause(&self, world: &World) -> Duration {
        let Some(trouble) = &self.memory.trouble else { return Duration::ZERO };
        trouble.failure.retry_after.map_or_else(|| backoff::delay(trouble.times, &*world.random), backoff::wished)
    }

    /// The tunnel follows from the Service as it is now. One that is none of our business any more is left alone, and
    /// what we made for it goes.
    fn read_service(&mut self, world: &World) -> Result<(), Failure> {
        let wanted = self.service(world)?.and_then(|service| Some((world.tunnel(&service)?, service)));
        let (tunnel, service): (Tunnel, Option<Service>) = match wanted {
            Some((tunnel, service)) => (tunnel, Some(service)),
            None => (desired::without_members(self.tunnel.id.clone(), &world.owner), None),
        };
        self.seen = Observed::members(service);
        self.tunnel = tunnel;
        self.memory.service_read();
        Ok(())
    }
}

fn shows(step: &Step) -> bool {
    matches!(step, Step::For(_, ServiceStep::Show(_)))
}
