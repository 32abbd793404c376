//! Lists the Services, again and again.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::{Leadership, Permit};

use super::Event;
use super::work::{Clock, Time};
use crate::backoff::{Repeating, wished};
use crate::cluster::LoadBalancers;
use crate::cluster::error::ClusterError;
use crate::service::{Service, ServiceId};
use crate::telemetry::Telemetry;
use crate::world::World;

/// Every so many polls all Services are listed, metadata only: one whose type changed while nobody looked has our
/// finalizer and is in no list of load balancers.
const POLLS_PER_SEARCH: u32 = 120;

/// A list may take several requests, and each may hang for half a minute.
const LONGEST_POLL: Duration = Duration::from_secs(300);

/// A process that does not lead looks again after that time at the latest.
pub(super) const STANDBY: Duration = Duration::from_secs(10);

/// One look at the Services.
pub struct Poll {
    /// The list is at least as new as this time since the process started.
    pub began: Duration,
    /// It was given before the list was asked for; `None`: this process did not lead.
    pub permit: Option<Permit>,
    /// Load balancers of any class.
    pub listed: LoadBalancers,
    /// Services with our finalizer that are none of these.
    pub strays: Vec<ServiceId>,
}

/// Polls until the process ends. A cluster that cannot be asked is asked again, later each time. A process that does not lead
/// lists the Services once, to know that it could.
pub fn run(
    world: &World,
    leadership: &Leadership,
    interval: Duration,
    telemetry: &Telemetry,
    clock: &Clock,
    events: &Sender<Event>,
) {
    let now = || clock.now().monotonic;
    let pulse = telemetry.health.pulse("the poll");
    let mut failures = Repeating::default();
    let mut polls = 0;
    let mut searched: Option<Permit> = None;
    loop {
        let permit = leadership.permit();
        if permit.is_none() && polls > 0 {
            pulse.back_within(STANDBY);
            leadership.wait(STANDBY);
            continue;
        }
        let search = polls % POLLS_PER_SEARCH == 0 || !searched.as_ref().is_some_and(Permit::holds);
        pulse.back_within(LONGEST_POLL);
        let began = now();
        let polled = poll(world, permit.clone(), began, search);
        telemetry.metrics.polled(polled.is_ok(), now() - began);
        let pause = match polled {
            Ok(poll) => {
                telemetry.health.listed();
                if failures.succeeded() {
                    log::info!("the cluster answers again");
                }
                polls = polls.wrapping_add(1).max(1);
                searched = permit;
                if events.send(Event::Polled(poll)).is_err() {
                    return;
                }
                interval.saturating_sub(now() - began)
            }
            Err(error) => {
                let (delay, new) = failures.failed(&error.to_string());
                if new {
                    log::warn!("the cluster cannot be asked: {error}; trying again");
                }
                let repeated = Event::PollFailed(failures.count(), error.to_string());
                if events.send(repeated).is_err() {
                    return;
                }
                error.retry_after.map_or(delay, wished)
            }
        };
        pulse.back_within(pause);
        thread::sleep(pause);
    }
}

/// Services that have our finalizer and are none of these load balancers: their type was changed, or they cannot be read.
///
/// # Errors
/// The cluster cannot be asked.
pub fn strays(world: &World, listed: &[Service]) -> Result<Vec<ServiceId>, ClusterError> {
    let known: BTreeSet<_> = listed.iter().map(Service::id).collect();
    let mut finalized = world.cluster.finalized(&world.settings.finalizer)?;
    finalized.retain(|id| !known.contains(id));
    Ok(finalized)
}

/// Looks at the Services once; with `search` also for those that are no load balancers any more.
///
/// # Errors
/// The cluster cannot be asked.
pub fn poll(world: &World, permit: Option<Permit>, began: Duration, search: bool) -> Result<Poll, ClusterError> {
    let listed = world.cluster.load_balancers()?;
    let strays = if search { strays(world, &listed.services)? } else { Vec::new() };
    Ok(Poll { began, permit, listed, strays })
}
