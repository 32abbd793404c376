//! Takes part in the election of a leader: one thread that renews the Lease, or waits for it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::{Candidate, Leadership, Standing, Timings};
use kube_client_lite::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};

use crate::backoff::{Repeating, jittered};
use crate::cluster::{self, NotBegun};
use crate::telemetry::health::Pulse;
use crate::tunnel::names;

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
    /// Whom we said that we wait for.
    followed: Option<String>,
}

/// An election that goes on in a thread of its own.
pub struct Running {
    /// Whether to release the Lease at the end.
    end: Sender<bool>,
    ended: Receiver<()>,
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
            followed: None,
        }
    }

    /// Who leads, for all other threads.
    pub fn leadership(&self) -> Leadership {
        self.candidate.leadership()
    }

    /// Waits until this process leads, or somebody else shows that it does.
    ///
    /// # Errors
    /// Why it does not lead.
    pub fn win(&mut self, tries: u32) -> Result<(), NotBegun> {
        loop {
            match self.round() {
                Ok(Standing::Leading) => return Ok(()),
                Ok(Standing::Following { holder, alive: true }) => {
                    return Err(NotBegun(format!("{holder} leads")));
                }
                Err(error) if self.failures.count() >= tries => {
                    return Err(NotBegun(format!("the Lease cannot be taken: {error}")));
                }
                Ok(Standing::Following { .. }) | Err(_) => {}
            }
            thread::sleep(self.standby_pause());
        }
    }

    /// Goes on in a thread of its own. `changed` is called when this process begins to lead or ceases to.
    pub fn start(mut self, pulse: Pulse, changed: impl Fn() + Send + 'static) -> Running {
        let (end, orders) = mpsc::channel();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            self.run(&orders, &pulse, &changed);
            let _ = done.send(()); // nobody waits for it any longer
        });
        Running { end, ended }
    }

    fn run(&mut self, orders: &Receiver<bool>, pulse: &Pulse, changed: &dyn Fn()) {
        loop {
            pulse.back_within(self.timings.renew_deadline + self.timings.retry_period);
            let led = self.leading;
            let failed = self.round().is_err();
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
                Ok(true) => {
                    if let Err(error) = self.candidate.release() {
                        log::warn!("the Lease is not released: {error}; others wait until it expires");
                    }
                    return;
                }
                Ok(false) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A retry period at most, not all at once, and no later than the Lease can be taken.
    fn standby_pause(&self) -> Duration {
        let pause = jittered(self.timings.retry_period * 4 / 5);
        self.candidate.expires_in().map_or(pause, |left| pause.min(left.max(SHORTEST_PAUSE)))
    }

    fn round(&mut self) -> Result<Standing, Error> {
        let mut result = self.candidate.round();
        if result.as_ref().is_err_and(Error::is_not_found) {
            match cluster::make_namespace(&self.kube, &self.namespace) {
                Ok(()) => result = self.candidate.round(),
                Err(error) => log::debug!("the namespace {} is not made: {error}", self.namespace),
            }
        }
        let led = std::mem::replace(&mut self.leading, self.candidate.leadership().permit().is_some());
        match &result {
            Ok(standing) => {
                if self.failures.succeeded() {
                    log::info!("the Lease can be reached again");
                }
                self.say(led, standing);
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

    /// What changed, once.
    fn say(&mut self, led: bool, standing: &Standing) {
        match standing {
            Standing::Leading if !led => {
                self.followed = None;
                log::info!("leading, as {}", self.identity);
            }
            Standing::Leading => {}
            Standing::Following { holder, .. } => {
                let whose = match holder.as_str() {
                    "" => "nobody's at the moment".to_owned(),
                    holder if *holder == self.identity => "ours, but not renewed".to_owned(),
                    holder => format!("{holder}'s"),
                };
                let left = self.candidate.expires_in().map(|left| humantime::format_duration(whole_seconds(left)));
                let wait =
                    left.map(|left| format!(", and to be taken in {left} without a sign of life")).unwrap_or_default();
                if led {
                    log::warn!("standing by: the Lease was lost, and is {whose}{wait}");
                } else if self.followed.as_ref() != Some(holder) {
                    log::info!("standing by, as {}: the Lease is {whose}{wait}", self.identity);
                }
                self.followed = Some(holder.clone());
            }
        }
    }
}

impl Running {
    /// Ends it: with `release`, others need not wait until the Lease expires. Waits for it no longer than `patience`.
    pub fn end(self, release: bool, patience: Duration) {
        if self.end.send(release).is_ok() && self.ended.recv_timeout(patience).is_err() {
            log::warn!("the Lease is not released in time; others wait until it expires");
        }
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs_f64().round() as u64)
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
