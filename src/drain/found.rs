//! What there is to take down, and what is in the way.
//!
//! Beside the tunnels of Services there may be Apps whose Service is gone or shows nothing of them (somebody took its finalizer
//! away by hand), and objects in the namespace that an earlier drain with another `--namespace` did not see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use kube_client_lite::lease::Lease;
use kube_client_lite::{ListQuery, PartialObject, Resource};

use crate::controller::poll;
use crate::failure::Failure;
use crate::render::objects;
use crate::service::Service;
use crate::tunnel::{TunnelId, names};
use crate::world::World;

/// What a look found.
#[derive(Default)]
pub struct Found {
    /// How many tunnels there are to take down, or parts of them.
    pub(super) tunnels: usize,
    /// Services, as they were called, of Apps and objects of this owner of which no Service tells.
    pub orphans: Vec<TunnelId>,
    /// Apps of this owner of which the name of the Service cannot be told: a person has to destroy them.
    pub(super) unnamed: Vec<String>,
    /// Where nothing in the namespace is ours: of Services with our finalizer, an App of which there are objects, and their
    /// namespace.
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
    let services = poll::load_balancers(world)?;
    let strays = poll::strays(world, &services)?;
    let of = |service: &Service| Some(world.tunnel(service)?.id);
    let with_tunnel = services.iter().filter_map(of).chain(strays.iter().cloned());
    let known: BTreeSet<String> = with_tunnel.map(|id| world.owner.app(&id.namespace, &id.name)).collect();
    let finalized = services.iter().filter(|service| service.has_finalizer(&world.settings.finalizer));
    let finalized: BTreeSet<TunnelId> = finalized.filter_map(of).chain(strays).collect();
    let mut found = Found::default();
    let mut orphans = BTreeMap::new();
    for Made { namespace, id, app } in made(world)? {
        let ours = world.owner.app(&id.namespace, &id.name) == app;
        match ours && namespace == world.namespace {
            true => drop(orphans.insert(app, id)),
            false if finalized.contains(&id) => drop(found.others.insert(id, (app, namespace))),
            false => {}
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
        match world.owner.service_of(&app.name) {
            Some((namespace, name)) => drop(orphans.insert(app.name, TunnelId { namespace, name })),
            None => found.unnamed.push(app.name),
        }
    }
    orphans.retain(|app, _| !known.contains(app));
    found.tunnels = known.len() + orphans.len() + found.unnamed.len();
    found.orphans = orphans.into_values().collect();
    found.leads_elsewhere = leads_elsewhere(world)?;
    let other = |name: &String| names::is_finalizer(name) && *name != world.settings.finalizer;
    let others = services.into_iter().filter(|service| service.metadata.finalizers.iter().any(other));
    found.classes = others.filter_map(|service| service.spec.load_balancer_class).collect();
    Ok(found)
}

/// What objects tell of a tunnel, whosever it is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    /// Of the objects.
    namespace: String,
    id: TunnelId,
    app: String,
}

/// In all namespaces where that may be asked; our own may have what an earlier drain with another `--namespace` left.
fn made(world: &World) -> Result<BTreeSet<Made>, Failure> {
    let query = ListQuery { label_selector: Some(objects::of_any_owner()), ..ListQuery::default() };
    let mut made = BTreeSet::new();
    for resource in [Resource::DEPLOYMENTS, Resource::CONFIG_MAPS, Resource::SECRETS] {
        let listed = match world.kube.list_metadata(&resource.all(), &query) {
            Err(error) if error.is_forbidden() => {
                world.kube.list_metadata(&resource.in_namespace(&world.namespace), &query)?
            }
            other => other?,
        };
        made.extend(listed.into_iter().filter_map(|PartialObject { metadata, .. }| {
            let (id, app) = objects::tunnel_of(&metadata.labels)?;
            Some(Made { id, app: app.to_owned(), namespace: metadata.namespace })
        }));
    }
    Ok(made)
}

/// Nobody's, where other namespaces may not be asked.
fn leads_elsewhere(world: &World) -> Result<Option<String>, Failure> {
    let field = format!("metadata.name={}", names::lease(&world.owner.class));
    let query = ListQuery { field_selector: Some(field), ..ListQuery::default() };
    let leases: Vec<Lease> = match world.kube.list(&Resource::LEASES.all(), &query) {
        Err(error) if error.is_forbidden() => return Ok(None),
        other => other?,
    };
    let elsewhere = |lease: &&Lease| lease.namespace() != world.namespace && lease.seems_held(SystemTime::now());
    Ok(leases.iter().find(elsewhere).map(|lease| lease.namespace().to_owned()))
}
