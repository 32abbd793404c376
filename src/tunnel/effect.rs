//! The effect of a step on what was seen. It is written here once: for the steps that are carried out, and for those that are only
//! imagined.

use super::deeds::Deeds;
use super::keys::TunnelKeys;
use super::lane::Lane;
use super::names;
use super::now::Now;
use super::observed::{
    Address, App, ConfigMap, Deployment, KeysSecret, LaneObject, Machine, Objects, Observed, OurApp, Ours, State,
};
use super::plan::step::{GivenUp, ServiceStep, Step};
use crate::service::Service;

/// The answer to a step that was carried out.
pub enum Reply {
    /// It says nothing that matters.
    Done,
    /// The Service as it is now.
    Service(Box<Service>),
    /// The address that was given.
    Address(Address),
    /// The Machine that was made.
    Machine(Machine),
    /// A Machine that has its name already: it was made before.
    Twin(Machine),
    /// The keys that were made, and the UID of their Secret.
    Keys(TunnelKeys, String),
    /// The UID of the ConfigMap that was made.
    ConfigMap(String),
    /// The Deployment as it is now.
    Deployment(Deployment),
}

impl Observed {
    /// Takes down the effect of a step, as if it had been looked at. Parts that nobody looked at yet stay unknown.
    pub fn done(&mut self, step: &Step, reply: Reply, app: &str, deeds: &mut Deeds, now: Now) {
        match (step, reply) {
            (Step::For(_, step), Reply::Service(service)) => {
                if let ServiceStep::Show(shown) = step {
                    deeds.shown(shown, &service);
                }
                self.put_member(*service);
            }
            (Step::CreateApp, _) => {
                self.app = Some(App::Ours(OurApp::default()));
                (deeds.app_created, deeds.address_asked, deeds.app_deleted) = (true, false, None);
            }
            (Step::DeleteApp, _) => deeds.app_deleted = Some(now.monotonic),
            (Step::AllocateAddress(_), Reply::Address(address)) => self.in_app(|app| app.addresses.push(address)),
            (Step::ReleaseAddress(ip), _) => self.in_app(|app| app.addresses.retain(|address| address.ip != *ip)),
            (Step::CreateMachine(lane), Reply::Machine(machine)) => {
                self.note_creation(lane, deeds, now);
                deeds.spelling = lane.recipe.deviations(&machine);
                self.replace_machine(machine);
            }
            // Somebody may have changed it since, so how it differs is no spelling of Fly's.
            (Step::CreateMachine(lane), Reply::Twin(machine)) => {
                self.note_creation(lane, deeds, now);
                self.replace_machine(machine);
            }
            (Step::StartMachine(id), _) => {
                deeds.start_settled(id);
                self.change_ours(id, |ours| deeds.tried(ours.slot, &ours.generation, now));
                self.change_machine(id, |machine| machine.state = State::Pending);
            }
            (Step::DestroyMachine(id), _) => {
                deeds.start_settled(id);
                self.change_machine(id, |machine| machine.state = State::Gone);
            }
            (Step::GiveUpMachine(given_up), _) => {
                let GivenUp { slot, generation, machine, why } = &**given_up;
                deeds.gave_up(*slot, generation, why.as_deref(), now);
                self.change_machine(machine, |machine| machine.state = State::Gone);
            }
            (Step::Cordon(id), _) => self.change_machine(id, |machine| machine.cordoned = true),
            (Step::Uncordon(id), _) => self.change_machine(id, |machine| machine.cordoned = false),
            (Step::StartRetiring(id, since), _) => self.change_ours(id, |ours| ours.retiring_since = Some(*since)),
            (Step::NoteSpelling(id, spelling), _) => {
                self.change_ours(id, |ours| ours.spelling = Some(spelling.clone()));
            }
            (Step::StopRetiring(id), _) => self.change_ours(id, |ours| ours.retiring_since = None),
            (Step::CreateKeys | Step::LabelKeys(_), Reply::Keys(keys, uid)) => {
                let name = names::keys(app, &keys.fingerprint());
                self.in_objects(|objects| {
                    objects.keys.retain(|known| known.name != name);
                    objects.keys.insert(0, KeysSecret { name, keys, uid, labelled: true });
                });
            }
            (Step::CreateConfigMap(frpc), reply) => {
                let uid = if let Reply::ConfigMap(uid) = reply { uid } else { String::new() };
                let name = names::lane_object(app, &frpc.machine);
                let object = LaneObject { name, machine: frpc.machine.clone() };
                let recipe = Some(frpc.lane.recipe.to_text().into());
                let slot = frpc.lane.slot;
                let config_map = ConfigMap { object, slot, recipe, created_at: super::ready::rfc3339(now.wall), uid };
                self.in_objects(|objects| {
                    objects.copies.config_maps.retain(|known| *known != config_map.object.name);
                    objects.config_maps.push(config_map);
                });
            }
            (Step::ApplyDeployment(_), Reply::Deployment(deployment)) => {
                deeds.applied.set(&deployment.object.name, deployment.version);
                self.in_objects(|objects| {
                    objects.copies.deployments.retain(|known| *known != deployment.object.name);
                    objects.deployments.retain(|known| known.object.name != deployment.object.name);
                    objects.deployments.push(deployment);
                });
            }
            (Step::DeleteDeployment(name), _) => {
                deeds.applied.remove(name);
                self.in_objects(|objects| {
                    objects.deployments.retain(|known| known.object.name != *name);
                    objects.copies.deployments.retain(|known| known != name);
                });
            }
            (Step::DeleteConfigMap(name), _) => {
                self.in_objects(|objects| {
                    objects.config_maps.retain(|known| known.object.name != *name);
                    objects.copies.config_maps.retain(|known| known != name);
                });
            }
            (Step::DeleteSecret(name), _) => self.in_objects(|objects| {
                objects.keys.retain(|known| known.name != *name);
                objects.useless_keys.retain(|known| known != name);
            }),
            // The namespace is no part of what is seen. A reply that does not fit says nothing, so all is looked at again.
            (Step::CreateNamespace, _) => {}
            (
                Step::For(..)
                | Step::AllocateAddress(_)
                | Step::CreateMachine(_)
                | Step::CreateKeys
                | Step::LabelKeys(_)
                | Step::ApplyDeployment(_),
                _,
            ) => (self.app, self.objects) = (None, None),
        }
    }

