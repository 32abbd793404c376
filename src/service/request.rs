//! A Service becomes a request for a tunnel, or a refusal that says what to change.

use std::net::IpAddr;
use std::sync::Arc;

use super::port::Port;
use super::settings::ServiceSettings;
use super::{Service, ServicePort, annotations};

/// The wish of a Service, checked, with the operator's own settings where it is silent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Ascending, each once.
    pub ports: Vec<Port>,
    pub cluster_ip: IpAddr,
    /// Services whose annotations are silent share the operator's own.
    pub settings: Arc<ServiceSettings>,
    /// Things that the Service asks for and no tunnel gives. It is served all the same.
    pub warnings: Vec<Warning>,
}

/// A thing that a Service asks for and no tunnel gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    SessionAffinity,
    LoadBalancerIp,
}

impl Warning {
    /// All of them.
    pub const ALL: [Warning; 2] = [Warning::SessionAffinity, Warning::LoadBalancerIp];

    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Warning::SessionAffinity => {
                "sessionAffinity: ClientIP sends all clients to one pod, since they all look like frpc"
            }
            Warning::LoadBalancerIp => "loadBalancerIP has no effect, since Fly chooses the address",
        }
    }
}

/// Why a Service cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The reason and what to do. A tunnel that already runs stays as it is.
    Invalid(String),
    /// It asks for a door that we cannot guard. A tunnel that already runs is closed and keeps its address.
    SourceRanges(String),
}

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// frpc below 0.66 can deadlock on a disconnect from about 100 proxies on (frp#5082, frp#4516).
const MOST_PORTS: usize = 90;

/// Reads what the Service asks for; `defaults` are the operator's own settings.
///
/// # Errors
/// The refusal; a request to close the door comes before anything else that is wrong.
pub fn read(service: &Service, defaults: &Arc<ServiceSettings>) -> Result<Wish, Refusal> {
    source_ranges(service)?;
    let settings = annotations::read(&service.metadata.annotations, defaults).map_err(Refusal::Invalid)?;
    if service.spec.internal_traffic_policy.as_deref() == Some("Local") {
        return invalid(
            "internalTrafficPolicy: Local is not served, as the node of frpc may have no endpoint; use Cluster",
        );
    }
    let mut ports = service.spec.ports.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return invalid("the Service has no ports");
    }
    if ports.len() > MOST_PORTS {
        return invalid(
            "the Service has more than 90 ports, with which frpc may lock up when it loses its server; part it in two",
        );
    }
    let Ok(cluster_ip) = service.spec.cluster_ip.parse() else {
        return invalid("the Service has no ClusterIP, which frpc hands its traffic to");
    };
    Ok(Wish { ports, cluster_ip, settings, warnings: warnings(service) })
}

fn warnings(service: &Service) -> Vec<Warning> {
    let spec = &service.spec;
    let asks_for = |warning: &Warning| match warning {
        Warning::SessionAffinity => spec.session_affinity.as_deref() == Some("ClientIP"),
        Warning::LoadBalancerIp => spec.load_balancer_ip.as_deref().is_some_and(|ip| !ip.is_empty()),
    };
    Warning::ALL.into_iter().filter(asks_for).collect()
}

fn invalid<T>(message: &str) -> Result<T, Refusal> {
    Err(Refusal::Invalid(message.to_owned()))
}

fn port(port: &ServicePort) -> Result<Port, Refusal> {
    match port.protocol.as_deref() {
        None | Some("TCP") => Ok(Port::tcp(port.port)),
        Some("UDP") => Err(Refusal::Invalid(format!(
            "port {}: this version serves TCP and not yet UDP; remove the port",
            port.port
        ))),
        Some(other) => {
            Err(Refusal::Invalid(format!("port {}: {other} cannot go through the tunnel; use TCP", port.port)))
        }
    }
}

/// Ranges that mean everybody count as unset.
fn source_ranges(service: &Service) -> Result<(), Refusal> {
    let annotated = service.metadata.annotations.get(SOURCE_RANGES);
    let ranges = service.spec.load_balancer_source_ranges.iter().map(String::as_str);
    let closed = ranges
        .chain(annotated.iter().flat_map(|list| list.split(',')))
        .map(str::trim)
        .find(|range| !matches!(*range, "" | "0.0.0.0/0" | "::/0"));
    match closed {
        None => Ok(()),
        Some(range) => Err(Refusal::SourceRanges(format!(
            "loadBalancerSourceRanges ({range}) cannot be enforced by the tunnel, so nothing is exposed; remove them to open it to everybody"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(edit: impl FnOnce(&mut Service)) -> Service {
        let mut service = Service::default();
        service.spec.cluster_ip = "10.96.0.7".into();
        service.spec.ports = vec![port("TCP", 443), port("TCP", 80)];
        edit(&mut service);
        service
    }

    fn port(protocol: &str, port: u16) -> ServicePort {
        ServicePort { protocol: Some(protocol.into()), port }
    }

    fn read(service: &Service) -> Result<Wish, Refusal> {
        super::read(service, &Arc::new(crate::examples::defaults()))
    }

    #[test]
    fn a_plain_service_is_a_request() {
        let wish = read(&service(|s| s.spec.load_balancer_source_ranges = vec!["0.0.0.0/0".into(), "::/0".into()]));
        let wish = wish.expect("served");
        assert_eq!(wish.ports, [80, 443].map(Port::tcp));
        assert_eq!(wish.cluster_ip.to_string(), "10.96.0.7");
        assert_eq!(wish.warnings, []);
    }

    #[test]
    fn what_no_tunnel_gives_is_served_with_a_warning() {
        let wish = read(&service(|s| {
            s.spec.session_affinity = Some("ClientIP".into());
            s.spec.load_balancer_ip = Some("192.0.2.1".into());
        }));
        assert_eq!(wish.expect("served").warnings, Warning::ALL);
        let none = read(&service(|s| s.spec.session_affinity = Some("None".into())));
        assert_eq!(none.expect("served").warnings, []);
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_what_to_do() {
        type Edit = fn(&mut Service);
        let table: [(Edit, &str); 8] = [
            (|s| s.spec.ports = (1..=91).map(|number| port("TCP", number)).collect(), "more than 90 ports"),
            (|s| s.spec.ports.push(port("UDP", 53)), "port 53: this version serves TCP and not yet UDP"),
            (|s| s.spec.ports.push(port("SCTP", 9)), "port 9: SCTP cannot"),
            (|s| s.spec.ports.clear(), "no ports"),
            (|s| s.spec.cluster_ip = "None".into(), "no ClusterIP"),
            (|s| s.spec.internal_traffic_policy = Some("Local".into()), "use Cluster"),
            (|s| s.metadata.annotations.extend([("fly-tunnel-operator.dev/replicas".into(), "6".into())]), "replicas"),
            (|s| s.spec.load_balancer_source_ranges = vec!["10.0.0.0/8".into()], "10.0.0.0/8"),
        ];
        for (edit, expected) in table {
            let (Refusal::Invalid(message) | Refusal::SourceRanges(message)) =
                read(&service(edit)).expect_err("refused");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn closing_the_door_comes_before_any_other_refusal() {
        let refusal = read(&service(|s| {
            s.metadata.annotations.insert(SOURCE_RANGES.into(), "0.0.0.0/0, 192.0.2.0/24".into());
            s.spec.ports.push(port("UDP", 53));
        }));
        assert!(matches!(refusal, Err(Refusal::SourceRanges(message)) if message.contains("192.0.2.0/24")));
    }
}
