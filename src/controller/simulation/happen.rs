//! Things that happen outside of the operator's doing: users' edits, losses, and what people change by hand.

use std::time::Duration;

use crate::examples;
use crate::model::{App, Faults, Model, ORG, SERVICES, State, edit, names, owner};
use crate::render::address::Assignment;
use crate::render::machine::wire::Machine;
use crate::service::{Ingress, Service, ServiceId};

const TYPO: &str = "fly-tunnel-operator.dev/fly-regoin";
const REGION: &str = "fly-tunnel-operator.dev/fly-region";
pub const REPLICAS: &str = "fly-tunnel-operator.dev/replicas";
const FINALIZER_OF_OTHERS: &str = "example.com/finalizer";
const APP_OF_OTHERS: &str = "somebody-elses";

/// An address that nobody has.
const MADE_UP: [u8; 4] = [203, 0, 113, 9];

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
            state.say(|| format!("— the clock jumps by {seconds} s"));
        }
        _ => {
            let seconds = state.dice.below(90);
            state.pass(Duration::from_secs(seconds));
        }
    }
}

fn to_a_service(state: &mut State) {
    let id = names()[state.dice.below(3) as usize].id.clone();
    let Some(mut service) = state.services.get(&id).cloned() else {
        let mut service = examples::service();
        service.metadata.name = id.name.clone();
        state.put(service);
        return state.say(|| format!("— {id} is made"));
    };
    let kind = state.dice.below(19);
    if service.is_going() && kind != 9 {
        return;
    }
    let said = match kind {
        0..=3 => {
            let ports: [&[u16]; 4] = [&[443], &[443, 8443], &[7000], &[80]];
            let ports = ports[state.dice.below(4) as usize];
            service.spec.ports = examples::ports(ports);
            format!("has the ports {ports:?}")
        }
        4 | 5 => {
            service.metadata.deletion_timestamp = Some("now".into());
            "is deleted".into()
        }
        6 => {
            let was_one = service.spec.kind == "LoadBalancer";
            service.spec.kind = if was_one { "ClusterIP".into() } else { "LoadBalancer".into() };
            // The API server takes the addresses away when the type changes.
            service.status.load_balancer.ingress.clear();
            format!("has the type {}", service.spec.kind)
        }
        7 | 8 => {
            let annotation = if kind == 7 { TYPO } else { REGION };
            let annotations = &mut service.metadata.annotations;
            if annotations.remove(annotation).is_none() {
                let regions = if state.dice.percent(50) { "iad" } else { "iad,ord" };
                annotations.insert(annotation.into(), regions.into());
            }
            format!("has the annotations {annotations:?}")
        }
        16..=18 => {
            let replicas = 1 + state.dice.below(3);
            service.metadata.annotations.insert(REPLICAS.into(), replicas.to_string());
            format!("wants {replicas} lanes")
        }
        9 => {
            service.metadata.finalizers.retain(|finalizer| finalizer == FINALIZER_OF_OTHERS);
            state.histories.entry(id.clone()).or_default().bare = true;
            "loses our finalizer by hand".into()
        }
        10 => {
            let finalizers = &mut service.metadata.finalizers;
            finalizers.retain(|finalizer| finalizer != FINALIZER_OF_OTHERS);
            finalizers.push(FINALIZER_OF_OTHERS.into());
            "has a finalizer of somebody else's".into()
        }
        11 => {
            let again = Service { metadata: Default::default(), status: Default::default(), ..service };
            service = again;
            (service.metadata.namespace, service.metadata.name) = (id.namespace.clone(), id.name.clone());
            state.histories.entry(id.clone()).or_default().bare = true;
            "is taken away by force, and made again".into()
        }
        12 => {
            let ranges = &mut service.spec.load_balancer_source_ranges;
            *ranges = if ranges.is_empty() { vec!["192.0.2.0/24".into()] } else { Vec::new() };
            format!("has the source ranges {ranges:?}")
        }
        13 => {
            service.status.conditions.clear();
            "loses its condition by hand".into()
        }
        14 if service.spec.kind == "LoadBalancer" => {
            let ip = MADE_UP.into();
            service.status.load_balancer.ingress = vec![Ingress { ip: Some(ip), ..Ingress::default() }];
            state.of_people.insert(ip);
            format!("shows {ip} by hand")
        }
        _ => {
            service.status = Default::default();
            "loses its status by hand".into()
        }
    };
    state.say(|| format!("— {id} {said}"));
    state.put(service);
}

