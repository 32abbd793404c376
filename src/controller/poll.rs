//! Lists the Services, again and again.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::lease::{Leadership, Permit};
use kube_client_lite::{Error, ListQuery, ObjectMeta, Resource};

use super::Event;
use crate::backoff::{Repeating, wished};
use crate::service::Service;
use crate::telemetry::Telemetry;
use crate::tunnel::TunnelId;
use crate::world::World;

/// Every so many polls all Services are listed, metadata only: one whose type changed while nobody looked has our
/// finalizer and is in no list of load balancers.
const POLLS_PER_SEARCH: u32 = 120;

/// A list may take several requests, and each may hang for half a minute.
const LONGEST_POLL: Duration = Duration::from_secs(300);

/// Who does not lead looks whether he does after that time at the latest.
const STANDBY: Duration = Duration::from_secs(10);

/// What one poll saw.
pub struct Poll {
    /// The list is at least as new as this.
    pub began: Instant,
    /// Given before the list was asked for; `None`: this process did not lead.
    pub permit: Option<Permit>,
    /// Load balancers of any class.
    pub services: Vec<Service>,
    /// Services with our finalizer that are no load balancers.
    pub strays: Vec<TunnelId>,
}

/// Polls until the process ends. A cluster that cannot be asked is asked again, later each time. Who does not lead lists the
/// Services once, to know that he could.
pub fn run(world: &World, leadership: &Leadership, interval: Duration, telemetry: &Telemetry, events: &Sender<Event>) {
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
        let began = Instant::now();
        let polled = poll(world, permit.clone(), began, search);
        telemetry.metrics.polled(polled.is_ok(), began.elapsed());
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
                interval.saturating_sub(began.elapsed())
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
                error.retry_after().map_or(delay, wished)
            }
        };
        pulse.back_within(pause);
        thread::sleep(pause);
    }
}

/// The load balancers of any class.
///
/// # Errors
/// The cluster cannot be asked.
pub fn load_balancers(world: &World) -> Result<Vec<Service>, Error> {
    let query = ListQuery { field_selector: Some("spec.type=LoadBalancer".into()), ..ListQuery::default() };
    world.kube.list(&Resource::SERVICES.all(), &query)
}

/// Services that have our finalizer and are in no list of load balancers, of which `listed` is one.
///
/// # Errors
/// The cluster cannot be asked.
pub fn strays(world: &World, listed: &[Service]) -> Result<Vec<TunnelId>, Error> {
    let id = |metadata: &ObjectMeta| TunnelId { namespace: metadata.namespace.clone(), name: metadata.name.clone() };
    let known: BTreeSet<_> = listed.iter().map(|service| id(&service.metadata)).collect();
    let everything = world.kube.list_metadata(&Resource::SERVICES.all(), &ListQuery::default())?;
    let ours = everything.iter().filter(|object| object.metadata.finalizers.contains(&world.settings.finalizer));
    Ok(ours.map(|object| id(&object.metadata)).filter(|id| !known.contains(id)).collect())
}

fn poll(world: &World, permit: Option<Permit>, began: Instant, search: bool) -> Result<Poll, Error> {
    let services = load_balancers(world)?;
    let strays = if search { strays(world, &services)? } else { Vec::new() };
    Ok(Poll { began, permit, services, strays })
}
