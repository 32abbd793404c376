//! The domain: what a tunnel should be, what it is, and what to do about the difference. Pure: no I/O, no clock.
//!
//! ```text
//! Services ──desired──► Tunnel ──┐
//!                                ├─plan──► Look, Act(steps), Wait or Done, and what the Service shows
//! Fly + cluster ──────► Observed ┘
//! ```

pub mod desired;
pub mod imagine;
pub mod keys;
pub mod lane;
pub mod memory;
pub mod names;
pub mod observed;
pub mod plan;

use std::fmt;
use std::net::IpAddr;

use crate::service::annotations::Resources;
use crate::service::machine_size::MachineSize;

/// Which Service a tunnel serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What stands behind one public address: one Fly App, its addresses, its lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    pub id: TunnelId,
    /// Name of the Fly App.
    pub app: String,
    /// The App's private network, the proof that it is ours.
    pub network: String,
    pub wanted: Wanted,
    /// An annotation of the Go operator on the Service: as long as no App of ours exists, nothing is touched.
    pub legacy: Option<String>,
}

/// What a tunnel is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    Served(Ask),
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

impl Wanted {
    /// Whether all of it is to go.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Wanted::Removed | Wanted::Drained)
    }
}

/// What the Service asks for, with the operator's own settings where it is silent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// TCP ports, ascending.
    pub ports: Vec<u16>,
    pub cluster_ip: IpAddr,
    pub region: String,
    pub size: MachineSize,
    pub resources: Resources,
    /// What it asks for beside, that no tunnel gives. Served all the same.
    pub warnings: Vec<&'static str>,
}

impl Tunnel {
    /// What the Service asks for in vain.
    pub fn warnings(&self) -> &[&'static str] {
        match &self.wanted {
            Wanted::Served(ask) => &ask.warnings,
            Wanted::Refused { .. } | Wanted::Removed | Wanted::Drained => &[],
        }
    }
}
