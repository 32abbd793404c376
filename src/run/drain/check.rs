//! Whether a drain may begin. What is known to fail, or to hit another operator, is not begun.

use super::find;
use super::found::Found;
use crate::cluster::find::NotBegun;
use crate::render::objects;
use crate::tunnel::condition::OtherOwner;
use crate::tunnel::names::Owner;
use crate::world::World;

/// Looks before the Lease is taken, which stops an operator that works.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says, or another operator may serve what is to be taken down.
pub(super) fn check(world: &World, tries: u32) -> Result<(), NotBegun> {
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

impl Found {
    /// The reason why the drain is not begun. Either all that there is may be another operator's (the message names one Service
    /// as an example), or another operator would make it again.
    fn refusal(&self, world: &World) -> Option<String> {
        let Some((id, (app, namespace))) = self.others.first_key_value() else {
            return self.leads_elsewhere.as_deref().map(another_leader);
        };
        let why = if *namespace == world.namespace {
            OtherOwner::Objects { app: app.clone() }.advice_to_drain()
        } else {
            another_namespace(namespace, app)
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
