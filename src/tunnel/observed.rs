//! The Services, Fly and the cluster, as they were last seen.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use super::keys::TunnelKeys;
use super::lane::{Exposed, Lane, Recipe, SlotId};
use crate::service::machine_size::{Guest, MachineSize};
use crate::service::port::Port;
use crate::service::{Service, ServiceId};

/// One look at everything that concerns a tunnel. `None` stands for a part that nobody looked at yet.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The members that exist. A list, since a map has room for eleven at once: some 4 KiB for each tunnel that is worked on.
    pub services: Vec<Service>,
    pub app: Option<App>,
    /// The organisation's list of Apps confirms that the App is absent. It is looked at before an absence costs something.
    pub absence: Option<Absence>,
    pub objects: Option<Objects>,
    /// Whether the cluster says that an frpc of the tunnel is connected to its Machine. It is looked at where Fly cannot be asked.
    pub frpc_connected: Option<bool>,
}

/// The Fly App of the wanted name.
#[derive(Clone, Debug)]
pub enum App {
    /// Fly answers 404. It says so for a while also of an App that was just made.
    Absent,
    /// Somebody else's. The text says whose, for people.
    Foreign(String),
    Ours(OurApp),
}

/// The organisation's list has no App of the wanted name.
#[derive(Clone, Debug, Default)]
pub struct Absence {
    /// Another App, named after the same tunnel, that has an address which the Service shows.
    pub holder: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct OurApp {
    pub addresses: Vec<Address>,
    pub machines: Vec<Machine>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
}

/// An address of the App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    /// A dedicated address, the only kind that a tunnel can live on. Fly bills each that is IPv4.
    pub dedicated: bool,
    /// RFC 3339, compared as text: Fly's times are all UTC.
    pub created_at: String,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Family::V4 => f.write_str("IPv4"),
        }
    }
}

impl Address {
    /// Whether a tunnel can live on it as its address of this family.
    pub fn serves(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.dedicated && self.ip.is_ipv4(),
        }
    }
}

/// A Machine of the App, as far as a plan cares.
#[derive(Clone, Debug)]
pub struct Machine {
    pub id: String,
    pub name: String,
    pub state: State,
    /// Fly reaches the host that it runs on.
    pub host_ok: bool,
    pub cordoned: bool,
    pub created_at: String,
    /// Empty where Fly does not say it.
    pub region: String,
    /// The host that it runs on, as far as its address tells: two Machines with the same are lost together.
    pub host: Option<u32>,
    /// From our metadata; `None` for a Machine that somebody else put into the App. It is left alone.
    pub ours: Option<Ours>,
    /// It changes with each change of the Machine's configuration; empty where Fly does not say it.
    pub version: String,
    /// The image, and the command where it is not frps'. Empty where Fly does not say it.
    pub image: String,
    /// `None` where Fly does not say it.
    pub guest: Option<Guest>,
    /// The ports that it exposes, the control port among them.
    pub exposed: Vec<Exposed>,
    /// Everything else of it that is not as it was made, for people.
    pub edits: Vec<String>,
    /// Ports at which Fly's check finds somebody who listens.
    pub passing: Vec<Port>,
    /// Whether Fly's check through the tunnel passes; `None` where it has none.
    pub probe_passes: Option<bool>,
}

/// The things that we wrote on a Machine of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    pub generation: String,
    pub slot: SlotId,
    pub control_port: u16,
    pub probe_port: Option<u16>,
    pub pool: u16,
    /// Since when it is cordoned for good and its connections are given time to end.
    pub retiring_since: Option<SystemTime>,
    /// A hash of how Fly wrote it otherwise than as it was asked for, see [`super::deviations::spelling`].
    pub spelling: Option<String>,
    /// The recipe that it was made from, as JSON; `None` for a lane that an older version made.
    pub recipe: Option<Box<str>>,
}

impl Ours {
    /// The lane that a Machine of this name says it is. `None` where it does not tell, or an older version made it and hashed it in
    /// another way.
    pub fn lane(&self, name: &str) -> Option<Lane> {
        let text = self.recipe.as_deref().filter(|text| Recipe::generation_of(text) == self.generation)?;
        let recipe = Recipe::read(text)?;
        let (generation, name) = (self.generation.clone(), name.to_owned());
        let Ours { slot, control_port, probe_port, pool, .. } = *self;
        Some(Lane { slot, recipe, generation, name, control_port, probe_port, pool })
    }
}

/// Fly's states, by what can be done about them (docs: machines/machine-states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Started,
    /// On its way: created, starting, restarting, updating and so on.
    Pending,
    /// Stopped or suspended: with autostart off nobody but us starts it again.
    Stopped,
    /// Failed: it will not come by itself.
    Failed,
    /// Destroying or destroyed.
    Gone,
}

