//! Numbers about the work, for Prometheus: what was done, how long it took, and what there is.

mod process;
#[cfg(test)]
mod tests;
mod text;
mod tunnels;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::telemetry::cost::Cents;
use crate::tunnel::TunnelId;
use crate::tunnel::names::Owner;
pub use text::CONTENT_TYPE;
use text::{Exposition, Histogram, Kind};
pub use tunnels::TunnelState;
use tunnels::Tunnels;
#[cfg(test)]
pub use tunnels::{Holdings, Lanes};

/// A list of Services on a small cluster takes milliseconds, on a stalled one seconds.
const POLL_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Reads at Fly take a tenth of a second, a Machine's creation some seconds; after 30 s nobody waits any more.
const FLY_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A new tunnel takes some ten seconds where nothing is in the way.
const ADDRESS_SECONDS: &[f64] = &[2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0];

/// All metrics of the process. A method that counts something takes some microseconds, and waits for nobody who reads.
pub struct Metrics {
    started: SystemTime,
    owner: OnceLock<Owner>,
    polls: Mutex<Polls>,
    fly: Mutex<FlyRequests>,
    retries: AtomicU64,
    time_to_address: Mutex<Histogram>,
    tunnels: Mutex<Tunnels>,
    /// Apps of this owner that no Service asks for, and what each costs in a month.
    orphans: Mutex<Vec<(String, Cents)>>,
}

#[derive(Clone)]
struct Polls {
    succeeded: u64,
    failed: u64,
    last_success: Option<SystemTime>,
    duration: Histogram,
}

#[derive(Clone, Default)]
struct FlyRequests {
    /// The key is operation and result.
    counts: BTreeMap<(&'static str, &'static str), u64>,
    /// The key is the operation.
    durations: BTreeMap<&'static str, Histogram>,
}

impl Metrics {
    /// The metrics of a process that just started.
    pub fn new() -> Metrics {
        Metrics {
            started: SystemTime::now(),
            owner: OnceLock::new(),
            polls: Mutex::new(Polls {
                succeeded: 0,
                failed: 0,
                last_success: None,
                duration: Histogram::new(POLL_SECONDS),
            }),
            fly: Mutex::default(),
            retries: AtomicU64::new(0),
            time_to_address: Mutex::new(Histogram::new(ADDRESS_SECONDS)),
            tunnels: Mutex::default(),
            orphans: Mutex::default(),
        }
    }

    /// Tells whose tunnels these are: their Apps' names follow from it. Only the first call counts.
    pub fn owned_by(&self, owner: Owner) {
        let _ = self.owner.set(owner);
    }

    /// A list of the Services came in, or did not.
    pub fn polled(&self, succeeded: bool, took: Duration) {
        let mut polls = locked(&self.polls);
        polls.duration.observe(took);
        if succeeded {
            polls.succeeded += 1;
            polls.last_success = Some(SystemTime::now());
        } else {
            polls.failed += 1;
        }
    }

    /// A request to Fly was answered, or was not. Operation and result are names such as `create_machine` and
    /// `rate_limited`.
    pub fn fly_request(&self, operation: &'static str, result: &'static str, took: Duration) {
        let mut fly = locked(&self.fly);
        *fly.counts.entry((operation, result)).or_default() += 1;
        fly.durations.entry(operation).or_insert_with(|| Histogram::new(FLY_SECONDS)).observe(took);
    }

    /// A pass over a tunnel did not work out, and is tried again.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// This process leads, or does not any more: then nothing is told of tunnels. It begins as one that does not lead.
    pub fn leading(&self, leading: bool) {
        locked(&self.tunnels).lead(leading);
    }

    /// How a tunnel is doing.
    pub fn tunnel(&self, id: &TunnelId, state: TunnelState) {
        locked(&self.tunnels).note(id, state);
    }

