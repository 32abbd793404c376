//! A lane: one Machine with frps and the one frpc pinned to it. The recipe is all that it is made from, and the generation is
//! the recipe's hash.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::hash::hash;
use super::settings::{PodFile, ServiceChecks, Settings};
use crate::service::port::Port;
use crate::service::request::Wish;
use crate::service::settings::{ForwardSettings, LaneSettings};

/// The format of the frp configuration that render writes. Raise it only where a lane made before would be wrong: it
/// moves every tunnel.
const FORMAT: u32 = 2;

/// Everything that a lane is made from. Lanes are immutable: where any of it changes, lanes of a new generation take
/// over from those of the old.
///
/// It is hashed by the names of its fields, and what is at its default is left out: a field that a later version adds
/// moves no lane that does not use it. So a new field has a default that means "as before" and skips it, and a default
/// never changes its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub forwards: Vec<Forward>,
    #[serde(flatten)]
    pub lane: LaneSettings,
    /// The App's address, which frpc dials.
    pub address: Ipv4Addr,
    /// Fingerprint of the keys of both sides.
    pub keys: String,
    pub frps_image: String,
    pub frpc_image: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub frpc_pod: PodFile,
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_checks: ServiceChecks,
}

/// A port, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub port: Port,
    /// The ClusterIP of the Service whose port it is. frpc hands the traffic to the same port there.
    pub to: IpAddr,
    #[serde(flatten)]
    pub settings: ForwardSettings,
}

impl Recipe {
    /// The recipe of a lane that serves this wish at this address, with keys of this fingerprint.
    pub fn new(wish: &Wish, settings: &Settings, address: Ipv4Addr, keys: &str) -> Recipe {
        let forward =
            |port: &Port| Forward { port: *port, to: wish.cluster_ip, settings: wish.settings.forward.clone() };
        Recipe {
            forwards: wish.ports.iter().map(forward).collect(),
            lane: wish.settings.lane.clone(),
            address,
            keys: keys.to_owned(),
            frps_image: settings.frps_image.clone(),
            frpc_image: settings.frpc_image.clone(),
            frpc_pod: settings.frpc_pod.clone(),
            service_checks: settings.service_checks,
        }
    }

    /// The same for the lane of that index: its list of regions begins elsewhere, so that the lanes spread over all of them.
    pub fn of_index(mut self, index: u8) -> Recipe {
        let mut regions: Vec<&str> = self.lane.region.split(',').collect();
        let first = usize::from(index) % regions.len();
        regions.rotate_left(first);
        self.lane.region = regions.join(",");
        self
    }

    /// Ten hex digits that differ wherever the recipe does.
    pub fn generation(&self) -> String {
        Recipe::generation_of(&self.to_text())
    }

    /// The generation of the recipe whose [`Recipe::to_text`] this is.
    pub fn generation_of(text: &str) -> String {
        hash(&[&FORMAT.to_string(), text], 10)
    }

    /// The recipe without what is at its default. Its keys are in alphabetical order, so the order of the fields here does
    /// not matter.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("strings, numbers and JSON values always serialise")
    }

    /// [`Recipe::to_json`] as text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(&self.to_json()).expect("JSON values always serialise")
    }

    /// Reads what [`Recipe::to_json`] gave. `None` where a later version wrote it, with fields that mean something new.
    pub fn read(json: &str) -> Option<Recipe> {
        let recipe: Recipe = serde_json::from_str(json).ok()?;
        let is_whole = || serde_json::from_str(json).is_ok_and(|whole: serde_json::Value| recipe.to_json() == whole);
        (recipe.to_text() == json || is_whole()).then_some(recipe)
    }

    /// Whether users reach this port through the lane.
    pub fn serves(&self, port: Port) -> bool {
        self.forwards.iter().any(|forward| forward.port == port)
    }

    /// The ports that a Machine of this recipe exposes. The control port has no check: frpc must get through as soon as frps
    /// listens.
    pub fn exposed(&self, control_port: u16) -> Vec<Exposed> {
        let exposed = |port: Port, checked| Exposed { port, internal: port.number, checked };
        let control = exposed(Port::tcp(control_port), false);
        let of_users =
            self.forwards.iter().map(|forward| exposed(forward.port, self.service_checks != ServiceChecks::Off));
        std::iter::once(control).chain(of_users).collect()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The place of a lane among those that a tunnel wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub kind: LaneKind,
    pub index: u8,
}

/// The kind of traffic that a lane carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKind {
    Tcp,
}

impl SlotId {
    /// The TCP lane of that index.
    pub const fn tcp(index: u8) -> SlotId {
        SlotId { kind: LaneKind::Tcp, index }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<SlotId> {
        text.parse().ok().map(SlotId::tcp)
    }
}

/// As Machines' names and metadata have it: the index of a TCP lane.
impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LaneKind::Tcp => write!(f, "{}", self.index),
        }
    }
}