impl Machine {
    pub fn exists(&self) -> bool {
        self.state != State::Gone
    }

    /// The preset of its size; `None` where Fly does not say it, or says what we do not know.
    pub fn size(&self) -> Option<MachineSize> {
        self.guest.as_ref().and_then(MachineSize::of)
    }

    /// Whether it exposes this port.
    pub fn exposes(&self, port: Port) -> bool {
        self.exposed.iter().any(|exposed| exposed.port == port)
    }

    /// Whether Fly checks the ports of the Service.
    pub fn is_checked(&self) -> bool {
        self.exposed.iter().any(|exposed| exposed.checked)
    }

    /// The ports of the Service that it exposes.
    pub fn user_ports(&self) -> impl Iterator<Item = Port> {
        let control = self.ours.as_ref().map(|ours| Port::tcp(ours.control_port));
        self.exposed.iter().map(|exposed| exposed.port).filter(move |port| Some(*port) != control)
    }
}

/// Our objects of this tunnel in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Complete ones only, the oldest first.
    pub keys: Vec<KeysSecret>,
    /// Names of Secrets that lack a key, hold what is none, or are not named after their keys.
    pub useless_keys: Vec<String>,
    pub config_maps: Vec<ConfigMap>,
    pub deployments: Vec<Deployment>,
    /// Objects that carry a lane's labels, under another name than we give or with another content: somebody's copies.
    pub copies: Copies,
    /// Apps that objects of another owner name for this very Service. Neither these nor the Apps are ours to touch.
    pub other_apps: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub struct KeysSecret {
    pub name: String,
    pub keys: TunnelKeys,
    /// Another one of the same name has another.
    pub uid: String,
    /// It has the labels by which it is found. Without them it was found by its name.
    pub labelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneObject {
    pub name: String,
    /// ID of the Machine that it belongs to.
    pub machine: String,
}

/// Names of copies.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    pub config_maps: Vec<String>,
    pub deployments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    pub object: LaneObject,
    /// The slot of its lane.
    pub slot: SlotId,
    /// The recipe of its lane, as JSON; `None` for a lane that an older version made.
    pub recipe: Option<Box<str>>,
    /// RFC 3339.
    pub created_at: String,
    /// Another one of the same name has another.
    pub uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub object: LaneObject,
    /// `metadata.generation`: it moves with each change of the spec.
    pub version: i64,
    /// A pod of its current spec is available.
    pub available: bool,
    /// Why the cluster does not run it, in the cluster's own words; `None` where nothing is known to be wrong.
    pub trouble: Option<String>,
    /// Somebody else wrote a field of its spec.
    pub foreign: bool,
}

impl Observed {
    /// A tunnel of which nothing was looked at yet but its members.
    pub fn members(services: impl IntoIterator<Item = Service>) -> Observed {
        Observed { services: services.into_iter().collect(), ..Observed::default() }
    }

    /// The Service of the one member that a tunnel has as yet.
    pub fn service(&self) -> Option<&Service> {
        self.services.first()
    }

    /// The Service of this member, if it exists.
    pub fn member(&self, id: &ServiceId) -> Option<&Service> {
        self.services.iter().find(|service| service.is(id))
    }

    /// A member is now like this.
    pub fn put_member(&mut self, service: Service) {
        let id = service.id();
        self.services.retain(|known| !known.is(&id));
        self.services.push(service);
    }

    /// The App, if it was looked at and is ours.
    pub fn our_app(&self) -> Option<&OurApp> {
        match &self.app {
            Some(App::Ours(app)) => Some(app),
            Some(App::Absent | App::Foreign(_)) | None => None,
        }
    }

    pub fn deployment(&self, machine: &str) -> Option<&Deployment> {
        self.objects.as_ref()?.deployments.iter().find(|deployment| deployment.object.machine == machine)
    }

    /// The addresses that the Service shows.
    pub fn shown_addresses(&self) -> Vec<IpAddr> {
        self.service().map(Service::addresses).unwrap_or_default()
    }
}

impl OurApp {
    /// The address that the tunnel lives on: of several, the one that the Service shows, else the oldest.
    pub fn address(&self, shown: &[IpAddr]) -> Option<Ipv4Addr> {
        let candidates = || self.addresses.iter().filter(|address| address.serves(Family::V4));
        let kept = candidates().find(|address| shown.contains(&address.ip));
        let kept = kept.or_else(|| candidates().min_by(|a, b| a.created_at.cmp(&b.created_at)))?;
        match kept.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }
}