    /// Takes note of a Machine that was made. Where another of its slot and generation runs, that one was edited.
    fn note_creation(&self, lane: &Lane, deeds: &mut Deeds, now: Now) {
        let is_of_it = |ours: &Ours| ours.slot == lane.slot && ours.generation == lane.generation;
        let runs = |machine: &Machine| machine.state == State::Started && machine.ours.as_ref().is_some_and(is_of_it);
        if self.our_app().is_some_and(|app| app.machines.iter().any(runs)) {
            deeds.repaired(lane.slot, &lane.generation, now);
        }
        deeds.tried(lane.slot, &lane.generation, now);
    }

    /// Takes down how a Machine is now.
    pub fn replace_machine(&mut self, machine: Machine) {
        self.in_app(|app| {
            app.machines.retain(|known| known.id != machine.id);
            app.machines.push(machine);
        });
    }

    fn change_machine(&mut self, id: &str, edit: impl FnMut(&mut Machine)) {
        self.in_app(|app| app.machines.iter_mut().filter(|machine| machine.id == id).for_each(edit));
    }

    fn change_ours(&mut self, id: &str, mut edit: impl FnMut(&mut Ours)) {
        self.change_machine(id, |machine| machine.ours.iter_mut().for_each(&mut edit));
    }

    fn in_app(&mut self, edit: impl FnOnce(&mut OurApp)) {
        if let Some(App::Ours(app)) = &mut self.app {
            edit(app);
        }
    }

    fn in_objects(&mut self, edit: impl FnOnce(&mut Objects)) {
        if let Some(objects) = &mut self.objects {
            edit(objects);
        }
    }
}
