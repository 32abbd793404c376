//! One pass over one tunnel, on a thread of its own: look, plan, act, until there is nothing to do but wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kube_client_lite::lease::Permit;

use crate::backoff::{Repeating, wished};
use crate::failure::{Failure, Kind};
use crate::tunnel::memory::{Memory, Now};
use crate::tunnel::observed::{Machine, Observed};
use crate::tunnel::plan::{self, Look, Next, Reason, Shown, Step, Wait};
use crate::tunnel::{Tunnel, Wanted, desired};
use crate::world::World;

/// No tunnel takes more than some twenty steps from nothing to gone. A pass that takes more goes round in circles: it
/// gives its place to another tunnel.
const LONGEST_PASS: usize = 100;

/// Fly has a bad moment now and then. The Service shows it from this many failures in a row on.
const WORTH_A_WORD: u32 = 3;

/// What was seen is not trusted any longer when it was "only early" this often in a row.
const EARLY_TRIES: u32 = 5;

/// A drain gives up when it found this often that what it took down was made again. Once may be Fly's reads, which lag.
const ROUNDS: u32 = 2;

/// A tunnel, and what is known of it.
pub struct Work {
    pub tunnel: Tunnel,
    pub seen: Observed,
    pub memory: Memory,
    /// What to look at first.
    pub look: Option<Look>,
    /// Read the Service first: it may have changed or gone.
    pub reread: bool,
    pub failures: Repeating,
    /// How often the App had something in it again after its deletion was accepted.
    pub made_again: u32,
}

/// How a pass ended.
pub enum Outcome {
    Settled,
    /// Another owner's, for this reason.
    Left(String),
    Gone,
    Wait(Wait),
    /// Something failed; after this time.
    TryAgain(Duration),
    /// Another operator makes again what a drain takes down.
    MadeAgain,
    /// The process is to end, or leads no more; nothing more was begun.
    Stopped,
}

/// When the process started, and whether it is to end.
pub struct Clock {
    pub started: Instant,
    pub stopping: AtomicBool,
}

impl Clock {
    fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), wall: SystemTime::now() }
    }
}

/// What a pass works with.
pub struct Pass<'a> {
    pub world: &'a World,
    pub clock: &'a Clock,
    pub permit: &'a Permit,
}

impl Pass<'_> {
    /// Whether another step may be begun.
    fn may_act(&self) -> bool {
        !self.clock.stopping.load(Ordering::Acquire) && self.permit.holds()
    }
}

impl Work {
    /// Works until there is nothing to do but wait.
    pub fn pass(&mut self, pass: &Pass) -> Outcome {
        match self.steps(pass) {
            Ok(outcome) => {
                self.failures.succeeded();
                outcome
            }
            Err(failure) => self.failed(&failure, pass),
        }
    }

    fn failed(&mut self, failure: &Failure, pass: &Pass) -> Outcome {
        let (delay, new) = self.failures.failed(&failure.message);
        self.show_failure(failure, pass);
        if new && failure.kind == Kind::Cluster {
            let Tunnel { id, app, .. } = &self.tunnel;
            log::warn!(namespace = id.namespace, name = id.name, app; "{failure}; trying again");
        }
        if failure.kind != Kind::Early || self.failures.count() > EARLY_TRIES {
            self.forget();
        }
        Outcome::TryAgain(failure.retry_after.map_or(delay, wished))
    }

    /// The failure that the Service shows, if any.
    pub fn shown_failure(&self) -> Option<String> {
        let condition = self.seen.service.as_ref()?.condition()?;
        let failure = Reason::named(&condition.reason).is_some_and(Reason::is_failure);
        failure.then(|| format!("{}: {}", condition.reason, condition.message))
    }

    /// What was seen may not be so any more: the next pass looks at everything.
    pub fn forget(&mut self) {
        self.look = None;
        self.reread = true;
        self.seen.app = None;
        self.seen.objects = None;
    }

