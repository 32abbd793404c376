//! The domain: what a tunnel should be, what it is, and what to do about the difference. Pure: no I/O, no clock, no
//! randomness.
//!
//! ```text
//! Services ──desired──► Tunnel ──┐
//!                                ├─plan──► Look, Act(steps), Wait or Done, and what the Services show
//! Fly + cluster ──────► Observed ┘
//! ```

pub mod condition;
pub mod deeds;
pub mod desired;
pub mod deviations;
pub mod effect;
pub mod failure;
pub mod few;
pub mod hash;
pub mod imagine;
#[cfg(test)]
pub mod invariants;
mod kept;
pub mod keys;
pub mod lane;
pub mod machines;
pub mod memory;
pub mod names;
pub mod note;
pub mod now;
pub mod observed;
pub mod plan;
pub mod ready;
pub mod reason;
pub mod settings;
pub mod situation;
pub mod summary;

use std::fmt;

use crate::service::ServiceId;
use crate::service::request::{Warning, Wish};

/// Names a tunnel. The tunnel of one Service has that Service's namespace and name; a Service and its tunnel are two things
/// all the same, since a tunnel may come to serve several Services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId {
    pub namespace: String,
    pub name: String,
}

impl TunnelId {
    /// The tunnel that serves this Service alone.
    pub fn of(service: &ServiceId) -> TunnelId {
        TunnelId { namespace: service.namespace.clone(), name: service.name.clone() }
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All that stands behind one public address: one Fly App, its addresses, its lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    pub id: TunnelId,
    /// Name of the Fly App.
    pub app: String,
    /// The App's private network, the proof that it is ours.
    pub network: String,
    /// The Services of the tunnel: one as yet, and none where that Service is gone.
    /// A list, since a map has room for eleven at once: some 1.3 KiB for each of a thousand tunnels.
    pub members: Vec<Member>,
}

/// A Service of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub id: ServiceId,
    /// It is a load balancer of our class, going or not.
    pub is_load_balancer: bool,
    pub wanted: Wanted,
    /// An annotation of the Go operator on the Service: as long as no App of ours exists, nothing is touched.
    pub legacy: Option<String>,
}

/// A member wants this of its tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    Served(Box<Wish>),
    /// The Service cannot be served. What runs stays as it is, unless the door is to be closed.
    Refused {
        message: String,
        close: bool,
    },
    /// The Service is going, or is no load balancer of ours any more.
    Removed,
    /// The Service stays, and shows nothing any more: nobody will serve it.
    Drained,
}

impl Tunnel {
    /// The wish of the tunnel's member. Without a member, all of the tunnel is to go.
    pub fn wanted(&self) -> &Wanted {
        self.member().map_or(&Wanted::Removed, |member| &member.wanted)
    }

    /// Whether all of it is to go.
    pub fn is_to_go(&self) -> bool {
        matches!(self.wanted(), Wanted::Removed | Wanted::Drained)
    }

    /// How many lanes its Service asks for. One that is refused or goes asks for none.
    pub fn lanes(&self) -> u8 {
        if let Wanted::Served(wish) = self.wanted() { wish.settings.replicas } else { 0 }
    }

    /// An annotation of the Go operator on the tunnel's Service.
    pub fn legacy(&self) -> Option<&str> {
        self.member()?.legacy.as_deref()
    }

    /// Things that the Service asks for and no tunnel gives.
    pub fn warnings(&self) -> &[Warning] {
        match self.wanted() {
            Wanted::Served(wish) => &wish.warnings,
            Wanted::Refused { .. } | Wanted::Removed | Wanted::Drained => &[],
        }
    }

    /// The one member that a tunnel has as yet.
    fn member(&self) -> Option<&Member> {
        self.members.first()
    }
}