/// The name of an App that is ours.
fn one_of_ours(state: &mut State) -> Option<String> {
    let ours = names().iter().filter(|names| state.app_of(&names.id).is_some());
    let there: Vec<&String> = ours.map(|names| &names.app).collect();
    if there.is_empty() {
        return None;
    }
    Some(there[state.dice.below(8) as usize % there.len()].clone())
}

fn to_a_machine(state: &mut State) {
    let Some(name) = one_of_ours(state) else { return };
    let (which, kind, number) = (state.dice.below(8) as usize, state.dice.below(12), state.next());
    let created_at = format!("{:010}", state.now.as_millis());
    let Some(app) = state.apps.get_mut(&name) else { return };
    let mut machines: Vec<_> = app.machines.iter_mut().filter(|machine| machine.state != "destroyed").collect();
    if machines.is_empty() {
        return;
    }
    let which = which % machines.len();
    let machine = &mut machines[which];
    let id = machine.id.clone();
    app.by_hand.insert(id.clone());
    let config = machine.config.get_or_insert_default();
    let mut edited = |said| {
        machine.version.push('+');
        said
    };
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
        5 | 6 => {
            let lost = machine.host_status.as_deref() == Some("unreachable");
            machine.host_status = Some(if lost { "ok".into() } else { "unreachable".into() });
            "loses its host, or has it back"
        }
        7 => {
            config.services.pop();
            edited("loses a port by hand")
        }
        8 => {
            config.image = "frps:other".into();
            edited("gets another image by hand")
        }
        9 => {
            config.guest.iter_mut().for_each(|guest| guest.memory_mb += 256);
            edited("gets more memory by hand")
        }
        kind => {
            // A clone has everything of it; a stranger nothing.
            let (twin, name) = (format!("m{number}"), format!("by-hand-{number}"));
            let config = if kind == 10 { machine.config.clone() } else { None };
            let state = machine.state.clone();
            let host_status = Some("ok".into());
            let made = Machine { id: twin.clone(), name, state, created_at, host_status, config, ..Machine::default() };
            app.by_hand.insert(twin);
            app.machines.push(made);
            if kind == 10 { "is cloned by hand" } else { "gets a stranger beside it" }
        }
    };
    state.say(|| format!("— Machine {id} {said}"));
}

fn to_objects(state: &mut State) {
    match state.dice.below(8) {
        0 => {
            state.deployments.pop_first();
            state.config_maps.pop_last();
            state.say(|| "— objects are deleted by hand".into());
        }
        1 => {
            state.secrets.pop_first();
            state.say(|| "— a Secret is deleted by hand".into());
        }
        2 => {
            if let Some(deployment) = state.deployments.values_mut().next() {
                deployment.metadata.generation += 1;
            }
            state.say(|| "— a Deployment is edited by hand".into());
        }
        3 => {
            if let Some(deployment) = state.deployments.values_mut().next_back() {
                edit(deployment);
                deployment.status.available_replicas = 0;
            }
            state.say(|| "— a Deployment is scaled to none by hand".into());
        }
        4 => {
            if let Some(mut copy) = state.deployments.values().next().cloned() {
                copy.metadata.name = "lb-a-copy".into();
                state.deployments.insert("lb-a-copy".into(), copy);
            }
            state.say(|| "— a Deployment is copied by hand".into());
        }
        5 => {
            if let Some(mut copy) = state.secrets.values().next_back().cloned() {
                copy.metadata.name = "lb-a-copy".into();
                state.secrets.insert("lb-a-copy".into(), copy);
            }
            state.say(|| "— a Secret is copied by hand".into());
        }
        6 => {
            state.config_maps.pop_first();
            state.say(|| "— a ConfigMap is deleted by hand".into());
        }
        _ => {
            state.deployments.clear();
            state.config_maps.clear();
            state.secrets.clear();
            state.has_namespace = false;
            let seconds = state.dice.below(20);
            state.namespace_goes_until = state.now + Duration::from_secs(seconds);
            state.say(|| format!("— the operator's namespace is deleted, which takes {seconds} s"));
        }
    }
}

