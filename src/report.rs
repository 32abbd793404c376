//! Tells people: an event and a log line for each condition that changed. So nothing is said twice, also after a
//! restart, and nothing in the steady state.

use kube_client_lite::lease::Permit;
use kube_client_lite::{Event, EventType, ObjectReference};

use crate::service::Service;
use crate::tunnel::plan::{Reason, Shown};
use crate::world::World;

/// Who says so, in events.
const COMPONENT: &str = "fly-tunnel-operator";

impl World {
    /// The Service shows something new.
    pub fn report(&self, before: &Service, shown: &Shown, permit: &Permit) {
        let (namespace, name) = (&before.metadata.namespace, &before.metadata.name);
        let app = self.owner.app(namespace, name);
        match shown.reason.is_failure() {
            true => log::warn!(namespace, name, app; "{}: {}", shown.reason, shown.message),
            false => log::info!(namespace, name, app; "{}: {}", shown.reason, shown.message),
        }
        if let Some((kind, reason)) = event(before.condition().map(|condition| condition.reason.as_str()), shown.reason)
        {
            self.post(before, kind, reason, &shown.message, permit);
        }
    }

    /// The tunnel is gone, and the finalizer with it.
    pub fn report_deleted(&self, service: &Service, permit: &Permit) {
        self.post(
            service,
            EventType::Normal,
            "DeletedLoadBalancer",
            "the tunnel is gone, and nothing of it is left at Fly",
            permit,
        );
    }

    /// Best effort: a namespace that is being deleted refuses events, and the work goes on.
    fn post(&self, service: &Service, r#type: EventType, reason: &str, message: &str, permit: &Permit) {
        if !permit.holds() {
            return;
        }
        let involved_object = &ObjectReference::new("v1", "Service", &service.metadata);
        let event = Event { involved_object, r#type, reason, message, component: COMPONENT };
        if let Err(error) = self.kube.create_event(&event) {
            log::debug!("an event was not written: {error}");
        }
    }
}

/// The event of a condition's change, by the service controller's own reasons.
fn event(before: Option<&str>, now: Reason) -> Option<(EventType, &'static str)> {
    let was = |reason: Reason| before == Some(&reason.to_string());
    Some(match now {
        reason if reason.is_failure() => (EventType::Warning, "SyncLoadBalancerFailed"),
        Reason::Provisioning if before.is_none() => (EventType::Normal, "EnsuringLoadBalancer"),
        Reason::Serving if was(Reason::Updating) => (EventType::Normal, "UpdatedLoadBalancer"),
        Reason::Serving => (EventType::Normal, "EnsuredLoadBalancer"),
        Reason::Deleting if !was(Reason::Deleting) => (EventType::Normal, "DeletingLoadBalancer"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_its_event() {
        for (before, now, expected) in [
            (None, Reason::Provisioning, Some("EnsuringLoadBalancer")),
            (Some("FlyUnavailable"), Reason::Provisioning, None),
            (Some("Provisioning"), Reason::Serving, Some("EnsuredLoadBalancer")),
            (Some("Serving"), Reason::Updating, None),
            (Some("Updating"), Reason::Serving, Some("UpdatedLoadBalancer")),
            (Some("Serving"), Reason::FlyUnavailable, Some("SyncLoadBalancerFailed")),
            (Some("Serving"), Reason::Deleting, Some("DeletingLoadBalancer")),
            (Some("Deleting"), Reason::Deleting, None),
        ] {
            assert_eq!(event(before, now).map(|(_, reason)| reason), expected, "{before:?} → {now}");
        }
    }
}
