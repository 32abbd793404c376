//! Services become the tunnels that they want.

use crate::service::request::{self, Refusal};
use crate::service::{Service, annotations};

use super::names::{self, Owner};
use super::settings::Settings;
use super::{Member, Tunnel, TunnelId, Wanted};

/// How a Service becomes a tunnel: [`tunnel`] or [`drained_tunnel`].
pub type Desire = fn(&Service, &Owner, &Settings) -> Option<Tunnel>;

/// The tunnel of this Service; `None` for one that is none of our business.
pub fn tunnel(service: &Service, owner: &Owner, settings: &Settings) -> Option<Tunnel> {
    let wanted = if service.wants_tunnel(&owner.class) {
        wanted(service, settings)
    } else if service.needs_cleanup(&owner.class, &settings.finalizer) || shows_only_our_condition(service) {
        Wanted::Removed
    } else {
        return None;
    };
    let id = service.id();
    let tunnel = without_members(TunnelId::of(&id), owner);
    let is_load_balancer = service.is_load_balancer(&owner.class);
    let member = Member { id, is_load_balancer, wanted, legacy: annotations::legacy(&service.metadata.annotations) };
    Some(Tunnel { members: vec![member], ..tunnel })
}

/// A tunnel of which no Service is left: all of it is to go.
pub fn without_members(id: TunnelId, owner: &Owner) -> Tunnel {
    let app = owner.app(&id);
    let network = owner.network(&app);
    Tunnel { id, app, network, members: Vec::new() }
}

/// The tunnel of this Service before an uninstall: all of it is to go. `None` where nothing was ever made or shown for the
/// Service.
pub fn drained_tunnel(service: &Service, owner: &Owner, settings: &Settings) -> Option<Tunnel> {
    let mut tunnel = tunnel(service, owner, settings)?;
    if *tunnel.wanted() == Wanted::Removed {
        return Some(tunnel);
    }
    let touched =
        service.has_finalizer(&settings.finalizer) || service.condition().is_some() || !service.addresses().is_empty();
    for member in &mut tunnel.members {
        member.wanted = Wanted::Drained;
    }
    touched.then_some(tunnel)
}

/// Whether it is no load balancer any more, no operator's finalizer is on it, and our condition is. Such a Service was refused, say, so that
/// it never had a finalizer; or somebody took that off.
fn shows_only_our_condition(service: &Service) -> bool {
    let is_any_operators =
        service.spec.kind == "LoadBalancer" || service.metadata.finalizers.iter().any(|name| names::is_finalizer(name));
    !is_any_operators && service.condition().is_some()
}

fn wanted(service: &Service, settings: &Settings) -> Wanted {
    match request::read(service, &settings.defaults) {
        Ok(wish) => Wanted::Served(Box::new(wish)),
        Err(Refusal::Invalid(message)) => Wanted::Refused { message, close: false },
        Err(Refusal::SourceRanges(message)) => Wanted::Refused { message, close: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use crate::tunnel::condition::{Condition, Shown};
    use crate::tunnel::names::finalizer;

    #[test]
    fn what_a_service_that_has_our_condition_is_to_us() {
        const OTHERS: &str = "example.com/lb";
        let (owner, settings) = (examples::owner(), examples::settings());
        let ours = owner.class.as_str();
        for (kind, class, guarded_by, removed) in [
            ("ClusterIP", None, None, true),
            ("ClusterIP", None, Some(ours), true),
            ("ClusterIP", None, Some(OTHERS), false),
            ("LoadBalancer", Some(OTHERS), Some(ours), true),
            ("LoadBalancer", Some(OTHERS), None, false),
            ("LoadBalancer", None, None, false),
        ] {
            let mut service = examples::service();
            examples::show(&mut service, &Shown::new(Vec::new(), Condition::invalid_service("it is bad")));
            service.spec.kind = kind.into();
            service.spec.load_balancer_class = class.map(Into::into);
            service.metadata.finalizers = guarded_by.map(finalizer).into_iter().collect();
            let wanted = tunnel(&service, &owner, &settings).map(|tunnel| tunnel.wanted().clone());
            let expected = removed.then_some(Wanted::Removed);
            assert_eq!(wanted, expected, "{kind} {class:?}, guarded by {guarded_by:?}");
        }
    }
}