fn to_an_app(state: &mut State) {
    let Some(name) = one_of_ours(state) else { return };
    let kind = state.dice.below(3);
    let (number, created_at) = (state.next(), format!("{:010}", state.now.as_millis()));
    let Some(app) = state.apps.get_mut(&name) else { return };
    let said = match kind {
        0 => {
            let taken = app.addresses.pop();
            state.of_people.extend(taken.map(|address| address.ip));
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
            let gone = state.apps.remove(&name).into_iter().flat_map(|app| app.addresses);
            state.of_people.extend(gone.map(|address| address.ip));
            "is deleted by hand"
        }
    };
    state.say(|| format!("— App {name} {said}"));
}

/// Others are there, too: their Apps, one of which may have a name that we want, and a Service of their class.
pub fn others(state: &mut State) {
    let mut service = examples::service();
    (service.metadata.name, service.spec.load_balancer_class) = ("theirs".into(), Some("example.com/lb".into()));
    service.metadata.finalizers.push(FINALIZER_OF_OTHERS.into());
    state.put(service);
    state.apps.insert(APP_OF_OTHERS.into(), App::of_others("default", ORG));
    if state.dice.percent(10) {
        let taken = &names()[0].app;
        let other_org = state.dice.percent(50);
        let org = if other_org { "others" } else { ORG };
        let network = if other_org { &names()[0].network } else { "default" };
        state.apps.insert(taken.clone(), App::of_others(network, org));
        state.say(|| format!("— the App {taken} is somebody else's"));
    }
}

/// Whether everything of others is as it was.
pub fn others_are_untouched(state: &State) -> bool {
    let theirs = ServiceId { namespace: "default".into(), name: "theirs".into() };
    let service = state.services.get(&theirs);
    let is_untouched = |service: &Service| service.metadata.resource_version == "1" && service.condition().is_none();
    service.is_some_and(is_untouched) && state.apps.contains_key(APP_OF_OTHERS)
}

/// The operator was killed, and starts again; perhaps something happens in between that it would not have let happen.
pub fn happen_without_operator(state: &mut State) {
    state.say(|| "— the operator is killed, and starts again".into());
    if state.dice.percent(20) {
        let id = names()[state.dice.below(SERVICES.len() as u64) as usize].id.clone();
        if let Some(mut service) = state.services.get(&id).cloned() {
            service.metadata.finalizers.clear();
            let wanted = !service.is_going() && service.spec.kind == "LoadBalancer";
            service.metadata.deletion_timestamp = Some("now".into());
            state.say(|| format!("— meanwhile the finalizer of {id} is taken off, and it is deleted"));
            state.put(service);
            let orphaned = Some(state.now).filter(|_| wanted);
            let history = state.histories.entry(id).or_default();
            (history.bare, history.orphaned) = (true, orphaned);
        }
    }
}

/// All faults end. A Service that is refused is mended, and nobody else holds one that is deleted.
pub fn heal(model: &Model) {
    let mut guard = model.state();
    let state = &mut *guard;
    state.faults = Faults::default();
    state.catch_up();
    state.has_namespace |= state.dice.percent(50);
    for deployment in state.deployments.values_mut() {
        if deployment.metadata.managed_fields.is_empty() {
            deployment.status.available_replicas = 1;
        }
    }
    for id in names().iter().map(|names| &names.id) {
        let Some(mut service) = state.services.get(id).cloned() else { continue };
        let before = service.clone();
        service.metadata.annotations.remove(TYPO);
        service.spec.load_balancer_source_ranges.clear();
        if service.is_going() {
            service.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_OF_OTHERS);
        }
        if service != before {
            state.put(service);
        }
    }
    let claimed = |app: &str| names().iter().any(|names| names.app == app && state.services.contains_key(&names.id));
    let ours = state.apps.iter().filter(|(name, app)| app.network == owner().0.network(name) && app.org == ORG);
    let orphans = ours.filter(|(name, _)| !claimed(name)).count();
    state.say(|| format!("— all is quiet; {orphans} Apps are asked for by nobody"));
}
