//! The wishes of users: the Service as the API server shows it, and the meaning of its annotations.

pub mod annotations;
pub mod machine_size;
pub mod port;
pub mod quantity;
pub mod request;
pub mod settings;

use std::fmt;
use std::net::IpAddr;

pub use kube_client_lite::{Condition as StatusCondition, ObjectMeta};
use serde::{Deserialize, Deserializer};

/// Type of our condition in `.status.conditions`.
pub const CONDITION: &str = "fly-tunnel-operator.dev/Ready";

/// Names a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceId {
    /// The ID of the object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> ServiceId {
        ServiceId { namespace: metadata.namespace.clone(), name: metadata.name.clone() }
    }
}

/// A `core/v1` Service, as far as we read it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    #[serde(rename = "type")]
    pub kind: String,
    pub load_balancer_class: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub ports: Vec<ServicePort>,
    pub load_balancer_source_ranges: Vec<String>,
    pub internal_traffic_policy: Option<String>,
    pub session_affinity: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// `TCP` where it is left out.
    pub protocol: Option<String>,
    pub port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    pub load_balancer: LoadBalancer,
    pub conditions: Vec<StatusCondition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    pub ingress: Vec<Ingress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress {
    /// `None` for a host name, and for what is no address to Rust: Kubernetes once took `010.0.0.1`.
    #[serde(deserialize_with = "address")]
    pub ip: Option<IpAddr>,
    /// Whether kube-proxy answers for the address inside the cluster (`VIP`, and where it is not set) or not (`Proxy`).
    pub ip_mode: Option<Box<str>>,
}

impl Ingress {
    /// An address for which kube-proxy must not answer inside the cluster: frpc's own dial would never leave the node.
    pub fn proxy(ip: IpAddr) -> Ingress {
        Ingress { ip: Some(ip), ip_mode: Some(PROXY.into()) }
    }
}

/// The mode of every address that we show.
pub const PROXY: &str = "Proxy";

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

impl Service {
    pub fn id(&self) -> ServiceId {
        ServiceId::of(&self.metadata)
    }

    /// Whether that is its ID.
    pub fn is(&self, id: &ServiceId) -> bool {
        (&self.metadata.namespace, &self.metadata.name) == (&id.namespace, &id.name)
    }

    /// Whether it is a load balancer of this class, going or not.
    pub fn is_load_balancer(&self, class: &str) -> bool {
        self.spec.kind == "LoadBalancer" && self.spec.load_balancer_class.as_deref() == Some(class)
    }

    /// Whether a tunnel is wanted for it.
    pub fn wants_tunnel(&self, class: &str) -> bool {
        self.is_load_balancer(class) && !self.is_going()
    }

    /// Whether what we made for it is to be taken down.
    pub fn needs_cleanup(&self, class: &str, finalizer: &str) -> bool {
        self.has_finalizer(finalizer) && !self.wants_tunnel(class)
    }

    pub fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().any(|name| name == finalizer)
    }

    /// The addresses in its status.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip).collect()
    }

    /// Whether its status has these addresses and nothing else, as we write them.
    pub fn shows(&self, addresses: &[IpAddr]) -> bool {
        self.status.load_balancer.ingress.iter().eq(&addresses.iter().copied().map(Ingress::proxy).collect::<Vec<_>>())
    }

    /// Our condition in its status.
    pub fn condition(&self) -> Option<&StatusCondition> {
        self.status.conditions.iter().find(|condition| condition.r#type == CONDITION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_a_tunnel_and_who_a_cleanup() {
        let (ours, other) = (Some("a/lb"), Some("b/lb"));
        for (kind, class, going, finalizer, wants, cleanup) in [
            ("LoadBalancer", ours, false, false, true, false),
            ("LoadBalancer", ours, false, true, true, false),
            ("LoadBalancer", ours, true, true, false, true),
            ("LoadBalancer", ours, true, false, false, false),
            ("LoadBalancer", other, false, false, false, false),
            ("LoadBalancer", other, false, true, false, true),
            ("LoadBalancer", None, false, false, false, false),
            ("ClusterIP", None, false, true, false, true),
            ("ClusterIP", None, false, false, false, false),
        ] {
            let mut service = Service::default();
            service.spec.kind = kind.into();
            service.spec.load_balancer_class = class.map(Into::into);
            service.metadata.deletion_timestamp = going.then(|| "2026-01-01T00:00:00Z".into());
            service.metadata.finalizers = finalizer.then(|| "f".into()).into_iter().collect();
            let row = format!("{kind} {class:?} going {going} finalizer {finalizer}");
            assert_eq!(service.wants_tunnel("a/lb"), wants, "{row}");
            assert_eq!(service.needs_cleanup("a/lb", "f"), cleanup, "{row}");
        }
    }
}
