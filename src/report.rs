//! Tells people: an event and a log line for each condition that changed. So nothing is said twice, also after a
//! restart, and nothing in the steady state.

use kube_client_lite::lease::Permit;
use kube_client_lite::{EventType, ObjectReference};

use crate::cluster::NewEvent;
use crate::service::request::Warning;
use crate::service::{ObjectMeta, Service};
use crate::telemetry::cost::Cents;
use crate::tunnel::condition::{Read, Reason, Shown};
use crate::tunnel::memory::{Memory, Told};
use crate::tunnel::names;
use crate::tunnel::{Tunnel, TunnelId};
use crate::world::World;

/// The Service shows something new. `before` is the Service as it was.
pub fn shown(world: &World, before: &Service, shown: &Shown, tunnel: &Tunnel, memory: &mut Memory, permit: &Permit) {
    let (namespace, name) = (&before.metadata.namespace, &before.metadata.name);
    let (app, reason, message) = (&tunnel.app, shown.condition.reason, shown.message());
    let request = memory.trouble.as_ref().and_then(|trouble| trouble.failure.request_id.as_deref());
    let was = Read::of(before);
    match (reason, request) {
        // It shows one address less.
        (Reason::Deleting, _) if is(&was, Reason::Deleting) => {}
        (reason, Some(fly_request)) if reason.is_failure() => {
            log::warn!(namespace, name, app, fly_request; "{reason}: {message}");
        }
        (reason, _) if reason.is_failure() => log::warn!(namespace, name, app; "{reason}: {message}"),
        (reason, _) => log::info!(namespace, name, app; "{reason}: {message}"),
    }
    if let Some((kind, reason)) = event(before, shown, &memory.told) {
        world.events.post(before, kind, reason, &message, permit);
    }
    for warning in new_warnings(was.as_ref(), shown, &memory.told) {
        world.events.post(before, EventType::Warning, "LoadBalancerWarning", warning.text(), permit);
    }
    memory.told = told(shown, tunnel, &memory.told);
}

/// The tunnel is gone, and the finalizer with it.
pub fn deleted(world: &World, service: &Service, permit: &Permit) {
    let message = "the tunnel is gone, and nothing of it is left at Fly";
    world.events.post(service, EventType::Normal, "DeletedLoadBalancer", message, permit);
}

/// An App of this owner that no Service asks for, or objects of such an App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub app: String,
    /// An estimate of its bill for a month; 0 where only objects in the cluster are left of it.
    pub cost: Cents,
    /// The tunnel that the App was made for; `None` where nothing tells, or where it is not the App that is computed for it today.
    pub tunnel: Option<TunnelId>,
}

/// An orphan was found: it is billed. The event is about the Lease, since there is no Service.
pub fn orphan(world: &World, orphan: &Orphan, deletes: bool, permit: &Permit) {
    let Orphan { app, cost, tunnel } = orphan;
    let whose = match tunnel {
        Some(tunnel) => format!("no Service {tunnel} asks for it"),
        None => "no Service asks for it, and nothing tells for which one it was made".to_owned(),
    };
    let (what, costs, by_hand) = match cost {
        0 => (
            "objects in the operator's namespace are of the Fly App",
            String::new(),
            "delete the objects with the label",
        ),
        _ => (
            "the Fly App",
            format!(", and it costs about ${}.{:02} a month", cost / 100, cost % 100),
            "fly apps destroy",
        ),
    };
    let by_hand =
        if *cost == 0 { format!("{by_hand} fly-tunnel-operator.dev/app={app}") } else { format!("`{by_hand} {app}`") };
    let advice = match (deletes, tunnel) {
        (true, Some(_)) => "it is deleted ten minutes after it was first seen".to_owned(),
        (true, None) => format!("it is left alone: {by_hand}"),
        (false, Some(_)) => format!("it is left alone: give `--delete-orphans true`, or {by_hand}"),
        (false, None) => format!("it is left alone: {by_hand}"),
    };
    let text = format!("{what} {app}, which this owner made: {whose}{costs}; {advice}");
    log::warn!(app; "{text}");
    let lease = ObjectMeta {
        name: names::lease(&world.owner.class),
        namespace: world.namespace.clone(),
        ..ObjectMeta::default()
    };
    let about = ObjectReference::new("coordination.k8s.io/v1", "Lease", &lease);
    world.events.write(NewEvent { about, kind: EventType::Warning, reason: "OrphanedApp", message: text }, permit);
}

/// The API server does not take what the Service is to show.
pub fn unwritten(world: &World, service: &Service, text: &str, permit: &Permit) {
    world.events.post(service, EventType::Warning, "SyncLoadBalancerFailed", text, permit);
}

