//! The things that hold once everything is quiet.

use std::collections::BTreeMap;

use super::happen::{REPLICAS, others_are_untouched};
use crate::model::{App, Names, ORG, State as Everything, names, owner};
use crate::render::machine::observed;
use crate::render::objects::MACHINE_LABEL;
use crate::service::Service;
use crate::service::port::Port;
use crate::tunnel::lane::{Recipe, SlotId};
use crate::tunnel::names::{DEFAULT_CLASS, finalizer, keys as keys_name};
use crate::tunnel::observed::{Machine, State};

/// Whether all is as the Services want it, and nothing of ours is left beside. The error says what is not.
///
/// `told`: the Services can show it. Otherwise only what users and bills see of it counts.
pub fn converged(state: &Everything, drained: bool, told: bool) -> Result<(), String> {
    let (mut apps, mut lanes) = (0, 0);
    for Names { id, app: name, network } in names() {
        let Some(service) = state.services.get(id) else { continue };
        let app = state.app_of(id);
        if drained || !service.wants_tunnel(&owner().0.class) {
            hold(app.is_none(), || format!("{id} has an App"))?;
            if !told {
                continue;
            }
            hold(!service.is_going(), || format!("{id} hangs"))?;
            // A Service that never had a tunnel, or whose finalizer somebody took off, keeps the condition when it is no load balancer any
            // more: that alone does not tell whose it is. So does one that a second leader told of it when the first was done.
            let bare = state.histories.get(id).is_some_and(|history| history.bare) || state.rivals_ended.is_some();
            let of_a_tunnel = ["Serving", "Updating", "Provisioning", "Deleting"];
            let shown = service.condition().is_some_and(|condition| of_a_tunnel.contains(&condition.reason.as_str()));
            let shown = shown && !bare;
            hold(!service.has_finalizer(&finalizer(DEFAULT_CLASS)) && !shown, || format!("{id} shows something"))?;
            hold(service.addresses().is_empty(), || format!("{id} shows a released address"))?;
            continue;
        }
        let condition = service.condition();
        let shown = condition.map(|condition| (condition.reason.as_str(), condition.status.as_str()));
        if state.apps.get(name).is_some_and(|app| app.network != *network || app.org != ORG) {
            hold(!told || shown == Some(("NameConflict", "False")), || format!("{id} shows {shown:?}"))?;
            // It is looked for before Fly is asked whose the App is.
            hold(service.has_finalizer(&finalizer(DEFAULT_CLASS)), || format!("{id} has no finalizer"))?;
            continue;
        }
        apps += 1;
        let app = app.ok_or_else(|| format!("{id} has no App"))?;
        hold(app.addresses.len() == 1, || format!("{id} has {} addresses", app.addresses.len()))?;
        let address = app.addresses[0].ip;
        hold(!told || service.addresses() == [address], || format!("{id} shows {:?}", service.addresses()))?;
        hold(!told || shown == Some(("Serving", "True")), || format!("{id} shows {shown:?}"))?;
        let message = condition.map_or("", |condition| &condition.message);
        let machines = || app.machines.iter().filter(|machine| machine.state != "destroyed");
        let strangers = machines().map(|machine| observed(machine.clone())).filter(|machine| machine.ours.is_none());
        let told_of = message.matches("somebody put the Machine").count();
        hold(!told || strangers.count() == told_of, || {
            format!("{id} does not tell of strangers' Machines: {message}")
        })?;
        for (machine, keys) in of_its_lanes(state, service, app)? {
            lanes += 1;
            hold(state.secrets.contains_key(&keys_name(name, &keys)), || format!("the keys of {id} are not there"))?;
            let is_of_it = |labels: &BTreeMap<String, String>| labels.get(MACHINE_LABEL) == Some(&machine);
            let configured = state.config_maps.values().any(|map| is_of_it(&map.metadata.labels));
            let mut running = state.deployments.values().filter(|deployment| deployment.status.available_replicas > 0);
            let deployed = running.any(|deployment| is_of_it(&deployment.metadata.labels));
            hold(configured && deployed, || format!("the lane of {id} has no frpc"))?;
        }
    }
    let ours = names().iter().filter(|names| state.app_of(&names.id).is_some()).count();
    hold(ours == apps, || format!("there are Apps beside: {:?}", state.apps.keys().collect::<Vec<_>>()))?;
    let objects = (state.secrets.len(), state.config_maps.len(), state.deployments.len());
    hold(objects == (apps, lanes, lanes), || format!("{objects:?} objects of {apps} tunnels and {lanes} lanes"))?;
    hold(others_are_untouched(state), || "something of others is touched".into())
}

/// A Machine for each lane that is wanted, with the ports of the Service. Gives their IDs, and the fingerprints of their keys.
fn of_its_lanes(state: &Everything, service: &Service, app: &App) -> Result<Vec<(String, String)>, String> {
    let id = service.id();
    let there = app.machines.iter().filter(|machine| machine.state != "destroyed");
    // Machines that strangers put there are left alone.
    let ours = there.map(|machine| observed(machine.clone())).filter(|machine| machine.ours.is_some());
    let mut machines: Vec<Machine> = ours.collect();
    machines.sort_by_key(|machine| machine.ours.as_ref().map(|ours| ours.slot));
    let slots: Vec<_> = machines.iter().filter_map(|machine| Some(machine.ours.as_ref()?.slot)).collect();
    let replicas = service.metadata.annotations.get(REPLICAS).and_then(|replicas| replicas.parse().ok()).unwrap_or(1);
    let wanted: Vec<_> = (0..replicas).map(SlotId::tcp).collect();
    hold(slots == wanted, || format!("{id} has lanes {slots:?}"))?;
    machines.iter().map(|machine| lane(state, service, machine)).collect()
}

/// It has the ports of the Service. Gives its ID, and the fingerprint of its keys.
fn lane(state: &Everything, service: &Service, machine: &Machine) -> Result<(String, String), String> {
    let id = service.id();
    let wanted: Vec<Port> = service.spec.ports.iter().map(|port| Port::tcp(port.port)).collect();
    let exposed: Vec<Port> = machine.user_ports().collect();
    hold(exposed == wanted, || format!("{id} wants {wanted:?} and has {exposed:?}"))?;
    hold(machine.state == State::Started && machine.host_ok, || format!("a lane of {id} does not run"))?;
    let recipe = machine.ours.as_ref().and_then(|ours| Recipe::read(ours.recipe.as_deref()?));
    let deviations = recipe.as_ref().map(|recipe| recipe.deviations(machine));
    let is_as_made = |all: &Vec<String>| all.is_empty() || state.spells && *all == ["schedule is set"];
    hold(deviations.as_ref().is_some_and(is_as_made), || format!("a lane of {id} is not as made: {deviations:?}"))?;
    hold(!machine.cordoned, || format!("a lane of {id} is cordoned"))?;
    Ok((machine.id.clone(), recipe.map(|recipe| recipe.keys).unwrap_or_default()))
}

fn hold(holds: bool, or: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(or()) }
}
