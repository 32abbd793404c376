//! Services become the tunnels that they want.

use crate::config::LaneConfig;
use crate::service::request::{self, Refusal};
use crate::service::{Service, annotations};

use super::names::Owner;
use super::{Ask, Tunnel, TunnelId, Wanted};

/// The tunnel of this Service; `None` for one that is none of our business.
pub fn tunnel(service: &Service, owner: &Owner, finalizer: &str, defaults: &LaneConfig) -> Option<Tunnel> {
    let wanted = match () {
        () if service.wants_tunnel(&owner.class) => wanted(service, defaults),
        () if service.needs_cleanup(&owner.class, finalizer) => Wanted::Removed,
        () => return None,
    };
    let id = TunnelId { namespace: service.metadata.namespace.clone(), name: service.metadata.name.clone() };
    Some(Tunnel { wanted, legacy: annotations::legacy(&service.metadata.annotations), ..removed(id, owner) })
}

/// What becomes of a tunnel before an uninstall; `None` where nothing was ever made or shown for its Service.
pub fn drained(tunnel: Tunnel, service: &Service, finalizer: &str) -> Option<Tunnel> {
    let touched = service.has_finalizer(finalizer) || service.condition().is_some() || !service.addresses().is_empty();
    match tunnel.wanted {
        Wanted::Removed => Some(tunnel),
        _ => touched.then_some(Tunnel { wanted: Wanted::Drained, ..tunnel }),
    }
}

/// The tunnel of a Service that is not there any more.
pub fn removed(id: TunnelId, owner: &Owner) -> Tunnel {
    let app = owner.app(&id.namespace, &id.name);
    let network = owner.network(&app);
    Tunnel { id, app, network, wanted: Wanted::Removed, legacy: None }
}

fn wanted(service: &Service, defaults: &LaneConfig) -> Wanted {
    match request::read(service) {
        Ok(request) => Wanted::Served(Ask {
            ports: request.ports,
            cluster_ip: request.cluster_ip,
            region: request.annotations.region.unwrap_or_else(|| defaults.region.clone()),
            size: request.annotations.size.unwrap_or(defaults.size),
            resources: request.annotations.resources,
            warnings: request.warnings,
        }),
        Err(Refusal::Invalid(message)) => Wanted::Refused { message, close: false },
        Err(Refusal::SourceRanges(message)) => Wanted::Refused { message, close: true },
    }
}
