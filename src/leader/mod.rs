//! Takes part in the election of a leader: one thread that renews the Lease, or waits for it.

mod campaign;
pub mod identity;
mod told;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::lease::{Candidate, Leadership, Standing, Timings};
use kube_client_lite::{Client, Error};

use crate::backoff::{Repeating, jittered};
use crate::cluster::kubernetes;
use crate::random::System;
use crate::telemetry::Telemetry;
use crate::telemetry::health::Health;
use crate::tunnel::names;
use told::Told;

/// So many requests of a leader may hang, one after the other, before its term ends.
const TRIES_PER_TERM: u32 = 4;

/// A process that was told to end waits so long for the last write of the Lease. Without that write others wait until the Lease
/// expires, which is better than a process that does not end.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// The pause before the next look where the Lease expires in this very moment.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A process that takes part in the election.
pub struct Elector {
    kube: Client,
    namespace: String,
    /// The name of this process in the Lease.
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
    lease_duration: Duration,
}

/// How the Lease is left at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Somebody else may lead at once.
    Release,
    /// Others wait until it expires.
    Expire,
    /// Nobody who waits for it now ever gets it.
    Retire,
}

impl Elector {
    /// Nothing is sent yet. The identity is the name of this process in the Lease.
    pub fn new(
        kube: &Client,
        namespace: &str,
        class: &str,
        identity: String,
        timings: Timings,
        longest_request: Duration,
    ) -> Elector {
        let timeout = longest_request.min(timings.renew_deadline / TRIES_PER_TERM);
        let kube = kube.with_timeout(timeout);
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

    /// The handle by which all other threads learn whether this process leads.
    pub fn leadership(&self) -> Leadership {
        self.candidate.leadership()
    }

    /// Goes on in a thread of its own. `changed` is called when this process begins to lead or ceases to.
    pub fn start(mut self, telemetry: Arc<Telemetry>, changed: impl Fn() + Send + 'static) -> Running {
        let (end, orders) = mpsc::channel();
        let (done, ended) = mpsc::channel();
        let lease_duration = self.timings.lease_duration;
        thread::spawn(move || {
            let left = self.run(&orders, &telemetry.health, &changed);
            let _ = done.send(left); // nobody waits for it any longer
        });
        Running { end, ended, lease_duration }
    }

    /// Returns whether the Lease was left as it was to be.
    fn run(&mut self, orders: &Receiver<Leave>, health: &Health, changed: &dyn Fn()) -> bool {
        let pulse = health.pulse("the election");
        loop {
            pulse.back_within(self.timings.renew_deadline + self.timings.retry_period);
            let led = self.leading;
            let failed = self.round().is_err();
            health.retired(self.candidate.is_retired());
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
            Leave::Retire => self.retire(),
        };
        left.unwrap_or_else(|error| {
            log::warn!("the Lease cannot be written: {error}; others wait until it expires");
            false
        })
    }

    /// Retires the Lease. It is tried until others can have taken it, since an operator that takes it makes all tunnels again.
    fn retire(&mut self) -> Result<bool, Error> {
        let end = Instant::now() + self.timings.lease_duration;
        let mut failures = Repeating::default();
        loop {
            match self.candidate.retire() {
                Err(error) if Instant::now() < end => {
                    let (delay, news) = failures.failed(&error.to_string());
                    if news {
                        log::warn!("the Lease cannot be kept from other operators yet: {error}; trying again");
                    }
                    thread::sleep(delay.min(self.timings.retry_period));
                }
                result => return result,
            }
        }
    }

    /// The pause of one that does not lead. It is a retry period at most, differs so that not all ask at once, and ends no later
    /// than the Lease can be taken.
    fn standby_pause(&self) -> Duration {
        let pause = jittered(self.timings.retry_period * 4 / 5, &System);
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

    /// Sends a request for the Lease. If its namespace is missing, it is made.
    fn ask(&mut self, request: fn(&mut Candidate) -> Result<Standing, Error>) -> Result<Standing, Error> {
        let result = request(&mut self.candidate);
        if !result.as_ref().is_err_and(Error::is_not_found) {
            return result;
        }
        match kubernetes::make_namespace(&self.kube, &self.namespace) {
            Ok(()) => request(&mut self.candidate),
            Err(error) => {
                log::debug!("the namespace {} is not made: {error}", self.namespace);
                result
            }
        }
    }
}

impl Running {
    /// Ends the election, and waits for that. Returns whether the Lease was left as `leave` says.
    pub fn end(self, leave: Leave) -> bool {
        if self.end.send(leave).is_err() {
            return false;
        }
        let patience = match leave {
            Leave::Release | Leave::Expire => LAST_WRITE,
            // A round may be under way, and then it is tried for a lease duration.
            Leave::Retire => self.lease_duration * 2,
        };
        self.ended.recv_timeout(patience).unwrap_or_else(|_| {
            log::warn!("the Lease cannot be written in time; others wait until it expires");
            false
        })
    }
}
