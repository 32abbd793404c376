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
use crate::tunnel::TunnelId;
use crate::tunnel::names::Owner;
use crate::world::World;

/// Apps and objects of this owner of which no Service tells.
#[derive(Default)]
pub struct Orphans {
    /// Their Services, as they were called.
    pub tunnels: Vec<TunnelId>,
    /// Of those the name of the Service cannot be told: a person has to destroy them.
    pub unnamed: Vec<String>,
}

impl Orphans {
    /// What a person has to do.
    pub fn left(&self) -> impl Iterator<Item = String> {
        self.unnamed.iter().map(|app| {
            format!("the Fly App {app} is this owner's, and its name does not tell of which Service: `fly apps destroy {app}`")
        })
    }
}

/// Looks for them, as often as `tries` says.
///
/// # Errors
/// Fly or the cluster cannot be asked.
pub fn orphans(world: &World, tries: u32) -> Result<Orphans, NotBegun> {
    let Owner { cluster_name, class } = &world.owner;
    log::info!("draining: every tunnel of the class {class} in the cluster {cluster_name} is taken down");
    let mut failures = Repeating::default();
    loop {
        let failure = match look(world) {
            Ok(orphans) => return Ok(orphans),
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

fn look(world: &World) -> Result<Orphans, Failure> {
    let services = poll::load_balancers(world)?;
    let strays = poll::strays(world, &services)?;
    let with_tunnel = services.iter().filter_map(|service| Some(world.tunnel(service)?.id));
    let found: BTreeSet<String> =
        with_tunnel.chain(strays).map(|id| world.owner.app(&id.namespace, &id.name)).collect();
    let mut tunnels = by_objects(world)?;
    let mut unnamed = Vec::new();
    for app in world.fly.apps()? {
        let ours = app.network.as_ref() == Some(&world.owner.network(&app.name));
        if !ours || found.contains(&app.name) || tunnels.contains_key(&app.name) {
            continue;
        }
        match world.owner.service_of(&app.name) {
            Some((namespace, name)) => drop(tunnels.insert(app.name, TunnelId { namespace, name })),
            None => unnamed.push(app.name),
        }
    }
    tunnels.retain(|app, _| !found.contains(app));
    Ok(Orphans { tunnels: tunnels.into_values().collect(), unnamed })
}

/// The Services of our objects in the namespace, by their Apps. An earlier drain with another `--namespace` may have left them.
fn by_objects(world: &World) -> Result<BTreeMap<String, TunnelId>, Failure> {
    let query = ListQuery { label_selector: Some(objects::owned_by(&world.owner_id)), ..ListQuery::default() };
    let mut tunnels = BTreeMap::new();
    for resource in [Resource::DEPLOYMENTS, Resource::CONFIG_MAPS, Resource::SECRETS] {
        for object in world.kube.list_metadata(&resource.in_namespace(&world.namespace), &query)? {
            let Some((id, app)) = objects::tunnel_of(&object.metadata.labels) else { continue };
            if world.owner.app(&id.namespace, &id.name) == app {
                tunnels.insert(app.to_owned(), id);
            }
        }
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