/// The event of a condition's change, by the service controller's own reasons.
fn event(before: &Service, shown: &Shown, told: &Told) -> Option<(EventType, &'static str)> {
    let was = Read::of(before);
    Some(match shown.condition.reason {
        Reason::ServingDegraded => (EventType::Warning, "DegradedLoadBalancer"),
        reason if reason.is_failure() => (EventType::Warning, "SyncLoadBalancerFailed"),
        Reason::Provisioning if before.condition().is_none() => (EventType::Normal, "EnsuringLoadBalancer"),
        Reason::Serving if is(&was, Reason::Updating) => (EventType::Normal, "UpdatedLoadBalancer"),
        Reason::Serving if is(&was, Reason::Serving) && before.addresses() == shown.addresses => return None,
        Reason::Serving => (EventType::Normal, "EnsuredLoadBalancer"),
        Reason::Updating if before.addresses().is_empty() && !shown.addresses.is_empty() => {
            (EventType::Normal, "EnsuredLoadBalancer")
        }
        Reason::Deleting if !is(&was, Reason::Deleting) && !told.deleting => {
            (EventType::Normal, "DeletingLoadBalancer")
        }
        _ => return None,
    })
}

fn is(read: &Option<Read>, reason: Reason) -> bool {
    read.as_ref().is_some_and(|read| read.reason == reason)
}

/// Warnings that the condition shows from now on, and that nobody was told yet. This process knows what it told; what an earlier
/// one told stands in the condition as it was.
fn new_warnings(was: Option<&Read>, shown: &Shown, told: &Told) -> Vec<Warning> {
    let was_shown = |warning| was.is_some_and(|read| read.warns(warning));
    shown.warnings().filter(|warning| !was_shown(*warning) && !told.warnings.contains(warning)).collect()
}

/// The things that people know by now. A failure's condition has no notes, so what they were told before stays told.
fn told(shown: &Shown, tunnel: &Tunnel, before: &Told) -> Told {
    let deleting = match shown.condition.reason {
        Reason::Deleting => true,
        reason => reason.is_failure() && before.deleting,
    };
    let is_told = |warning: &Warning| before.warnings.contains(warning) || shown.warnings().any(|new| new == *warning);
    Told { deleting, warnings: tunnel.warnings().iter().copied().filter(is_told).collect() }
}

/// Tells that users are served, and that the pods of this image do not get ready all the same.
pub fn never_ready(image: &str) {
    log::warn!(
        image;
        "frpc serves users, and its pods do not get ready: the probe needs sh and grep in the image; without it each tunnel is \
         looked at by itself, which takes more requests"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use crate::tunnel::condition::{Condition, Note};

    /// The events of a Service that shows these conditions, one after the other; with a restart before each, or none.
    fn story(tunnel: &Tunnel, conditions: &[(Condition, bool)], restarts: bool) -> Vec<&'static str> {
        let mut events = Vec::new();
        let (mut service, mut known) = (Service::default(), Told::default());
        for (condition, warns) in conditions {
            let notes = if *warns { vec![Note::Warning(Warning::LoadBalancerIp)] } else { Vec::new() };
            let shown = Shown { notes, ..Shown::new(Vec::new(), condition.clone()) };
            events.extend(event(&service, &shown, &known).map(|(_, reason)| reason));
            let warnings = new_warnings(Read::of(&service).as_ref(), &shown, &known);
            events.extend(warnings.into_iter().map(Warning::text));
            known = if restarts { Told::default() } else { told(&shown, tunnel, &known) };
            examples::show(&mut service, &shown);
        }
        events
    }

    fn condition(reason: Reason) -> Condition {
        match reason {
            Reason::Provisioning => Condition::provisioning(),
            Reason::Serving => Condition::serving([192, 0, 2, 1].into(), 1),
            Reason::Updating => Condition::taking_over(),
            Reason::Deleting => Condition::deleting(),
            _ => Condition::fly_unavailable("down"),
        }
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
            let conditions: Vec<_> = reasons.iter().map(|reason| (condition(*reason), false)).collect();
            assert_eq!(story(&examples::removed("web"), &conditions, false), expected, "{reasons:?}");
        }
    }

    #[test]
    fn a_warning_is_told_once_also_after_a_failure() {
        use Reason::*;
        let mut service = examples::service();
        service.spec.load_balancer_ip = Some("192.0.2.1".into());
        let tunnel = crate::tunnel::desired::tunnel(&service, &examples::owner(), &examples::settings());
        let tunnel = tunnel.expect("it wants a tunnel");
        let conditions = [
            (condition(FlyUnavailable), false),
            (condition(Provisioning), true),
            (condition(Serving), true),
            (condition(FlyUnavailable), false),
            (condition(Serving), true),
        ];
        let times = |events: Vec<&str>| events.iter().filter(|text| **text == Warning::LoadBalancerIp.text()).count();
        assert_eq!(times(story(&tunnel, &conditions, false)), 1);
        assert_eq!(times(story(&tunnel, &conditions[1..3], true)), 1);
    }
}
