//! Things that happen outside of the operator's doing: users' edits, losses, and what people change by hand.

use std::time::Duration;

use crate::examples;
use crate::model::{Faults, State};
use crate::render::address::Assignment;
use crate::service::ServiceId;
use crate::tunnel::TunnelId;

const TYPO: &str = "fly-tunnel-operator.dev/fly-regoin";

/// Something happens.
pub fn happen(state: &mut State) {
    match state.dice.below(20) {
        0..=5 => to_a_service(state),
        6..=12 => to_a_machine(state),
        13..=15 => to_objects(state),
        16 | 17 => to_an_app(state),
        18 => {
            // Clocks are set, forwards or back.
            let seconds = state.dice.below(1200) as i64 - 600;
            state.wall_offset += seconds;
            state.say(format!("— the clock jumps by {seconds} s"));
        }
        _ => {
            let seconds = state.dice.below(90);
            state.pass(Duration::from_secs(seconds));
        }
    }
}

fn to_a_service(state: &mut State) {
    let name = ["web", "shop", "mail"][state.dice.below(3) as usize];
    let id = ServiceId { namespace: "default".into(), name: name.into() };
    let Some(mut service) = state.services.get(&id).cloned() else {
        let mut service = examples::service();
        service.metadata.name = name.into();
        state.put(service);
        return state.say(format!("— {id} is made"));
    };
    if service.is_going() {
        return;
    }
    let said = match state.dice.below(6) {
        0 | 1 => {
            let ports: [&[u16]; 4] = [&[443], &[443, 8443], &[7000], &[80]];
            let ports = ports[state.dice.below(4) as usize];
            service.spec.ports = examples::ports(ports);
            format!("the ports of {id} are {ports:?}")
        }
        2 => {
            service.metadata.deletion_timestamp = Some("now".into());
            format!("{id} is deleted")
        }
        3 => {
            let was_one = service.spec.kind == "LoadBalancer";
            service.spec.kind = if was_one { "ClusterIP".into() } else { "LoadBalancer".into() };
            // The API server takes the addresses away when the type changes.
            service.status.load_balancer.ingress.clear();
            format!("the type of {id} is {}", service.spec.kind)
        }
        4 => {
            let annotations = &mut service.metadata.annotations;
            if annotations.remove(TYPO).is_none() {
                annotations.insert(TYPO.into(), "iad".into());
            }
            format!("the annotations of {id} are {annotations:?}")
        }
        _ => {
            service.status = Default::default();
            format!("the status of {id} is wiped")
        }
    };
    state.say(format!("— {said}"));
    state.put(service);
}

fn to_a_machine(state: &mut State) {
    let machines = state.apps.values_mut().flat_map(|app| &mut app.machines);
    let mut machines: Vec<_> = machines.filter(|machine| machine.state != "destroyed").collect();
    if machines.is_empty() {
        return;
    }
    let which = state.dice.below(8) as usize % machines.len();
    let machine = &mut machines[which];
    let kind = state.dice.below(9);
    let config = machine.config.get_or_insert_default();
    let said = match kind {
        0 | 1 => {
            machine.state = "destroyed".into();
            "is lost"
        }
        2 => {
            machine.state = "stopped".into();
            "is stopped"
        }
        3 => {
            machine.cordoned = !machine.cordoned;
            "is cordoned by hand, or is not any more"
        }
        4 => {
            machine.state = "failed".into();
            "failed"
        }
        5 => {
            let lost = machine.host_status.as_deref() == Some("unreachable");
            machine.host_status = Some(if lost { "ok".into() } else { "unreachable".into() });
            "loses its host, or has it back"
        }
        6 => {
            config.services.pop();
            machine.version.push('+');
            "loses a port by hand"
        }
        7 => {
            config.image = "frps:other".into();
            machine.version.push('+');
            "gets another image by hand"
        }
        _ => {
            config.guest.iter_mut().for_each(|guest| guest.memory_mb += 256);
            machine.version.push('+');
            "gets more memory by hand"
        }
    };
    let said = format!("— Machine {} {said}", machine.id);
    state.say(said);
}

fn to_objects(state: &mut State) {
    match state.dice.below(5) {
        0 => {
            state.deployments.pop_first();
            state.config_maps.pop_last();
            state.say("— objects are deleted by hand".into());
        }
        1 => {
            state.secrets.pop_first();
            state.say("— a Secret is deleted by hand".into());
        }
        2 => {
            if let Some(deployment) = state.deployments.values_mut().next() {
                deployment.metadata.generation += 1;
            }
            state.say("— a Deployment is edited by hand".into());
        }
        3 => {
            let deployment = state.deployments.values().next().cloned();
            if let Some(mut copy) = deployment {
                copy.metadata.name = "lb-a-copy".into();
                state.deployments.insert("lb-a-copy".into(), copy);
            }
            state.say("— a Deployment is copied by hand".into());
        }
        _ => {
            state.deployments.clear();
            state.config_maps.clear();
            state.secrets.clear();
            state.has_namespace = false;
            state.say("— the operator's namespace is deleted".into());
        }
    }
}

fn to_an_app(state: &mut State) {
    let names: Vec<String> = state.apps.keys().cloned().collect();
    let Some(name) = names.get(state.dice.below(3) as usize) else { return };
    let kind = state.dice.below(3);
    let (number, created_at) = (state.next(), format!("{:010}", state.now.as_millis()));
    let Some(app) = state.apps.get_mut(name) else { return };
    let said = match kind {
        0 => {
            app.addresses.pop();
            "loses its address by hand"
        }
        // An App without one may be about to get its first, and then the operator cannot know of this one.
        1 if !app.addresses.is_empty() => {
            let ip = std::net::Ipv4Addr::from(0xC612_0000 + number).into();
            app.addresses.push(Assignment { ip, shared: false, egress: false, created_at });
            "gets another address by hand"
        }
        1 => return,
        _ => {
            state.apps.remove(name);
            "is deleted by hand"
        }
    };
    state.say(format!("— App {name} {said}"));
}

/// The operator was killed, and starts again; perhaps something happens in between that it would not have let happen.
pub fn happen_without_operator(state: &mut State) {
    state.say("— the operator is killed, and starts again".into());
    if state.dice.percent(20) {
        let ids: Vec<ServiceId> = state.services.keys().cloned().collect();
        if let Some(id) = ids.first() {
            let mut service = state.services[id].clone();
            service.metadata.finalizers.clear();
            service.metadata.deletion_timestamp = Some("now".into());
            state.say(format!("— meanwhile the finalizer of {id} is taken off, and it is deleted"));
            state.put(service);
        }
    }
}

/// All faults end. A Service that is refused is mended.
pub fn heal(state: &mut State) {
    state.faults = Faults::default();
    state.has_namespace |= state.dice.percent(50);
    for deployment in state.deployments.values_mut() {
        deployment.status.available_replicas = 1;
    }
    let refused: Vec<_> =
        state.services.values().filter(|s| s.metadata.annotations.contains_key(TYPO)).cloned().collect();
    for mut service in refused {
        service.metadata.annotations.remove(TYPO);
        state.put(service);
    }
    let owner = examples::owner();
    let asked_for: Vec<String> = state.services.keys().map(|id| owner.app(&TunnelId::of(id))).collect();
    let orphans = state.apps.keys().filter(|app| !asked_for.contains(app)).count();
    state.say(format!("— all is quiet; {orphans} Apps are asked for by nobody"));
}
