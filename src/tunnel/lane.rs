//! A lane: one Machine with frps and the one frpc pinned to it, and the generation that says what it was made from.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::{Ask, names};
use crate::config::{LaneConfig, PodFile};
use crate::service::annotations::Resources;
use crate::service::machine_size::MachineSize;

/// The format of the frp configuration that render writes. Raise it only where a lane made before would be wrong: it
/// moves every tunnel.
const FORMAT: u32 = 1;

/// Everything that a lane is made from. Lanes are immutable: where any of it changes, lanes of a new generation take
/// over from those of the old.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub ports: Vec<u16>,
    pub cluster_ip: IpAddr,
    pub region: String,
    pub size: MachineSize,
    pub resources: Resources,
    /// Where frpc dials: the App's address.
    pub address: Ipv4Addr,
    /// Fingerprint of the keys of both sides.
    pub keys: String,
    pub frps_image: String,
    pub frpc_image: String,
    pub frpc_pod: PodFile,
    pub service_checks: bool,
}

impl Recipe {
    pub fn new(ask: &Ask, config: &LaneConfig, address: Ipv4Addr, keys: &str) -> Recipe {
        Recipe {
            ports: ask.ports.clone(),
            cluster_ip: ask.cluster_ip,
            region: ask.region.clone(),
            size: ask.size,
            resources: ask.resources.clone(),
            address,
            keys: keys.to_owned(),
            frps_image: config.frps_image.clone(),
            frpc_image: config.frpc_image.clone(),
            frpc_pod: config.frpc_pod.clone(),
            service_checks: config.service_checks,
        }
    }

    /// Ten hex digits that differ wherever the recipe does. Destructured, so that a new field cannot be forgotten.
    pub fn generation(&self) -> String {
        let Recipe {
            ports,
            cluster_ip,
            region,
            size,
            resources: Resources { cpu_request, cpu_limit, memory_request, memory_limit },
            address,
            keys,
            frps_image,
            frpc_image,
            frpc_pod,
            service_checks,
        } = self;
        #[derive(Serialize)]
        struct Hashed<'a>(
            (u32, &'a [u16], &'a IpAddr, &'a str, String, &'a Ipv4Addr, &'a str),
            (&'a str, &'a Option<String>, &'a str, &'a str),
            (&'a str, &'a str, &'a PodFile, bool),
        );
        let text = serde_json::to_string(&Hashed(
            (FORMAT, ports, cluster_ip, region, size.to_string(), address, keys),
            (cpu_request, cpu_limit, memory_request, memory_limit),
            (frps_image, frpc_image, frpc_pod, *service_checks),
        ))
        .expect("strings, numbers and JSON values always serialise");
        names::hash(&[&text], 10)
    }
}

/// A lane to be made: which one, by what recipe, and how its frpc reaches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub recipe: Recipe,
    pub generation: String,
    pub index: u8,
    /// The Machine's name.
    pub name: String,
    pub control_port: u16,
}

/// The first port from `base` that is not taken; after the last port the search goes on from 1024.
pub fn control_port(base: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    (base..=u16::MAX).chain(1024..base).find(|port| !taken(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            ports: vec![80, 443],
            cluster_ip: "10.96.0.7".parse().expect("an address"),
            region: "ord".into(),
            size: MachineSize::parse("shared-cpu-1x").expect("a size"),
            resources: Resources::default(),
            address: "192.0.2.1".parse().expect("an address"),
            keys: "k1".into(),
            frps_image: "frps:1".into(),
            frpc_image: "frpc:1".into(),
            frpc_pod: PodFile::default(),
            service_checks: true,
        }
    }

    #[test]
    fn every_part_of_the_recipe_makes_another_generation() {
        type Edit = fn(&mut Recipe);
        let edits: &[Edit] = &[
            |_| (),
            |r| r.ports.push(8080),
            |r| r.cluster_ip = "10.96.0.8".parse().expect("an address"),
            |r| r.region = "ord,iad".into(),
            |r| r.size = MachineSize::parse("shared-cpu-2x").expect("a size"),
            |r| r.resources.cpu_request = "20m".into(),
            |r| r.resources.cpu_limit = Some("1".into()),
            |r| r.resources.memory_request = "64Mi".into(),
            |r| r.resources.memory_limit = "256Mi".into(),
            |r| r.address = "192.0.2.2".parse().expect("an address"),
            |r| r.keys = "k2".into(),
            |r| r.frps_image = "frps:2".into(),
            |r| r.frpc_image = "frpc:2".into(),
            |r| r.frpc_pod.priority_class_name = Some("high".into()),
            |r| r.service_checks = false,
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

    #[test]
    fn a_generation_never_changes_by_an_upgrade_alone() {
        assert_eq!(recipe().generation(), "06f9ca178b", "if this is on purpose, raise FORMAT and pin the new value");
    }

    #[test]
    fn control_ports_are_the_first_free() {
        assert_eq!(control_port(7000, |_| false), Some(7000));
        assert_eq!(control_port(7000, |port| port < 7003), Some(7003));
        assert_eq!(control_port(65535, |port| port == 65535), Some(1024));
        assert_eq!(control_port(7000, |_| true), None);
    }
}
