//! The sweep: a handful of requests for all tunnels together, twice in a resync interval. It only picks whom to look at: a look at that
//! one App decides.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::{Leadership, Permit};

use super::Event;
use super::poll::STANDBY;
use super::work::{Clock, Time};
use crate::backoff::Repeating;
use crate::render::machine;
use crate::render::objects::{self, read::SweptObjects};
use crate::service::machine_size::{Guest, MachineSize};
use crate::telemetry::Telemetry;
use crate::telemetry::cost::{self, Cents};
use crate::tunnel::failure::Failure;
use crate::tunnel::observed::State;
use crate::tunnel::summary::Digest;
use crate::world::World;

/// A lost host takes up to 25 s to show: frpc misses heartbeats for 15 s, and its pod is probed every 10. With two sweeps in the 60 s of
/// an interval it is found within an interval and 15 s.
const PER_INTERVAL: u32 = 2;

/// A sweep of some thousand tunnels takes some dozen requests, and each may hang for half a minute.
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// One look at everything that is ours, as far as lists show it.
pub struct Sweep {
    /// The lists are at least as new as this time since the process started.
    pub began: Duration,
    /// It was given before the lists were asked for.
    pub permit: Option<Permit>,
    /// An error says why Fly's lists are not there.
    pub fly: Result<SweptApps, String>,
    /// The objects in the cluster by App.
    pub objects: Result<BTreeMap<String, SweptObjects>, String>,
}

/// The Apps of the organisation.
#[derive(Default)]
pub struct SweptApps {
    pub apps: BTreeMap<String, SweptApp>,
    /// The lists are whole, as far as Fly says. Otherwise what is not in them may be there all the same.
    pub complete: bool,
}

/// An App, as the organisation's lists show it.
#[derive(Default)]
pub struct SweptApp {
    pub network: String,
    /// As in [`Summary`](crate::tunnel::summary::Summary).
    pub machines: Digest,
    /// Each Machine runs, and there is one.
    pub all_run: bool,
    /// An estimate of its bill for a month. The lists do not show addresses; one is assumed.
    pub cost: Cents,
}

/// Sweeps until the process ends, where it leads. The first sweep does not come at once, since all tunnels are looked at at the start.
pub fn run(
    world: &World,
    leadership: &Leadership,
    resync_interval: Duration,
    telemetry: &Telemetry,
    clock: &Clock,
    events: &Sender<Event>,
) {
    let pulse = telemetry.health.pulse("the sweep");
    let interval = resync_interval / PER_INTERVAL;
    let mut failures = Repeating::default();
    let mut retry = None;
    loop {
        let pause = interval.min(retry.take().unwrap_or(interval));
        pulse.back_within(pause);
        thread::sleep(pause);
        let permit = leadership.permit();
        if permit.is_none() {
            pulse.back_within(STANDBY);
            leadership.wait(STANDBY);
            continue;
        }
        pulse.back_within(LONGEST_SWEEP);
        let sweep = sweep(world, permit, clock.now().monotonic);
        match sweep.fly.as_ref().err().or(sweep.objects.as_ref().err()) {
            Some(error) => {
                let (delay, new) = failures.failed(error);
                if new {
                    log::warn!("not all tunnels can be looked at together: {error}; trying again");
                }
                retry = Some(delay);
            }
            None if failures.succeeded() => log::debug!("all tunnels can be looked at together again"),
            None => {}
        }
        if events.send(Event::Swept(sweep)).is_err() {
            return;
        }
    }
}

/// Sweeps once.
pub fn sweep(world: &World, permit: Option<Permit>, began: Duration) -> Sweep {
    let inventory = world.cluster.inventory(&objects::of_owner(&world.owner_id));
    let objects = inventory.map(objects::read::by_app).map_err(|error| error.to_string());
    Sweep { began, permit, fly: apps(world), objects }
}

fn apps(world: &World) -> Result<SweptApps, String> {
    let told = |error| Failure::from(error).to_string();
    let listed = world.fly.apps().map_err(told)?;
    let machines = world.fly.machines_of_all_apps().map_err(told)?;
    let named = |app: crate::fly::App| {
        (app.name, SweptApp { network: app.network.unwrap_or_default(), cost: cost::ADDRESS, ..SweptApp::default() })
    };
    let mut apps: BTreeMap<String, SweptApp> = listed.into_iter().map(named).collect();
    let mut stopped = Vec::new();
    for row in machines.machines {
        let Some(app) = apps.get_mut(&row.app_name) else { continue };
        let state = machine::state(&row.state);
        if state == State::Gone {
            continue;
        }
        let guest = row.config.guest.unwrap_or_default();
        let guest = Guest { cpu_kind: guest.cpu_kind, cpus: guest.cpus, memory_mb: guest.memory_mb };
        app.cost += cost::of_size(MachineSize::of(&guest), state);
        app.machines.add(&[&row.id, &row.version]);
        app.all_run = true;
        if state != State::Started {
            stopped.push(row.app_name);
        }
    }
    for name in stopped {
        apps.entry(name).and_modify(|app| app.all_run = false);
    }
    // Organisations that have no App at all are new; an empty list is more likely a bad moment of Fly's.
    let complete = machines.complete && !apps.is_empty();
    Ok(SweptApps { apps, complete })
}
