//! Takes part in the election of a leader: one thread that renews the Lease, or waits for it.

mod campaign;
mod told;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::{Candidate, Leadership, Standing, Timings};
use kube_client_lite::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};

use crate::backoff::{Repeating, jittered};
use crate::cluster;
use crate::config::Mode;
use crate::controller::End;
use crate::telemetry::Telemetry;
use crate::telemetry::health::Health;
use crate::tunnel::names;
use told::Told;

/// A leader has time for so many requests that hang before its term ends.
const TRIES_PER_TERM: u32 = 4;

/// Whoever finds that the Lease expired in this very moment looks again after that.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// One of those who want to lead.
pub struct Elector {
    kube: Client,
    namespace: String,
    /// How the Lease names this process.
    identity: String,
    candidate: Candidate,
    timings: Timings,
    failures: Repeating,
    leading: bool,
    told: Told,
}

/// An election that goes on in a thread of its own.
pub struct Running {
    end: Sender<Leave>,
    ended: Receiver<bool>,
}

/// What becomes of the Lease at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Somebody else may lead at once.
    Release,
    /// Others wait until it expires.
    Expire,
    /// It is kept from all others that run now.
    Retire,
}

impl Leave {
    /// As befits how the work ended.
    pub fn after(mode: Mode, end: &End) -> Leave {
        match mode {
            Mode::Drain if end.failures.is_empty() => Leave::Retire,
            // What is down is not made anew before somebody can try again.
            Mode::Drain => Leave::Expire,
            // The reply to a request that is under way must not meet a second leader.
            _ if !end.quiet => Leave::Expire,
            _ => Leave::Release,
        }
    }
}

impl Elector {
    /// Nothing is sent yet.
    pub fn new(kube: &Client, namespace: &str, class: &str, timings: Timings, longest_request: Duration) -> Elector {
        let timeout = longest_request.min(timings.renew_deadline / TRIES_PER_TERM);
        let kube = kube.with_timeout(timeout);
        let identity = identity();
        let candidate = Candidate::new(kube.clone(), namespace, &names::lease(class), &identity, timings);
        let failures = Repeating::default();
        Elector {
            kube,
            namespace: namespace.into(),
            identity,
            candidate,
            timings,
            failures,
            leading: false,
            told: Told::default(),
        }
    }

    /// Who leads, for all other threads.
    pub fn leadership(&self) -> Leadership {
        self.candidate.leadership()
    }

    /// Goes on in a thread of its own. `changed` is called when this process begins to lead or ceases to.
    pub fn start(mut self, telemetry: Arc<Telemetry>, changed: impl Fn() + Send + 'static) -> Running {
        let (end, orders) = mpsc::channel();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let left = self.run(&orders, &telemetry.health, &changed);
            let _ = done.send(left); // nobody waits for it any longer
        });
        Running { end, ended }
    }

    /// Whether the Lease was left as it was to be.
    fn run(&mut self, orders: &Receiver<Leave>, health: &Health, changed: &dyn Fn()) -> bool {
        let pulse = health.pulse("the election");
        loop {
            pulse.back_within(self.timings.renew_deadline + self.timings.retry_period);
            let led = self.leading;
            let failed = self.round().is_err();
            health.shut_out(self.candidate.is_retired());
            if led != self.leading {
                changed();
            }
            let pause = match (self.leading, failed) {
                (true, false) => self.timings.retry_period,
                // The term goes on, but not for long.
                (true, true) => self.timings.retry_period / TRIES_PER_TERM,
                (false, _) => self.standby_pause(),
            };
            match orders.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(leave) => return self.leave(leave),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn leave(&mut self, leave: Leave) -> bool {
        let left = match leave {
            Leave::Release => self.candidate.release().map(|()| true),
            Leave::Expire => Ok(true),
            Leave::Retire => self.candidate.retire(),
        };
        left.unwrap_or_else(|error| {
            log::warn!("the Lease cannot be written: {error}; others wait until it expires");
            false
        })
    }

    /// A retry period at most, not all at once, and no later than the Lease can be taken.
    fn standby_pause(&self) -> Duration {
        let pause = jittered(self.timings.retry_period * 4 / 5);
        self.candidate.expires_in().map_or(pause, |left| pause.min(left.max(SHORTEST_PAUSE)))
    }

    fn round(&mut self) -> Result<Standing, Error> {
        let result = self.ask(Candidate::round);
        let led = std::mem::replace(&mut self.leading, self.candidate.leadership().permit().is_some());
        match &result {
            Ok(standing) => {
                if self.failures.succeeded() {
                    log::info!("the Lease can be reached again");
                }
                self.told.standing(&self.identity, led, standing, &self.candidate);
            }
            Err(error) => {
                if self.failures.failed(&error.to_string()).1 {
                    log::warn!("the Lease cannot be renewed or looked at: {error}; trying again");
                }
                if led && !self.leading {
                    log::warn!("the Lease was not renewed in time: standing by");
                }
            }
        }
        result
    }

    /// Where the namespace is missing, it is made.
    fn ask(&mut self, request: fn(&mut Candidate) -> Result<Standing, Error>) -> Result<Standing, Error> {
        let result = request(&mut self.candidate);
        if !result.as_ref().is_err_and(Error::is_not_found) {
            return result;
        }
        match cluster::make_namespace(&self.kube, &self.namespace) {
            Ok(()) => request(&mut self.candidate),
            Err(error) => {
                log::debug!("the namespace {} is not made: {error}", self.namespace);
                result
            }
        }
    }
}

impl Running {
    /// Ends it, and waits for that no longer than `patience`. Whether the Lease was left like that.
    pub fn end(self, leave: Leave, patience: Duration) -> bool {
        if self.end.send(leave).is_err() {
            return false;
        }
        self.ended.recv_timeout(patience).unwrap_or_else(|_| {
            log::warn!("the Lease cannot be written in time; others wait until it expires");
            false
        })
    }
}

/// Of this process and no other: the machine's or pod's name, for people, and something random.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).expect("the system has randomness: TLS needs it, too");
    let unique = names::hash(&[&u64::from_le_bytes(random).to_string()], 16);
    match host.trim() {
        "" => format!("fly-tunnel-operator_{unique}"),
        host => format!("{host}_{unique}"),
    }
}
