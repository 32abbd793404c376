//! `--drain`: takes down every tunnel of this owner, before an uninstall.
//!
//! The way down is that of any tunnel (`tunnel/plan/remove.rs`); here is what has to be found first. Beside the tunnels of
//! Services there may be Apps whose Service is gone or shows nothing of them (somebody took its finalizer away by hand), and
//! objects in the namespace that an earlier drain with another `--namespace` did not see.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use kube_client_lite::{ListQuery, Resource};

use crate::backoff::Repeating;
use crate::cluster::NotBegun;
use crate::controller::{self, poll};
use crate::failure::Failure;
use crate::render::objects;
use crate::service::Service;
use crate::tunnel::names::Owner;
use crate::tunnel::{TunnelId, plan};
use crate::world::World;

/// The last words of a drain that did not come to its end, once it has the Lease.
pub const AGAIN: &str = "what is left is billed until a drain comes to its end; meanwhile an operator that still runs leads again once \
                         the Lease has expired, and makes again what is down";

/// What a look found beside the tunnels that Services show.
#[derive(Default)]
pub struct Found {
    /// Services, as they were called, of Apps and objects of this owner of which no Service tells.
    pub orphans: Vec<TunnelId>,
    /// Apps of this owner of which the name of the Service cannot be told: a person has to destroy them.
    unnamed: Vec<String>,
    /// Services with our finalizer for which another owner has objects, and that one's App.
    others: BTreeMap<TunnelId, String>,
}

impl Found {
    /// What a person has to do.
    pub fn left(&self) -> impl Iterator<Item = String> {
        self.unnamed.iter().map(|app| {
            format!("the Fly App {app} is this owner's, and its name does not tell of which Service: `fly apps destroy {app}`")
        })
    }
}

/// Looks before the Lease is taken, which stops an operator that works: what is known to fail is not begun.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says, or another owner may serve what is to be taken down.
pub fn check(world: &World, tries: u32) -> Result<(), NotBegun> {
    let Owner { cluster_name, class } = &world.owner;
    log::info!("draining: every tunnel of the class {class} in the cluster {cluster_name} is to be taken down");
    let others = find(world, tries)?.others;
    let Some((id, app)) = others.first_key_value() else { return Ok(()) };
    let more = match others.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let why = plan::another_owner(app, true);
    Err(NotBegun(format!("nothing is taken down, because of the Service {id}{more}: {why}")))
}

/// Looks once nobody else works.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says.
pub fn find(world: &World, tries: u32) -> Result<Found, NotBegun> {
    let mut failures = Repeating::default();
    loop {
        let failure = match look(world) {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        let (delay, _) = failures.failed(&failure.message);
        if failures.count() >= tries {
            return Err(NotBegun(format!("what there is to take down cannot be found out: {failure}")));
        }
        log::warn!("{failure}; trying again");
        thread::sleep(delay);
    }
}

fn look(world: &World) -> Result<Found, Failure> {
    let services = poll::load_balancers(world)?;
    let strays = poll::strays(world, &services)?;
    let of = |service: &Service| Some(world.tunnel(service)?.id);
    let with_tunnel = services.iter().filter_map(of).chain(strays.iter().cloned());
    let known: BTreeSet<String> = with_tunnel.map(|id| world.owner.app(&id.namespace, &id.name)).collect();
    let finalized = services.iter().filter(|service| service.has_finalizer(&world.settings.finalizer));
    let finalized: BTreeSet<TunnelId> = finalized.filter_map(of).chain(strays).collect();
    let mut found = Found::default();
    let mut orphans = BTreeMap::new();
    for (id, app) in with_objects(world)? {
        if world.owner.app(&id.namespace, &id.name) == app {
            orphans.insert(app, id);
        } else if finalized.contains(&id) {
            found.others.insert(id, app);
        }
    }
    for app in world.fly.apps()? {
        let ours = app.network.as_ref() == Some(&world.owner.network(&app.name));
        if !ours || known.contains(&app.name) || orphans.contains_key(&app.name) {
            continue;
        }
        match world.owner.service_of(&app.name) {
            Some((namespace, name)) => drop(orphans.insert(app.name, TunnelId { namespace, name })),
            None => found.unnamed.push(app.name),
        }
    }
    orphans.retain(|app, _| !known.contains(app));
    found.orphans = orphans.into_values().collect();
    Ok(found)
}

/// The Services of which the namespace has objects of any owner, and their Apps. An earlier drain with another `--namespace` may
/// have left them.
fn with_objects(world: &World) -> Result<BTreeSet<(TunnelId, String)>, Failure> {
    let query = ListQuery { label_selector: Some(objects::of_any_owner()), ..ListQuery::default() };
    let mut tunnels = BTreeSet::new();
    for resource in [Resource::DEPLOYMENTS, Resource::CONFIG_MAPS, Resource::SECRETS] {
        let listed = world.kube.list_metadata(&resource.in_namespace(&world.namespace), &query)?;
        let named = listed.iter().filter_map(|object| objects::tunnel_of(&object.metadata.labels));
        tunnels.extend(named.map(|(id, app)| (id, app.to_owned())));
    }
    Ok(tunnels)
}

/// All is down. What is wrong all the same: the Lease is not kept (`kept`) from other operators, or one that does not know of
/// it makes tunnels again, which is looked for twice, a `poll_interval` apart.
pub fn verdict(world: &World, kept: bool, poll_interval: Duration) -> Result<(), String> {
    if !kept {
        return Err("every tunnel is down, but the Lease could not be kept: end all operators now".into());
    }
    for _ in 0..2 {
        thread::sleep(poll_interval);
        let services = poll::load_balancers(world).map_err(|error| {
            format!("every tunnel is down; whether no operator makes them again cannot be seen: {error}")
        })?;
        let mut tunnels = services.iter().filter_map(|service| world.tunnel(service));
        // The Go operator's stay.
        if let Some(again) = tunnels.find(|tunnel| tunnel.legacy.is_none()) {
            return Err(controller::made_again(world, &again.id));
        }
    }
    log::info!("every tunnel is down; no operator that runs now makes them again");
    Ok(())
}
