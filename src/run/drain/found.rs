//! Finds out what there is to take down, and what is in the way.
//!
//! Beside the tunnels of Services there may be Apps whose Service is gone or shows nothing of them (somebody took its finalizer
//! away by hand), and objects in the namespace that an earlier drain with another `--namespace` did not see.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::LoadBalancers;
use crate::controller::poll;
use crate::render::objects;
use crate::service::Service;
use crate::tunnel::failure::Failure;
use crate::tunnel::{TunnelId, names};
use crate::world::World;

/// The result of a look.
#[derive(Default)]
pub struct Found {
    /// How many tunnels there are to take down, or parts of them.
    pub(super) tunnels: usize,
    /// Services, as they were called, of Apps and objects of this owner of which no Service tells.
    pub orphans: Vec<TunnelId>,
    /// Apps of this owner of which the name of the Service cannot be told: a person has to destroy them.
    pub(super) unnamed: Vec<String>,
    /// For each Service with our finalizer, an App that objects of another owner or in another namespace name, and the
    /// namespace of those objects. It is empty where some objects in our own namespace are ours.
    pub(super) others: BTreeMap<TunnelId, (String, String)>,
    /// Another namespace by whose Lease an operator of this class seems to lead.
    pub(super) leads_elsewhere: Option<String>,
    /// Other classes whose Services have tunnels.
    pub(super) classes: BTreeSet<String>,
}

/// Looks at the Services, at what the cluster has of tunnels, and at the organisation's list of Apps.
///
/// # Errors
/// Fly or the cluster cannot be asked.
pub(super) fn look(world: &World) -> Result<Found, Failure> {
    let LoadBalancers { services, .. } = world.cluster.load_balancers()?;
    let strays: Vec<TunnelId> = poll::strays(world, &services)?.iter().map(TunnelId::of).collect();
    let of = |service: &Service| Some(world.tunnel(service)?.id);
    let with_tunnel = services.iter().filter_map(of).chain(strays.iter().cloned());
    let known: BTreeSet<String> = with_tunnel.map(|id| world.owner.app(&id)).collect();
    let finalized = services.iter().filter(|service| service.has_finalizer(&world.settings.finalizer));
    let finalized: BTreeSet<TunnelId> = finalized.filter_map(of).chain(strays).collect();
    let mut found = Found::default();
    let mut orphans = BTreeMap::new();
    for Made { namespace, id, app } in made(world)? {
        let ours = world.owner.app(&id) == app;
        if ours && namespace == world.namespace {
            orphans.insert(app, id);
        } else if finalized.contains(&id) {
            found.others.insert(id, (app, namespace));
        }
    }
    if !orphans.is_empty() {
        found.others.clear();
    }
    for app in world.fly.apps()? {
        let ours = app.network.as_ref() == Some(&world.owner.network(&app.name));
        if !ours || known.contains(&app.name) || orphans.contains_key(&app.name) {
            continue;
        }
        match world.owner.tunnel_of(&app.name) {
            Some(id) => {
                orphans.insert(app.name, id);
            }
            None => found.unnamed.push(app.name),
        }
    }
    orphans.retain(|app, _| !known.contains(app));
    found.tunnels = known.len() + orphans.len() + found.unnamed.len();
    found.orphans = orphans.into_values().collect();
    found.leads_elsewhere = world.cluster.lease_held_elsewhere(&names::lease(&world.owner.class))?;
    let other = |name: &String| names::is_finalizer(name) && *name != world.settings.finalizer;
    let others = services.into_iter().filter(|service| service.metadata.finalizers.iter().any(other));
    found.classes = others.filter_map(|service| service.spec.load_balancer_class).collect();
    Ok(found)
}

/// An object tells of a tunnel, whosever it is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    /// The object's own namespace.
    namespace: String,
    id: TunnelId,
    app: String,
}

/// Reads the objects of all owners. Our own namespace may have some that an earlier drain with another `--namespace` left.
fn made(world: &World) -> Result<BTreeSet<Made>, Failure> {
    let all = world.cluster.objects_of_all_owners(&objects::of_any_owner())?;
    let made = all.into_iter().filter_map(|metadata| {
        let (id, app) = objects::tunnel_of(&metadata.labels)?;
        Some(Made { id, app: app.to_owned(), namespace: metadata.namespace })
    });
    Ok(made.collect())
}