    fn steps(&mut self, pass: &Pass) -> Result<Outcome, Failure> {
        let Pass { world, clock, .. } = *pass;
        if self.reread {
            self.read_service(world)?;
            self.reread = false;
        }
        let mut untold = false;
        for _ in 0..LONGEST_PASS {
            if let Some(look) = &self.look {
                world.look(look, &self.tunnel, &mut self.seen, &mut self.memory)?;
                self.look = None;
                if world.draining && self.is_made_again() {
                    return Ok(Outcome::MadeAgain);
                }
            }
            self.memory.note(&self.seen, clock.now());
            match plan::plan(&self.tunnel, &world.settings, &self.seen, &self.memory, clock.now()).next {
                Next::Look(look) => self.look = Some(look),
                Next::Act(steps) => {
                    for step in steps {
                        // Somebody else may get an address that was released: to show it is worse than to end a moment later.
                        let tells = untold && matches!(step, Step::ShowStatus(_)) && pass.permit.holds();
                        if !pass.may_act() && !tells {
                            return Ok(Outcome::Stopped);
                        }
                        self.act(&step, pass)?;
                        untold = matches!(step, Step::ReleaseAddress(_));
                    }
                }
                Next::Wait(wait) => return Ok(Outcome::Wait(wait)),
                Next::Settled => return Ok(Outcome::Settled),
                Next::Left(why) => return Ok(Outcome::Left(why)),
                Next::Gone => return Ok(Outcome::Gone),
            }
        }
        log::error!("{}: the pass goes round in circles; this is a bug worth a report", self.tunnel.id);
        Err(Failure::new(Kind::Outdated, "the pass goes round in circles"))
    }

    /// Whether somebody makes again what was taken down. An App is empty when its deletion is asked for.
    fn is_made_again(&mut self) -> bool {
        let deleted = self.seen.our_app().filter(|_| self.memory.app_deleted.is_some());
        if deleted.is_some_and(|app| !app.addresses.is_empty() || app.machines.iter().any(Machine::exists)) {
            self.made_again += 1;
        }
        self.made_again >= ROUNDS
    }

    fn act(&mut self, step: &Step, pass: &Pass) -> Result<(), Failure> {
        let Pass { world, clock, permit } = *pass;
        let before = self.applied_version(step);
        world.act(step, &self.tunnel, &mut self.seen, &mut self.memory, clock.now(), permit)?;
        if !matches!(step, Step::ShowStatus(_)) {
            let Tunnel { id, app, .. } = &self.tunnel;
            // Whoever starts applies each Deployment once, to be sure.
            let unchanged = before.is_some() && before == self.applied_version(step);
            let level = if unchanged { log::Level::Debug } else { log::Level::Info };
            log::log!(level, namespace = id.namespace, name = id.name, app; "{step}");
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

    /// The tunnel follows from the Service as it is now. One that is none of our business any more is left alone, and
    /// what we made for it goes.
    fn read_service(&mut self, world: &World) -> Result<(), Failure> {
        let service = world.service(&self.tunnel.id)?;
        let tunnel = service.as_ref().and_then(|service| world.tunnel(service));
        self.seen.service = service.filter(|_| tunnel.is_some()).map(Box::new);
        self.tunnel = tunnel.unwrap_or_else(|| desired::removed(self.tunnel.id.clone(), &world.owner));
        Ok(())
    }

    /// The addresses stay, whatever fails. What passes by itself is shown when it does not.
    fn show_failure(&mut self, failure: &Failure, pass: &Pass) {
        let lasts = self.failures.count() >= WORTH_A_WORD;
        let reason = match failure.kind {
            Kind::Shown(Reason::FlyUnavailable) if !lasts => return,
            Kind::Shown(reason) => reason,
            Kind::Early if self.failures.count() > EARLY_TRIES => Reason::FlyUnavailable,
            Kind::Cluster if lasts => Reason::Degraded,
            Kind::Early | Kind::Cluster | Kind::Outdated => return,
        };
        let Some(service) = &self.seen.service else { return };
        let goes_on = reason == Reason::FlyUnavailable && matches!(self.tunnel.wanted, Wanted::Served(_));
        let comfort = if goes_on { "; what serves goes on serving" } else { "" };
        let message = format!("{}{comfort}", failure.message);
        let shown = Shown { addresses: service.addresses(), reason, message };
        if !shown.is_shown_by(service)
            && pass.may_act()
            && let Err(error) = self.act(&Step::ShowStatus(shown), pass)
        {
            log::debug!("{}: the condition was not written: {error}", self.tunnel.id);
        }
    }
}
