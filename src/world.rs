//! Fly and the cluster, and who we are in them: [`crate::observe`] and [`crate::act`] work on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::events::Events;
use crate::fly::Fly;
use crate::random::Random;
use crate::render::objects::Home;
use crate::service::Service;
use crate::tunnel::Tunnel;
use crate::tunnel::desired::Desire;
use crate::tunnel::names::Owner;
use crate::tunnel::settings::Settings;

/// Fly lets an organisation delete a hundred Apps a minute. We leave some of them to others.
const BETWEEN_DELETIONS: Duration = Duration::from_millis(750);

/// The two systems, and our place in them. All workers share it.
pub struct World {
    pub cluster: Arc<dyn Cluster>,
    pub fly: Box<dyn Fly>,
    pub events: Events,
    pub random: Box<dyn Random>,
    /// Where frpc and its Secrets live.
    pub namespace: String,
    pub owner: Owner,
    /// [`Owner::id`], computed once.
    pub owner_id: String,
    pub settings: Settings,
    /// How a Service becomes the tunnel that it wants, or that the goal of the process wants for it.
    pub desire: Desire,
    /// When the next App may be deleted.
    pub next_deletion: Mutex<Duration>,
}

impl World {
    /// The tunnel that the Service wants; `None` where it is none of our business.
    pub fn tunnel(&self, service: &Service) -> Option<Tunnel> {
        (self.desire)(service, &self.owner, &self.settings)
    }

    /// When the App of whoever asks now may be deleted. Nobody else gets that time.
    pub fn time_of_deletion(&self, now: Duration) -> Duration {
        let mut next = self.next_deletion.lock().unwrap_or_else(PoisonError::into_inner);
        let time = now.max(*next);
        *next = time + BETWEEN_DELETIONS;
        time
    }

    /// The tunnel's objects in the cluster.
    pub fn home<'a>(&'a self, tunnel: &'a Tunnel) -> Home<'a> {
        Home { namespace: &self.namespace, owner: &self.owner_id, tunnel }
    }
}