/// A lane to be made: which one, by what recipe, and how its frpc reaches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub slot: SlotId,
    pub recipe: Recipe,
    pub generation: String,
    /// The Machine's name.
    pub name: String,
    pub control_port: u16,
    /// The port of frps behind which frpc answers Fly's check through the tunnel, if there is one. No Fly service exposes it.
    pub probe_port: Option<u16>,
    /// So many connections does its frpc keep ready.
    pub pool: u16,
}

/// Ready connections of all frpcs of a tunnel together, so that a user does not wait for one to be dialled; and what users that still
/// arrive at a cordoned lane live on.
pub const POOL: u16 = 50;

/// No lane has fewer, however many there are.
const SMALLEST_POOL: u16 = 10;

/// The part of a lane in the pool of a tunnel with so many lanes. It stays as it is when their number changes.
pub fn pool(replicas: u8) -> u16 {
    (POOL / u16::from(replicas.max(1))).max(SMALLEST_POOL)
}

/// The frpc of a lane whose Machine exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Frpc {
    pub lane: Lane,
    /// The Machine's ID.
    pub machine: String,
    /// Name of the Secret with the keys.
    pub secret: String,
}

/// The first port from `base` that is not taken; after the last port the search goes on from 1024.
pub fn free_port(base: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    (base..=u16::MAX).chain(1024..base).find(|port| !taken(*port))
}

/// A port of the App that leads to a Machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exposed {
    pub port: Port,
    /// The port in the Machine.
    pub internal: u16,
    /// Fly asks whether somebody listens there, and routes to it only then.
    pub checked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::recipe;
    use crate::service::machine_size::MachineSize;

    #[test]
    fn every_part_of_the_recipe_makes_another_generation() {
        type Edit = fn(&mut Recipe);
        let edits: &[Edit] = &[
            |_| (),
            |r| r.forwards.push(Forward { port: Port::tcp(8080), ..r.forwards[0].clone() }),
            |r| r.forwards[0].to = "10.96.0.8".parse().expect("an address"),
            |r| r.forwards[0].settings.bandwidth_limit = Some("2MB".into()),
            |r| r.lane.region = "ord,iad".into(),
            |r| r.lane.size = MachineSize::parse("shared-cpu-2x").expect("a size"),
            |r| r.lane.resources.cpu_request = "20m".into(),
            |r| r.lane.resources.cpu_limit = Some("1".into()),
            |r| r.lane.resources.memory_request = "64Mi".into(),
            |r| r.lane.resources.memory_limit = "256Mi".into(),
            |r| r.address = "192.0.2.2".parse().expect("an address"),
            |r| r.keys = "k2".into(),
            |r| r.frps_image = "frps:2".into(),
            |r| r.frpc_image = "frpc:2".into(),
            |r| r.frpc_pod.priority_class_name = Some("high".into()),
            |r| r.service_checks = ServiceChecks::Tcp,
        ];
        let mut generations: Vec<String> = edits
            .iter()
            .map(|edit| {
                let mut recipe = recipe();
                edit(&mut recipe);
                recipe.generation()
            })
            .collect();
        generations.sort();
        generations.dedup();
        assert_eq!(generations.len(), edits.len());
    }

    /// A field that is at its default is not among them, so a later version can add one and move no lane.
    #[test]
    fn a_generation_never_changes_by_an_upgrade_alone() {
        let hashed = r#"{"address":"192.0.2.1","forwards":[{"port":"80/tcp","to":"10.96.0.7"},{"port":"443/tcp","to":"10.96.0.7"}],"frpc_image":"frpc:1","frps_image":"frps:1","keys":"k1","region":"ord","resources":{"cpu_request":"10m","memory_limit":"128Mi","memory_request":"32Mi"},"size":"shared-cpu-1x"}"#;
        assert_eq!(recipe().to_text(), hashed);
        assert_eq!(recipe().generation(), "d41a3cbe80", "if this is on purpose, raise FORMAT and pin the new value");
    }

    #[test]
    fn each_lane_begins_the_list_of_regions_elsewhere() {
        let mut recipe = recipe();
        recipe.lane.region = "ord,iad,cdg".into();
        let region = |index| recipe.clone().of_index(index).lane.region;
        assert_eq!([0, 1, 2, 3].map(region), ["ord,iad,cdg", "iad,cdg,ord", "cdg,ord,iad", "ord,iad,cdg"]);
        recipe.lane.region = "ord".into();
        assert_eq!(recipe.clone().of_index(4), recipe);
    }

    #[test]
    fn lanes_share_the_pool() {
        assert_eq!([1, 2, 3, 4, 5].map(pool), [50, 25, 16, 12, 10]);
    }

    #[test]
    fn control_ports_are_the_first_free() {
        assert_eq!(free_port(7000, |_| false), Some(7000));
        assert_eq!(free_port(7000, |port| port < 7003), Some(7003));
        assert_eq!(free_port(65535, |port| port == 65535), Some(1024));
        assert_eq!(free_port(7000, |_| true), None);
    }

    #[test]
    fn slots_are_read_back_as_they_are_written() {
        let slot = SlotId::tcp(3);
        assert_eq!(SlotId::parse(&slot.to_string()), Some(slot));
        assert_eq!(SlotId::parse("x"), None);
    }
}
