//! The lanes of a tunnel that serves: made, connected, waited for; then those they replace are cordoned, given time and
//! destroyed. Make before break, with one exception: a port of the Service on which a live lane is controlled.

use std::time::SystemTime;

use super::step::{GivenUp, Look, Step, Waiting};
use super::waits::Waits;
use super::{BELIEVED, Context, Go, Halt, Next, Why, act, all, settled, wait, wait_for};
use crate::service::port::Port;
use crate::tunnel::Wanted;
use crate::tunnel::deviations::spelling;
use crate::tunnel::lane::{Frpc, Lane, Recipe, free_port, pool};
use crate::tunnel::machines::LaneMachine;
use crate::tunnel::names;
use crate::tunnel::observed::{ConfigMap, LaneObject, Machine, Objects, OurApp, Ours, State};
use crate::tunnel::settings::ServiceChecks;
use crate::tunnel::situation::{Leaving, Situation, Slot, SlotState};

/// So many lanes of a tunnel keep their established connections at once. Where more are replaced, the first ends first.
const MOST_RETIRING: usize = 3;

pub(super) struct Lanes<'a> {
    context: &'a Context<'a>,
    situation: &'a Situation<'a>,
    objects: &'a Objects,
    app: &'a OurApp,
    /// Name of the Secret with the current keys.
    secret: &'a str,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(context: &'a Context<'a>, app: &'a OurApp, objects: &'a Objects, secret: &'a str) -> Lanes<'a> {
        Lanes { context, situation: &context.situation, objects, app, secret }
    }

    /// Machines that serve nobody and never will are destroyed: those that failed, and, as long as another serves, those
    /// of lanes that were given up before they served.
    pub(super) fn discard_useless(&self) -> Go<()> {
        let leaving = &self.situation.leaving;
        let another_serves = leaving.iter().any(|leaving| leaving.lane.serves);
        let useless = |leaving: &&Leaving| {
            let Machine { state, passing, host_ok, .. } = leaving.lane.machine;
            let never_served = *state != State::Started || leaving.lane.machine.is_checked() && passing.is_empty();
            leaving.failed || *host_ok && never_served && another_serves
        };
        all(leaving.iter().filter(useless).map(|leaving| Step::DestroyMachine(leaving.lane.machine.id.clone())))
    }

    /// The port on which a live lane is controlled is wanted by the Service itself: Fly would send users to that lane's
    /// frps. This lane is cordoned first, and no other made before the edges have heard of it.
    pub(super) fn free_control_ports(&self) -> Go<()> {
        if self.waits_its_turn() || self.situation.slots.iter().all(|slot| slot.machine.is_some()) {
            return Ok(());
        }
        let clashes = |lane: &LaneMachine| self.is_wished_for(lane.ours.control_port);
        for lane in self.situation.lanes().filter(clashes) {
            if !lane.machine.cordoned {
                return Err(act(Step::Cordon(lane.machine.id.clone())));
            }
            self.wait_until_cordon_is_known(lane.machine)?;
        }
        Ok(())
    }

    /// A new lane through which nobody is reached for some minutes is not left billed, as long as another serves: the cluster does
    /// not run its frpc, say. It is made again later.
    pub(super) fn give_up_unreached(&self) -> Go<()> {
        if !self.situation.lanes().any(|lane| lane.takes_users()) {
            return Ok(());
        }
        let given_up = self.situation.slots.iter().filter_map(|slot| {
            let machine = self.context.long_unreached(slot)?.id.clone();
            let why = self.context.seen.deployment(&machine).and_then(|deployment| deployment.trouble.clone());
            let (slot, generation) = (slot.id, slot.generation.clone());
            Some(Step::GiveUpMachine(Box::new(GivenUp { slot, generation, machine, why })))
        });
        all(given_up)
    }

    /// The frpc of a Machine that this process destroyed goes at once, even if no other lane comes to serve for long.
    pub(super) fn clear_destroyed(&self) -> Go<()> {
        let deployments = self.objects.deployments.iter().filter(|d| self.saw_destroyed(&d.object.machine));
        let config_maps = self.useless_config_maps().filter(|map| self.saw_destroyed(&map.object.machine));
        let deployments = deployments.map(|d| Step::DeleteDeployment(d.object.name.clone()));
        all(deployments.chain(config_maps.map(|map| Step::DeleteConfigMap(map.object.name.clone()))))
    }

    /// A lane that serves is replaced when it is the tunnel's turn. One that does not serve is replaced at once.
    fn waits_its_turn(&self) -> bool {
        self.context.memory.waits_its_turn && self.situation.is_to_replace()
    }

    /// Each of these lanes is brought up as far as it comes now: its Machine runs and is not cordoned, its frpc is there, and traffic
    /// passes.
    pub(super) fn bring_up(&self, slots: &[&Slot], waits: &mut Waits) -> Go<()> {
        slots.iter().try_for_each(|slot| {
            let up =
                self.make_machine(slot).and_then(|()| self.connect_frpc(slot)).and_then(|()| wait_for_traffic(slot));
            waits.gather(up)
        })
    }

    fn make_machine(&self, slot: &Slot) -> Go<()> {
        let Some(LaneMachine { machine, ours, serves }) = slot.machine else { return Err(self.create_machine(slot)) };
        let deviations = slot.recipe.deviations(machine);
        let spelling = Some(spelling(&deviations)).filter(|_| !deviations.is_empty());
        if let Some(spelling) = spelling.filter(|spelling| ours.spelling.as_ref() != Some(spelling)) {
            let why = Why::SpelledByFly { machine: machine.id.clone(), deviations };
            return Err(Halt(Next::Act(vec![Step::NoteSpelling(machine.id.clone(), spelling)]), Some(why)));
        }
        if slot.state == SlotState::Cordoned {
            let unmark = ours.retiring_since.map(|_| Step::StopRetiring(machine.id.clone()));
            return all(unmark.into_iter().chain([Step::Uncordon(machine.id.clone())]));
        }
        if self.shares_its_control_port(machine, ours.control_port) && !serves {
            return Err(act(Step::DestroyMachine(machine.id.clone())));
        }
        if let Some(other) = self.shares_its_host(slot, machine).filter(|_| !serves) {
            let why = Why::SharesHost { machine: machine.id.clone(), other: other.id.clone() };
            return Err(Halt(Next::Act(vec![Step::DestroyMachine(machine.id.clone())]), Some(why)));
        }
        match slot.state {
            SlotState::Stopped => {
                let pause = self.context.memory.deeds.pause(slot.id, &slot.generation, self.context.now);
                let waits = || wait_for(Waiting::MachineStart, Look::Everything, pause);
                Err(if pause.is_zero() { act(Step::StartMachine(machine.id.clone())) } else { waits() })
            }
            SlotState::Booting => Err(wait(Waiting::MachineStart, Look::Machines(vec![machine.id.clone()]))),
            SlotState::Missing { .. } | SlotState::Cordoned | SlotState::Unreached | SlotState::Serving => Ok(()),
        }
    }

    fn create_machine(&self, slot: &Slot) -> Halt {
        let Some(lane) = self.lane_to_make(slot) else {
            return settled(); // every port is taken: the Service would need all 64,512 of them
        };
        if self.waits_its_turn() {
            return wait(Waiting::Turn, Look::Everything);
        }
        if !self.machines_are_known() {
            return wait_for(Waiting::SecondLook, Look::Everything, BELIEVED);
        }
        match slot.state {
            SlotState::Missing { pause } if !pause.is_zero() => {
                wait_for(Waiting::MachineStart, Look::Everything, pause)
            }
            _ => Halt(Next::Act(vec![Step::CreateMachine(Box::new(lane))]), self.why_made(slot)),
        }
    }

    /// Why another Machine is made for the slot; `None` where it is the first.
    fn why_made(&self, slot: &Slot) -> Option<Why> {
        let leaving = self.situation.leaving.iter().map(|leaving| leaving.lane);
        let before = leaving.filter(|lane| lane.ours.slot == slot.id).max_by_key(|lane| &lane.machine.created_at);
        if let Some(LaneMachine { machine, ours, .. }) = before {
            let deviations = slot.recipe.deviations(machine);
            return Some(if ours.generation == slot.generation && deviations.is_empty() {
                Why::MachineLost { machine: machine.id.clone() }
            } else if ours.generation == slot.generation {
                Why::MachineEdited { machine: machine.id.clone(), deviations }
            } else {
                Why::differs(&machine.id, ours.recipe.as_deref(), &slot.recipe)
            });
        }
        // A Machine that Fly does not list any more leaves its frpc behind.
        let is_there = |id: &str| self.situation.machines().any(|machine| machine.id == id);
        let mut of_machines = self.objects.deployments.iter().map(|deployment| &deployment.object.machine);
        Some(Why::MachineLost { machine: of_machines.find(|machine| !is_there(machine))?.clone() })
    }

    /// The lane's frpc is there, as it should be.
    fn connect_frpc(&self, slot: &Slot) -> Go<()> {
        let Some(frpc) = self.frpc(slot) else { return Ok(()) };
        let deployed = self.context.seen.deployment(&frpc.machine);
        let applied = |name| self.context.memory.deeds.applied.get(name);
        let as_applied = deployed.is_some_and(|d| applied(&d.object.name) == Some(&d.version));
        let edited = deployed.filter(|d| applied(&d.object.name).is_some_and(|version| *version != d.version));
        let why = edited.map(|d| Why::DeploymentEdited { deployment: d.object.name.clone() });
        let configured = self.objects.config_maps.iter().any(|map| map.object.machine == frpc.machine);
        let create = (!configured).then(|| Step::CreateConfigMap(Box::new(frpc.clone())));
        let apply = (!as_applied).then(|| Step::ApplyDeployment(Box::new(frpc)));
        all(create.into_iter().chain(apply)).map_err(|Halt(next, _)| Halt(next, why))
    }

    /// All ConfigMaps, but where the Service is refused by now those of slots without a Machine: nothing else tells how such a lane was made.
    fn useless_config_maps(&self) -> impl Iterator<Item = &'a ConfigMap> {
        let is_refused = matches!(self.context.tunnel.wanted(), Wanted::Refused { .. });
        let missing = |id| self.situation.slots.iter().any(|slot| slot.id == id && slot.machine.is_none());
        self.objects.config_maps.iter().filter(move |map| !is_refused || !missing(map.slot))
    }

    /// Somebody's copies of frpc's objects go. A copy's pods have the labels of ours, so that nobody could tell whether frpc runs.
    pub(super) fn clear_copies(&self) -> Go<()> {
        let copies = &self.objects.copies;
        let deployments = copies.deployments.iter().map(|name| Step::DeleteDeployment(name.clone()));
        all(deployments.chain(copies.config_maps.iter().map(|name| Step::DeleteConfigMap(name.clone()))))
    }

    /// Lanes that are not wanted any more are cordoned once the edges know those that serve, given time and destroyed. They stay until all
    /// lanes have come that can.
    pub(super) fn retire_replaced(&self, waits: &mut Waits) -> Go<()> {
        let slots = &self.situation.slots;
        let is_stuck = |slot: &Slot| self.context.memory.deeds.is_stuck(slot.id, &slot.generation);
        if !slots.iter().all(|slot| slot.state == SlotState::Serving || is_stuck(slot)) {
            return Ok(());
        }
        let leaving = self.situation.leaving.iter().map(|leaving| leaving.lane);
        leaving.filter(|lane| !self.is_needed(lane)).try_for_each(|lane| waits.gather(self.retire(lane)))
    }

    /// Whether a lane that is to be replaced serves, leads where the new one will, and the new one does not come.
    fn is_needed(&self, lane: &LaneMachine) -> bool {
        let leads_alike = |slot: &Slot| {
            let recipe = lane.ours.recipe.as_deref().and_then(Recipe::read);
            recipe.is_some_and(|recipe| recipe.forwards == slot.recipe.forwards)
        };
        let mut missing = self.situation.slots.iter().filter(|slot| slot.state != SlotState::Serving);
        lane.takes_users() && missing.any(|slot| slot.id == lane.ours.slot && leads_alike(slot))
    }

    /// One step on the way out for a lane that is replaced by lanes that serve.
    fn retire(&self, lane: LaneMachine) -> Go<()> {
        let machine = lane.machine;
        let Context { settings, now, .. } = *self.context;
        let destroy = || Err(act(Step::DestroyMachine(machine.id.clone())));
        if !lane.may_have_connections() {
            return destroy();
        }
        if !machine.cordoned {
            self.wait_until_successors_are_known()?;
            return Err(act(Step::Cordon(machine.id.clone())));
        }
        let Some(since) = lane.ours.retiring_since else {
            return Err(act(Step::StartRetiring(machine.id.clone(), now.wall)));
        };
        self.wait_until_cordon_is_known(machine)?;
        let retiring = now.wall.duration_since(since).unwrap_or_default();
        if retiring >= settings.drain_timeout || self.later_retiring(since) >= MOST_RETIRING {
            return destroy();
        }
        Err(wait_for(Waiting::Retiring, Look::Everything, settings.drain_timeout - retiring))
    }

    /// The number of lanes that began to retire after that time.
    fn later_retiring(&self, since: SystemTime) -> usize {
        let retiring = self.situation.leaving.iter().filter_map(|leaving| leaving.lane.ours.retiring_since);
        retiring.filter(|other| *other > since).count()
    }

    /// frpc objects whose Machine is gone are deleted: at once if this process destroyed it, else when it was missing
    /// for a while, since one list alone may lag.
    pub(super) fn clear_orphans(&self) -> Go<()> {
        let mut steps = Vec::new();
        let mut unsure = false;
        let mut orphan = |object: &LaneObject, step: fn(String) -> Step| {
            if self.situation.machines().any(|machine| machine.id == object.machine) {
                return;
            }
            let Context { memory, now, .. } = *self.context;
            let missing = memory.sightings.missing_machines.elapsed(&object.machine, memory.sightings.as_listed(now));
            let missing = missing.unwrap_or_default();
            if missing >= BELIEVED {
                steps.push(step(object.name.clone()));
            } else {
                unsure = true;
            }
        };
        self.objects.deployments.iter().for_each(|d| orphan(&d.object, Step::DeleteDeployment));
        self.useless_config_maps().for_each(|map| orphan(&map.object, Step::DeleteConfigMap));
        all(steps.into_iter())?;
        if unsure { Err(wait_for(Waiting::SecondLook, Look::Everything, BELIEVED)) } else { Ok(()) }
    }

    /// Whether the tunnel's Machines are those that are listed. One list without any tells nothing in a process that has seen none
    /// and did not make the App: the list may be late, and the process before this one may have made a Machine.
    fn machines_are_known(&self) -> bool {
        let Context { memory, now, .. } = *self.context;
        let none = memory.sightings.no_lane.map(|since| memory.sightings.as_listed(now).since(since));
        memory.deeds.app_created || memory.sightings.saw_a_lane || none.is_some_and(|none| none >= BELIEVED)
    }

    /// Whether this process saw the Machine destroyed.
    fn saw_destroyed(&self, machine: &str) -> bool {
        self.app.machines.iter().any(|known| known.id == machine && !known.exists())
    }

    /// Fly's edges had the time to learn that the wanted lanes are there.
    fn wait_until_successors_are_known(&self) -> Go<()> {
        let Context { settings, memory, now, .. } = *self.context;
        let serving = self.situation.slots.iter().filter(|slot| slot.state == SlotState::Serving);
        for lane in serving.filter_map(|slot| slot.machine) {
            let id = &lane.machine.id;
            let healthy = memory.sightings.in_service.elapsed(id, now).unwrap_or_default();
            if healthy < settings.settle_time {
                let look = Look::Machines(vec![id.clone()]);
                return Err(wait_for(Waiting::Settling, look, settings.settle_time - healthy));
            }
        }
        Ok(())
    }

    fn wait_until_cordon_is_known(&self, machine: &Machine) -> Go<()> {
        let Context { settings, memory, now, .. } = *self.context;
        let known = memory.sightings.cordoned.elapsed(&machine.id, now).unwrap_or_default();
        if known >= settings.settle_time {
            return Ok(());
        }
        let look = Look::Machines(vec![machine.id.clone()]);
        Err(wait_for(Waiting::Settling, look, settings.settle_time - known))
    }

    fn is_wished_for(&self, port: u16) -> bool {
        self.situation.slots.iter().any(|slot| slot.recipe.serves(Port::tcp(port)))
    }

    /// Should two Machines have been given one control port (Fly's lists lag), an frpc may reach the wrong one.
    fn shares_its_control_port(&self, machine: &Machine, port: u16) -> bool {
        self.situation
            .lanes()
            .any(|other| other.machine.id != machine.id && !other.machine.cordoned && other.ours.control_port == port)
    }

    /// The Machine of an earlier lane on the same host, with which this one would be lost. One more attempt is made for it.
    fn shares_its_host(&self, slot: &Slot, machine: &Machine) -> Option<&'a Machine> {
        if !self.context.memory.deeds.is_first_try(slot.id, &slot.generation) {
            return None;
        }
        let mut earlier =
            self.situation.slots.iter().filter(|other| other.id < slot.id).filter_map(|other| other.machine);
        earlier.find(|other| machine.host.is_some() && other.machine.host == machine.host).map(|other| other.machine)
    }

    fn lane_to_make(&self, slot: &Slot) -> Option<Lane> {
        let exposed = |port| self.situation.machines().any(|machine| machine.exposes(Port::tcp(port)));
        // Somebody may have taken the control port out of a Machine by hand.
        let uses = |lane: LaneMachine, port| lane.ours.control_port == port || lane.ours.probe_port == Some(port);
        let controls = |port| self.situation.lanes().any(|lane| uses(lane, port));
        let taken = |port| self.is_wished_for(port) || exposed(port) || controls(port);
        // A Machine that is being destroyed holds its name for a while, and so does one whose metadata somebody took off.
        let names = self.app.machines.iter().map(|machine| &machine.name);
        let listed: Vec<u32> = names.filter_map(|name| names::attempt(name, &slot.generation, slot.id)).collect();
        // One that is there, and that this list lacks, has to be a conflict.
        let unlisted = self.context.memory.sightings.last_attempt(&slot.generation, slot.id);
        let unlisted = unlisted.filter(|attempt| !listed.contains(attempt));
        let attempt = unlisted.unwrap_or_else(|| listed.iter().max().unwrap_or(&0) + 1);
        let base = self.context.settings.control_port_base;
        let control_port = free_port(base, taken)?;
        let probe_port = match slot.recipe.service_checks {
            ServiceChecks::Tunnel => Some(free_port(base, |port| port == control_port || taken(port))?),
            ServiceChecks::Tcp | ServiceChecks::Off => None,
        };
        let pool = pool(u8::try_from(self.situation.slots.len()).unwrap_or(u8::MAX));
        let (recipe, generation) = (slot.recipe.clone(), slot.generation.clone());
        let name = names::machine(&slot.generation, slot.id, attempt);
        Some(Lane { slot: slot.id, recipe, generation, name, control_port, probe_port, pool })
    }

    fn frpc(&self, slot: &Slot) -> Option<Frpc> {
        let LaneMachine { machine, ours, .. } = slot.machine?;
        let Ours { control_port, probe_port, pool, .. } = *ours;
        let (recipe, generation, name) = (slot.recipe.clone(), slot.generation.clone(), machine.name.clone());
        let lane = Lane { slot: slot.id, recipe, generation, name, control_port, probe_port, pool };
        Some(Frpc { lane, machine: machine.id.clone(), secret: self.secret.to_owned() })
    }
}

/// Traffic passes through the lane.
fn wait_for_traffic(slot: &Slot) -> Go<()> {
    match slot.machine.filter(|lane| !lane.serves).map(|lane| lane.machine) {
        Some(machine) if machine.is_checked() => Err(wait(Waiting::Traffic, Look::Machines(vec![machine.id.clone()]))),
        Some(_) => Err(wait(Waiting::Traffic, Look::Objects)),
        None => Ok(()),
    }
}
