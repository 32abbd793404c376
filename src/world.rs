//! Fly and the cluster, and who we are in them: what `observe` and `act` work on.

use kube_client_lite::Client;

use crate::events::Events;
use crate::fly::Fly;
use crate::render::objects::Home;
use crate::service::Service;
use crate::tunnel::names::{self, Owner};
use crate::tunnel::plan::Settings;
use crate::tunnel::{Tunnel, desired};

/// The two systems, and our place in them. Shared by all workers.
pub struct World {
    pub kube: Client,
    pub fly: Fly,
    pub events: Events,
    /// Where frpc and its Secrets live.
    pub namespace: String,
    pub owner: Owner,
    /// [`Owner::id`], computed once.
    pub owner_id: String,
    pub settings: Settings,
    /// All tunnels are to go, as the operator will.
    pub draining: bool,
}

impl World {
    /// The world of this owner.
    pub fn new(kube: Client, fly: Fly, namespace: String, owner: Owner, lanes: crate::config::LaneConfig) -> World {
        let settings = Settings { lanes, finalizer: names::finalizer(&owner.class) };
        let events = Events::new(kube.clone());
        World { kube, fly, events, namespace, owner_id: owner.id(), owner, settings, draining: false }
    }

    /// The tunnel that the Service wants; `None` where it is none of our business.
    pub fn tunnel(&self, service: &Service) -> Option<Tunnel> {
        let Settings { lanes, finalizer } = &self.settings;
        let tunnel = desired::tunnel(service, &self.owner, finalizer, lanes)?;
        if self.draining { desired::drained(tunnel, service, finalizer) } else { Some(tunnel) }
    }

    /// The tunnel's objects in the cluster.
    pub fn home<'a>(&'a self, tunnel: &'a Tunnel) -> Home<'a> {
        Home { namespace: &self.namespace, owner: &self.owner_id, tunnel }
    }
}
