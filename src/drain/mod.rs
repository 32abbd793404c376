//! `--drain`: takes down every tunnel of this owner, before an uninstall.
//!
//! The way down is that of any tunnel (`tunnel/plan/remove.rs`); here is what is judged before and after.

mod found;

use std::thread;
use std::time::Duration;

use crate::backoff::Repeating;
use crate::cluster::NotBegun;
use crate::controller::{self, poll};
use crate::render::objects;
use crate::tunnel::names::Owner;
use crate::tunnel::plan;
use crate::world::World;
pub use found::Found;

/// The last words of a drain that did not come to its end, once it has the Lease.
pub const UNFINISHED: &str = "what is left is billed until a drain comes to its end; meanwhile an operator that still runs leads again once \
                         the Lease has expired, and makes again what is down";

impl Found {
    /// What a person has to do.
    pub fn left(&self) -> impl Iterator<Item = String> {
        self.unnamed.iter().map(|app| {
            format!("the Fly App {app} is this owner's, and its name does not tell of which Service: `fly apps destroy {app}`")
        })
    }

    /// Why nothing is taken down: all that there is may be another operator's, which is told of one Service, or one would make it
    /// again.
    fn refusal(&self, world: &World) -> Option<String> {
        let Some((id, (app, namespace))) = self.others.first_key_value() else {
            return self.leads_elsewhere.as_deref().map(another_leader);
        };
        let why = match *namespace == world.namespace {
            true => plan::another_owner(app, true),
            false => another_namespace(namespace, app),
        };
        let more = match self.others.len() {
            1 => String::new(),
            all => format!(", and {} more", all - 1),
        };
        Some(format!("nothing is taken down, because of the Service {id}{more}: {why}"))
    }
}

fn another_leader(namespace: &str) -> String {
    format!(
        "nothing is taken down, as an operator of this class leads by the Lease in the namespace {namespace}, and would make it \
         again. Give --drain that --namespace, or end that operator first"
    )
}

fn another_namespace(namespace: &str, app: &str) -> String {
    format!(
        "its frpc is in the namespace {namespace}. Give --drain the --namespace and the --cluster-name of the operator there. If \
         none uses that any more, delete the Deployments, ConfigMaps and Secrets there with the label {}={app}",
        objects::APP_LABEL
    )
}

/// Looks before the Lease is taken, which stops an operator that works: what is known to fail, or to hit another operator, is not
/// begun.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says, or another operator may serve what is to be taken down.
pub fn check(world: &World, tries: u32) -> Result<(), NotBegun> {
    let Owner { cluster_name, class } = &world.owner;
    let found = find(world, tries)?;
    let tunnels = if found.tunnels == 1 { "tunnel" } else { "tunnels" };
    log::info!("draining: {} {tunnels} of the class {class} in the cluster {cluster_name}", found.tunnels);
    if !found.classes.is_empty() {
        let classes: Vec<_> = found.classes.iter().map(String::as_str).collect();
        log::warn!("tunnels of other classes stay, and are billed: {}", classes.join(", "));
    }
    found.refusal(world).map_or(Ok(()), |why| Err(NotBegun(why)))
}

/// Looks once nobody else works.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says.
pub fn find(world: &World, tries: u32) -> Result<Found, NotBegun> {
    let mut failures = Repeating::default();
    loop {
        let failure = match found::look(world) {
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
    let Owner { cluster_name, class } = &world.owner;
    log::info!(
        "every tunnel of the class {class} in the cluster {cluster_name} is down; no operator that runs now makes them again"
    );
    Ok(())
}
