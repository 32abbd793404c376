//! One example of each thing that tests begin with.

use std::sync::Arc;
use std::time::Duration;

use crate::service::machine_size::MachineSize;
use crate::service::port::Port;
use crate::service::settings::{ForwardSettings, LaneSettings, ServiceSettings};
use crate::service::{Service, ServicePort};
use crate::tunnel::condition::Shown;
use crate::tunnel::lane::{Forward, Recipe};
use crate::tunnel::names::{self, DEFAULT_CLASS, Owner};
use crate::tunnel::settings::{PodFile, ServiceChecks, Settings};
use crate::tunnel::{Tunnel, TunnelId, desired, imagine};

/// Random numbers that are the same in every run with one seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number from 0 to `end`, without `end` itself.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// True so often in a hundred times.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The default class in the cluster `home`.
pub fn owner() -> Owner {
    Owner { cluster_name: "home".into(), class: DEFAULT_CLASS.into() }
}

/// The settings of a Service without annotations.
pub fn defaults() -> ServiceSettings {
    let size = MachineSize::parse("shared-cpu-1x").expect("a size");
    let lane = LaneSettings::new("ord".into(), size);
    ServiceSettings { lane, forward: ForwardSettings::default(), replicas: 1 }
}

/// Settings as the flags' defaults have them, with shorter names of images.
pub fn settings() -> Settings {
    Settings {
        defaults: Arc::new(defaults()),
        frps_image: "frps:1".into(),
        frpc_image: "frpc:1".into(),
        frpc_pod: PodFile::default(),
        control_port_base: 7000,
        service_checks: ServiceChecks::Tunnel,
        settle_time: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(60),
        finalizer: names::finalizer(&owner().class),
    }
}

/// A Service `default/web` of [`owner`]'s class with port 443.
pub fn service() -> Service {
    let mut service = Service::default();
    service.metadata.namespace = "default".into();
    service.metadata.name = "web".into();
    service.spec.kind = "LoadBalancer".into();
    service.spec.load_balancer_class = Some(owner().class);
    service.spec.cluster_ip = "10.96.0.7".into();
    service.spec.ports = ports(&[443]);
    service
}

/// TCP ports of a Service.
pub fn ports(numbers: &[u16]) -> Vec<ServicePort> {
    numbers.iter().map(|port| ServicePort { protocol: None, port: *port }).collect()
}

/// The Service shows this.
pub fn show(service: &mut Service, shown: &Shown) {
    imagine::show(service, shown);
}

/// Names the tunnel of the Service `default/NAME`.
pub fn id(name: &str) -> TunnelId {
    TunnelId { namespace: "default".into(), name: name.into() }
}

/// The tunnel of a Service `default/NAME` that is gone.
pub fn removed(name: &str) -> Tunnel {
    desired::without_members(id(name), &owner())
}

/// The tunnel of [`service`].
pub fn tunnel() -> Tunnel {
    desired::tunnel(&service(), &owner(), &settings()).expect("it wants a tunnel")
}

/// A lane that serves ports 80 and 443.
pub fn recipe() -> Recipe {
    let to = "10.96.0.7".parse().expect("an address");
    let forward = |number| Forward { port: Port::tcp(number), to, settings: ForwardSettings::default() };
    Recipe {
        forwards: vec![forward(80), forward(443)],
        lane: defaults().lane,
        address: "192.0.2.1".parse().expect("an address"),
        keys: "k1".into(),
        frps_image: "frps:1".into(),
        frpc_image: "frpc:1".into(),
        frpc_pod: PodFile::default(),
        service_checks: ServiceChecks::Tunnel,
    }
}