    /// Nothing is left of the tunnel.
    pub fn tunnel_gone(&self, id: &TunnelId) {
        locked(&self.tunnels).gone(id);
    }

    /// These Apps are this owner's, and no Service asks for them; with an estimate of the bill of each for a month.
    pub fn orphans(&self, orphans: Vec<(String, Cents)>) {
        *locked(&self.orphans) = orphans;
    }

    /// A Service that was first seen without an address shows one now: how long after.
    pub fn address_shown(&self, after: Duration) {
        locked(&self.time_to_address).observe(after);
    }

    /// Writes all of them in Prometheus' text format. The reader behind `out` may be slow: nothing is locked meanwhile.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = Exposition::new(out);
        text.family(Kind::Gauge, "fly_tunnel_operator_build_info", "The operator's version; the value is 1.")?;
        text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1)?;
        self.render_polls(&mut text)?;
        let tunnels = locked(&self.tunnels).clone();
        tunnels.render(&mut text, self.owner.get())?;
        self.render_orphans(&mut text)?;
        self.render_work(&mut text)?;
        self.render_fly(&mut text)?;
        process::render(&mut text, self.started)
    }

    fn render_polls(&self, text: &mut Exposition) -> io::Result<()> {
        let polls = locked(&self.polls).clone();
        text.family(Kind::Counter, "fly_tunnel_operator_polls_total", "Lists of the Services that were asked for.")?;
        text.sample(&[("result", "success")], polls.succeeded)?;
        text.sample(&[("result", "failure")], polls.failed)?;
        let help = "How long a list of the Services took.";
        text.family(Kind::Histogram, "fly_tunnel_operator_poll_duration_seconds", help)?;
        text.histogram(&[], &polls.duration)?;
        text.single(
            Kind::Gauge,
            "fly_tunnel_operator_last_successful_poll_timestamp_seconds",
            "When the Services were last listed, in seconds since 1970; 0 before the first time.",
            polls.last_success.map_or(0.0, unix_seconds),
        )
    }

    fn render_orphans(&self, text: &mut Exposition) -> io::Result<()> {
        let orphans = locked(&self.orphans).clone();
        let help = "Apps of this owner that no Service asks for.";
        text.single(Kind::Gauge, "fly_tunnel_operator_orphans", help, orphans.len())?;
        let help = "Estimate of what Fly bills in a month for Apps of this owner that no Service asks for.";
        let cents: Cents = orphans.iter().map(|(_, cents)| cents).sum();
        let dollars = format_args!("{}.{:02}", cents / 100, cents % 100).to_string();
        text.single(Kind::Gauge, "fly_tunnel_operator_orphans_estimated_cost_dollars_per_month", help, dollars)
    }

    fn render_work(&self, text: &mut Exposition) -> io::Result<()> {
        let help = "How long it took from the first sight of a new Service until it showed its address.";
        text.family(Kind::Histogram, "fly_tunnel_operator_time_to_address_seconds", help)?;
        text.histogram(&[], &locked(&self.time_to_address).clone())?;
        let help = "Passes over a tunnel that did not work out and were tried again.";
        let retries = self.retries.load(Ordering::Relaxed);
        text.single(Kind::Counter, "fly_tunnel_operator_retries_total", help, retries)
    }

    fn render_fly(&self, text: &mut Exposition) -> io::Result<()> {
        let fly = locked(&self.fly).clone();
        let help = "Requests to Fly, by what was asked and what came of it.";
        text.family(Kind::Counter, "fly_tunnel_operator_fly_requests_total", help)?;
        for ((operation, result), count) in &fly.counts {
            text.sample(&[("operation", operation), ("result", result)], count)?;
        }
        let help = "How long requests to Fly took.";
        text.family(Kind::Histogram, "fly_tunnel_operator_fly_request_duration_seconds", help)?;
        for (operation, histogram) in &fly.durations {
            text.histogram(&[("operation", operation)], histogram)?;
        }
        Ok(())
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
