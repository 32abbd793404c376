//! Tells people: an event and a log line for each condition that changed. So nothing is said twice, also after a
//! restart, and nothing in the steady state.

use kube_client_lite::EventType;
use kube_client_lite::lease::Permit;

use crate::service::Service;
use crate::tunnel::Tunnel;
use crate::tunnel::memory::{Memory, Told};
use crate::tunnel::plan::{Reason, Shown};
use crate::world::World;

impl World {
    /// The Service shows something new.
    pub fn report(&self, before: &Service, shown: &Shown, tunnel: &Tunnel, memory: &mut Memory, permit: &Permit) {
        let (namespace, name) = (&before.metadata.namespace, &before.metadata.name);
        let app = &tunnel.app;
        match shown.reason {
            // It shows one address less.
            Reason::Deleting if Reason::Deleting.is_shown_by(before) => {}
            reason if reason.is_failure() => log::warn!(namespace, name, app; "{reason}: {}", shown.message),
            reason => log::info!(namespace, name, app; "{reason}: {}", shown.message),
        }
        if let Some((kind, reason)) = event(before, shown, &memory.told) {
            self.events.post(before, kind, reason, &shown.message, permit);
        }
        for warning in new_warnings(before, shown, tunnel, &memory.told) {
            self.events.post(before, EventType::Warning, "LoadBalancerWarning", warning, permit);
        }
        memory.told = told(shown, tunnel, &memory.told);
    }

    /// The tunnel is gone, and the finalizer with it.
    pub fn report_deleted(&self, service: &Service, permit: &Permit) {
        self.events.post(
            service,
            EventType::Normal,
            "DeletedLoadBalancer",
            "the tunnel is gone, and nothing of it is left at Fly",
            permit,
        );
    }
}

/// The event of a condition's change, by the service controller's own reasons.
fn event(before: &Service, shown: &Shown, told: &Told) -> Option<(EventType, &'static str)> {
    let was = |reason: Reason| reason.is_shown_by(before);
    Some(match shown.reason {
        reason if reason.is_failure() => (EventType::Warning, "SyncLoadBalancerFailed"),
        Reason::Provisioning if before.condition().is_none() => (EventType::Normal, "EnsuringLoadBalancer"),
        Reason::Serving if was(Reason::Updating) => (EventType::Normal, "UpdatedLoadBalancer"),
        Reason::Serving if was(Reason::Serving) && before.addresses() == shown.addresses => return None,
        Reason::Serving => (EventType::Normal, "EnsuredLoadBalancer"),
        Reason::Deleting if !was(Reason::Deleting) && !told.deleting => (EventType::Normal, "DeletingLoadBalancer"),
        _ => return None,
    })
}

/// Those that the condition shows from now on, and that nobody was told yet.
fn new_warnings(before: &Service, shown: &Shown, tunnel: &Tunnel, told: &Told) -> Vec<&'static str> {
    let was_shown = |warning: &str| before.condition().is_some_and(|condition| condition.message.contains(warning));
    let mut warnings = tunnel.warnings().to_vec();
    warnings
        .retain(|warning| shown.message.contains(warning) && !was_shown(warning) && !told.warnings.contains(warning));
    warnings
}

/// What people know by now.
fn told(shown: &Shown, tunnel: &Tunnel, before: &Told) -> Told {
    let is_told = |warning: &&'static str| shown.message.contains(*warning) || before.warnings.contains(warning);
    let deleting = match shown.reason {
        Reason::Deleting => true,
        reason => reason.is_failure() && before.deleting,
    };
    Told { deleting, warnings: tunnel.warnings().iter().copied().filter(is_told).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::CONDITION;
    use crate::tunnel::names::Owner;
    use crate::tunnel::{TunnelId, desired};

    /// The events of a Service that shows these conditions, one after the other; with a restart before each, or none.
    fn story(tunnel: &Tunnel, conditions: &[(Reason, &str)], restarts: bool) -> Vec<String> {
        let mut events = Vec::new();
        let (mut service, mut known) = (Service::default(), Told::default());
        for (reason, message) in conditions {
            let shown = Shown { addresses: Vec::new(), reason: *reason, message: (*message).to_owned() };
            events.extend(event(&service, &shown, &known).map(|(_, reason)| reason.to_owned()));
            events.extend(new_warnings(&service, &shown, tunnel, &known).iter().map(|warning| (*warning).to_owned()));
            known = if restarts { Told::default() } else { told(&shown, tunnel, &known) };
            service.status.conditions = vec![kube_client_lite::Condition {
                r#type: CONDITION.into(),
                reason: reason.to_string(),
                message: shown.message,
                ..Default::default()
            }];
        }
        events
    }

    fn removed() -> Tunnel {
        let owner = Owner { cluster_name: "home".into(), class: "a/lb".into() };
        desired::removed(TunnelId { namespace: "default".into(), name: "web".into() }, &owner)
    }

    #[test]
    fn each_change_has_its_event_and_no_repetition_has() {
        use Reason::*;
        for (reasons, expected) in [
            (&[Provisioning, Serving][..], &["EnsuringLoadBalancer", "EnsuredLoadBalancer"][..]),
            (&[FlyUnavailable, Provisioning, Serving], &["SyncLoadBalancerFailed", "EnsuredLoadBalancer"]),
            (&[Serving, Updating, Serving], &["EnsuredLoadBalancer", "UpdatedLoadBalancer"]),
            (&[Serving, Serving], &["EnsuredLoadBalancer"]),
            (&[FlyUnavailable, Serving], &["SyncLoadBalancerFailed", "EnsuredLoadBalancer"]),
            (&[FlyUnavailable, Deleting, Deleting], &["SyncLoadBalancerFailed", "DeletingLoadBalancer"]),
            (&[Deleting, FlyUnavailable, Deleting], &["DeletingLoadBalancer", "SyncLoadBalancerFailed"]),
            (&[Deleting, Provisioning, Deleting], &["DeletingLoadBalancer", "DeletingLoadBalancer"]),
        ] {
            let conditions: Vec<_> = reasons.iter().map(|reason| (*reason, "")).collect();
            assert_eq!(story(&removed(), &conditions, false), expected, "{reasons:?}");
        }
    }

    #[test]
    fn a_warning_is_told_once_also_after_a_failure() {
        let mut tunnel = removed();
        tunnel.wanted = crate::tunnel::Wanted::Served(crate::tunnel::Ask {
            ports: vec![80],
            cluster_ip: [10, 96, 0, 7].into(),
            region: "ord".into(),
            size: crate::service::machine_size::MachineSize::parse("shared-cpu-1x").expect("a size"),
            resources: Default::default(),
            warnings: vec!["beware"],
        });
        let conditions = [
            (Reason::FlyUnavailable, "down"),
            (Reason::Provisioning, "wait; beware"),
            (Reason::Serving, "serving; beware"),
            (Reason::FlyUnavailable, "down"),
            (Reason::Serving, "serving; beware"),
        ];
        assert_eq!(story(&tunnel, &conditions, false).iter().filter(|event| *event == "beware").count(), 1);
        assert_eq!(story(&tunnel, &conditions[1..3], true).iter().filter(|event| *event == "beware").count(), 1);
    }
}
