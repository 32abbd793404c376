//! The things that hold once everything is quiet.

use std::collections::BTreeMap;

use crate::examples;
use crate::model::{App, State as Everything};
use crate::render::objects::MACHINE_LABEL;
use crate::service::Service;
use crate::service::port::Port;
use crate::tunnel::TunnelId;
use crate::tunnel::lane::Recipe;
use crate::tunnel::names;
use crate::tunnel::observed::State;

/// Whether all is as the Services want it, and nothing of ours is left beside. The error says what is not.
pub fn converged(state: &Everything, drained: bool) -> Result<(), String> {
    let mut apps = 0;
    for service in state.services.values() {
        let id = service.id();
        let app = state.apps.get(&examples::owner().app(&TunnelId::of(&id)));
        if drained || !service.wants_tunnel(&examples::owner().class) {
            hold(app.is_none(), || format!("{id} has an App"))?;
            hold(!service.is_going(), || format!("{id} hangs"))?;
            // A Service that never had a tunnel keeps the word that it was refused, when it is no load balancer any more: the condition alone does
            // not tell whose it is.
            let shown = service.condition().is_some_and(|condition| condition.reason != "InvalidService");
            hold(service.metadata.finalizers.is_empty() && !shown, || format!("{id} shows something"))?;
            hold(service.addresses().is_empty(), || format!("{id} shows a released address"))?;
            continue;
        }
        apps += 1;
        let app = app.ok_or_else(|| format!("{id} has no App"))?;
        hold(app.addresses.len() == 1, || format!("{id} has {} addresses", app.addresses.len()))?;
        hold(service.addresses() == [app.addresses[0].ip], || format!("{id} shows {:?}", service.addresses()))?;
        let condition = service.condition().ok_or_else(|| format!("{id} shows no condition"))?;
        let shown = (condition.reason.as_str(), condition.status.as_str());
        hold(shown == ("Serving", "True"), || format!("{id} shows {shown:?}"))?;
        let name = examples::owner().app(&TunnelId::of(&id));
        let (machine, keys) = lane(service, app)?;
        hold(state.secrets.contains_key(&names::keys(&name, &keys)), || format!("the keys of {id} are not there"))?;
        let is_of_it = |labels: &BTreeMap<String, String>| labels.get(MACHINE_LABEL) == Some(&machine);
        let configured = state.config_maps.values().any(|map| is_of_it(&map.metadata.labels));
        let deployed = state.deployments.values().any(|deployment| is_of_it(&deployment.metadata.labels));
        hold(configured && deployed, || format!("the lane of {id} has no frpc"))?;
    }
    hold(state.apps.len() == apps, || format!("there are Apps beside: {:?}", state.apps.keys().collect::<Vec<_>>()))?;
    let objects = (state.secrets.len(), state.config_maps.len(), state.deployments.len());
    hold(objects == (apps, apps, apps), || format!("there are {objects:?} objects of {apps} tunnels"))
}

/// One Machine, with the ports of the Service. Gives its ID, and the fingerprint of its keys.
fn lane(service: &Service, app: &App) -> Result<(String, String), String> {
    let id = service.id();
    let machines: Vec<_> = app.machines.iter().filter(|machine| machine.state != "destroyed").collect();
    hold(machines.len() == 1, || format!("{id} has {} Machines", machines.len()))?;
    let machine = crate::render::machine::observed(machines[0].clone());
    let wanted: Vec<Port> = service.spec.ports.iter().map(|port| Port::tcp(port.port)).collect();
    let exposed: Vec<Port> = machine.user_ports().collect();
    hold(exposed == wanted, || format!("{id} wants {wanted:?} and has {exposed:?}"))?;
    hold(machine.state == State::Started && machine.host_ok, || format!("the lane of {id} does not run"))?;
    let recipe = machine.ours.as_ref().and_then(|ours| Recipe::read(ours.recipe.as_deref()?));
    let deviations = recipe.as_ref().map(|recipe| recipe.deviations(&machine));
    hold(deviations.as_ref().is_some_and(Vec::is_empty), || {
        format!("the lane of {id} is not as made: {deviations:?}")
    })?;
    hold(!machine.cordoned, || format!("the lane of {id} is cordoned"))?;
    Ok((machine.id, recipe.map(|recipe| recipe.keys).unwrap_or_default()))
}

fn hold(holds: bool, or: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(or()) }
}
