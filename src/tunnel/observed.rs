//! What is: the Service, Fly and the cluster as they were last seen.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use crate::service::Service;
use crate::service::machine_size::MachineSize;
use crate::tunnel::keys::TunnelKeys;

/// One look at everything that concerns a tunnel. What was not looked at yet is `None`.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// `None`: the Service is gone. Boxed, as a thousand settled tunnels have none.
    pub service: Option<Box<Service>>,
    pub app: Option<App>,
    /// The organisation's list of Apps, which has none of the wanted name. Looked at before an absence costs something.
    pub unlisted: Option<Unlisted>,
    pub objects: Option<Objects>,
}

/// The Fly App of the wanted name.
#[derive(Clone, Debug)]
pub enum App {
    /// Fly answers 404. It says so for a while also of an App that was just made.
    Absent,
    /// Somebody else's: who, for people.
    Foreign(String),
    Ours(OurApp),
}

#[derive(Clone, Debug, Default)]
pub struct Unlisted {
    /// Another App, named after the same Service, that has an address which the Service shows.
    pub holder: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct OurApp {
    pub addresses: Vec<Address>,
    pub machines: Vec<Machine>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    /// A dedicated IPv4, the kind that is billed and that a tunnel lives on.
    pub dedicated: bool,
    /// RFC 3339, compared as text: Fly's times are all UTC.
    pub created_at: String,
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
    /// From our metadata; `None` for a Machine that somebody else put into the App. It is left alone.
    pub ours: Option<Ours>,
    /// `None` where Fly does not say it, or says what we do not know.
    pub size: Option<MachineSize>,
    /// External ports that it exposes.
    pub ports: Vec<u16>,
    /// Fly checks the ports of the Service.
    pub checked: bool,
    /// Internal ports whose TCP check passes.
    pub passing: Vec<u16>,
}

/// What our metadata says of a Machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    pub generation: String,
    pub lane: u8,
    pub control_port: u16,
    pub draining_since: Option<SystemTime>,
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

    /// The ports of the Service that it was made for.
    pub fn user_ports(&self) -> impl Iterator<Item = u16> {
        let control = self.ours.as_ref().map(|ours| ours.control_port);
        self.ports.iter().copied().filter(move |port| Some(*port) != control)
    }
}

impl Observed {
    /// Whether users who reach this Machine reach the backend: it runs, and Fly's check passes on each port of the
    /// Service. Without checks: it runs, and its frpc is available.
    pub fn serves(&self, machine: &Machine) -> bool {
        let reached = match machine.checked {
            true => machine.user_ports().all(|port| machine.passing.contains(&port)),
            false => self.deployment(&machine.id).is_some_and(|deployment| deployment.available),
        };
        machine.state == State::Started && machine.host_ok && reached
    }

    /// The App, if it was looked at and is ours.
    pub fn our_app(&self) -> Option<&OurApp> {
        match &self.app {
            Some(App::Ours(app)) => Some(app),
            _ => None,
        }
    }

    /// The same, to take down what became of it.
    pub fn our_app_mut(&mut self) -> Option<&mut OurApp> {
        match &mut self.app {
            Some(App::Ours(app)) => Some(app),
            _ => None,
        }
    }

    /// Takes down what became of one Machine.
    pub fn change_machine(&mut self, id: &str, edit: impl Fn(&mut Machine)) {
        let machines = self.our_app_mut().into_iter().flat_map(|app| &mut app.machines);
        machines.filter(|machine| machine.id == id).for_each(edit);
    }

    /// Takes down since when a Machine is draining.
    pub fn mark_draining(&mut self, id: &str, since: Option<SystemTime>) {
        self.change_machine(id, |machine| {
            if let Some(ours) = &mut machine.ours {
                ours.draining_since = since;
            }
        });
    }

    /// Our objects, to take down what became of them.
    pub fn objects_mut(&mut self) -> &mut Objects {
        self.objects.get_or_insert_default()
    }

    /// Takes down how a Machine is now.
    pub fn replace_machine(&mut self, machine: Machine) {
        if let Some(app) = self.our_app_mut() {
            app.machines.retain(|known| known.id != machine.id);
            app.machines.push(machine);
        }
    }

    pub fn deployment(&self, machine: &str) -> Option<&Deployment> {
        self.objects.as_ref()?.deployments.iter().find(|deployment| deployment.object.machine == machine)
    }

    /// The addresses that the Service shows.
    pub fn shown(&self) -> Vec<IpAddr> {
        self.service.as_deref().map(Service::addresses).unwrap_or_default()
    }
}

/// Our objects of this tunnel in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Complete ones only, the oldest first.
    pub keys: Vec<KeysSecret>,
    /// Names of Secrets that lack a key or hold what is none.
    pub broken_keys: Vec<String>,
    pub config_maps: Vec<LaneObject>,
    pub deployments: Vec<Deployment>,
    /// Apps that objects of another owner name for this very Service. Neither these nor the Apps are ours to touch.
    pub other_apps: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub struct KeysSecret {
    pub name: String,
    pub keys: TunnelKeys,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneObject {
    pub name: String,
    /// ID of the Machine that it belongs to.
    pub machine: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub object: LaneObject,
    /// `metadata.generation`: it moves with each change of the spec.
    pub version: i64,
    /// A pod of its current spec is available.
    pub available: bool,
}

impl OurApp {
    /// The address that the tunnel lives on: of several, the one that the Service shows, else the oldest.
    pub fn address(&self, shown: &[IpAddr]) -> Option<Ipv4Addr> {
        let dedicated = || self.addresses.iter().filter(|address| address.dedicated);
        let kept = dedicated().find(|address| shown.contains(&address.ip));
        let kept = kept.or_else(|| dedicated().min_by(|a, b| a.created_at.cmp(&b.created_at)))?;
        match kept.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }
}
