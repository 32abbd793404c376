//! Carries out one step: one idempotent call, whose reply is taken down as if it had been looked at.

use std::time::SystemTime;

use kube_client_lite::lease::Permit;
use kube_client_lite::{DeleteOptions, PatchOperation, Resource};
use serde::de::IgnoredAny;

use crate::cluster;
use crate::failure::{Failure, Kind};
use crate::fly::error::FlyError;
use crate::observe;
use crate::render::{machine, status};
use crate::service::{CONDITION, Service};
use crate::tunnel::Tunnel;
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::lane::Lane;
use crate::tunnel::memory::{Memory, Now};
use crate::tunnel::observed::{App, KeysSecret, LaneObject, Machine, Observed, OurApp, State};
use crate::tunnel::plan::{Frpc, Look, Reason, Shown, Step};
use crate::world::World;

/// Who wrote a field, for server-side apply.
const FIELD_MANAGER: &str = "fly-tunnel-operator";

impl World {
    /// Carries out the step. The caller has just made sure that it may; what else the step writes is left out where the
    /// permit ends meanwhile.
    ///
    /// # Errors
    /// It did not work out, or nobody knows: look again before the next.
    pub fn act(
        &self,
        step: &Step,
        tunnel: &Tunnel,
        seen: &mut Observed,
        memory: &mut Memory,
        now: Now,
        permit: &Permit,
    ) -> Result<(), Failure> {
        let app = tunnel.app.as_str();
        match step {
            Step::AddFinalizer => self.add_finalizer(seen)?,
            Step::RemoveFinalizer => self.remove_finalizer(seen, permit)?,
            Step::ShowStatus(shown) => self.show(shown, tunnel, seen, memory, permit)?,
            Step::CreateApp => self.create_app(tunnel, seen, memory)?,
            Step::DeleteApp => {
                self.fly.delete_app(app).map_err(|error| not_deleted(app, error))?;
                memory.app_deleted = Some(now.monotonic);
            }
            Step::AllocateAddress => {
                memory.app_created = false; // whatever comes of it, an address may be there
                let address = observe::address(self.fly.allocate_v4(app).map_err(no_address)?);
                if let Some(app) = seen.our_app_mut() {
                    app.addresses.push(address);
                }
            }
            Step::ReleaseAddress(ip) => {
                self.fly.release(app, *ip)?;
                if let Some(app) = seen.our_app_mut() {
                    app.addresses.retain(|address| address.ip != *ip);
                }
            }
            Step::CreateMachine(lane) => {
                self.create_machine(lane, tunnel, seen)?;
                memory.created(now);
            }
            Step::StartMachine(id) => {
                self.fly.start_machine(app, id)?;
                seen.change_machine(id, |machine| machine.state = State::Pending);
            }
            Step::DestroyMachine(id) => {
                self.fly.destroy_machine(app, id)?;
                seen.change_machine(id, |machine| machine.state = State::Gone);
            }
            Step::Cordon(id) => {
                self.fly.cordon(app, id)?;
                seen.change_machine(id, |machine| machine.cordoned = true);
            }
            Step::Uncordon(id) => {
                self.fly.uncordon(app, id)?;
                seen.change_machine(id, |machine| machine.cordoned = false);
            }
            Step::StartDraining(id, since) => {
                self.fly.set_metadata(app, id, machine::DRAINING_SINCE, &machine::time(*since))?;
                seen.mark_draining(id, Some(*since));
            }
            Step::StopDraining(id) => {
                self.fly.delete_metadata(app, id, machine::DRAINING_SINCE)?;
                seen.mark_draining(id, None);
            }
            Step::CreateKeys => {
                let keys = TunnelKeys::generate(app, now.wall).map_err(|text| Failure::new(Kind::Early, text))?;
                let body = self.home(tunnel).secret(&keys);
                self.create_secret(&body, permit)?;
                let name = crate::tunnel::names::keys(app, &keys.fingerprint());
                seen.objects_mut().keys.push(KeysSecret { name, keys });
            }
            Step::CreateConfigMap(frpc) => self.create_config_map(frpc, tunnel, seen)?,
            Step::ApplyDeployment(frpc) => self.apply_deployment(frpc, tunnel, seen, memory)?,
            Step::DeleteDeployment(name) => {
                self.delete(Resource::DEPLOYMENTS, name)?;
                memory.applied.remove(name);
                seen.objects_mut().deployments.retain(|deployment| deployment.object.name != *name);
            }
            Step::DeleteConfigMap(name) => {
                self.delete(Resource::CONFIG_MAPS, name)?;
                seen.objects_mut().config_maps.retain(|map| map.name != *name);
            }
            Step::DeleteSecret(name) => {
                self.delete(Resource::SECRETS, name)?;
                seen.objects_mut().keys.retain(|secret| secret.name != *name);
                seen.objects_mut().broken_keys.retain(|broken| broken != name);
            }
        }
        Ok(())
    }

    /// A JSON patch, since an apply cannot take away a finalizer that somebody else wrote; and guarded by tests, so
    /// that a Service that changed meanwhile is read again first.
    fn add_finalizer(&self, seen: &mut Observed) -> Result<(), Failure> {
        let Some(service) = &seen.service else { return Ok(()) };
        let finalizer = &self.settings.finalizer;
        let (path, value) = match service.metadata.finalizers.is_empty() {
            true => ("/metadata/finalizers", serde_json::json!([finalizer])),
            false => ("/metadata/finalizers/-", serde_json::json!(finalizer)),
        };
        let patch = PatchOperation::Add { path: path.into(), value };
        let patched = self.patch(service, vec![patch])?;
        seen.service = Some(Box::new(patched.ok_or_else(Failure::service_changed)?));
        Ok(())
    }

    /// Takes our condition away in the same patch.
    fn remove_finalizer(&self, seen: &mut Observed, permit: &Permit) -> Result<(), Failure> {
        let Some(service) = &seen.service else { return Ok(()) };
        let finalizer = service.metadata.finalizers.iter().position(|name| *name == self.settings.finalizer);
        let condition = service.status.conditions.iter().position(|condition| condition.r#type == CONDITION);
        let removals = [
            condition.map(|index| format!("/status/conditions/{index}")),
            finalizer.map(|index| format!("/metadata/finalizers/{index}")),
        ];
        let removals = removals.into_iter().flatten().map(|path| PatchOperation::Remove { path }).collect();
        match self.patch(service, removals)? {
            Some(mut patched) => {
                self.report_deleted(service, permit);
                patched.metadata.finalizers.retain(|name| *name != self.settings.finalizer);
                seen.service = Some(Box::new(patched));
                Ok(())
            }
            None => Err(Failure::service_changed()),
        }
    }

    /// Patches the Service if it is still as it was; `None` if it is not, or not there.
    fn patch(&self, service: &Service, changes: Vec<PatchOperation>) -> Result<Option<Service>, Failure> {
        let metadata = &service.metadata;
        let test = |path: &str, value: &str| PatchOperation::Test { path: path.into(), value: value.into() };
        let mut patch =
            vec![test("/metadata/uid", &metadata.uid), test("/metadata/resourceVersion", &metadata.resource_version)];
        patch.extend(changes);
        let path = Resource::SERVICES.status(&metadata.namespace, &metadata.name);
        match self.kube.json_patch(&path, &patch) {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.is_invalid() || error.is_conflict() || error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn show(
        &self,
        shown: &Shown,
        tunnel: &Tunnel,
        seen: &mut Observed,
        memory: &mut Memory,
        permit: &Permit,
    ) -> Result<(), Failure> {
        let Some(service) = &seen.service else { return Ok(()) };
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let path = Resource::SERVICES.status(&service.metadata.namespace, &service.metadata.name);
        match self.kube.apply(&path, FIELD_MANAGER, &status::apply(service, shown, &now)) {
            Ok(applied) => {
                self.report(service, shown, tunnel, memory, permit);
                seen.service = Some(Box::new(applied));
                Ok(())
            }
            Err(error) if error.is_invalid() || error.is_conflict() || error.is_not_found() => {
                Err(Failure::service_changed())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create_app(&self, tunnel: &Tunnel, seen: &mut Observed, memory: &mut Memory) -> Result<(), Failure> {
        match self.fly.create_app(&tunnel.app, &tunnel.network) {
            Ok(()) => {
                memory.app_created = true;
                memory.app_deleted = None;
                seen.app = Some(App::Ours(OurApp::default()));
                Ok(())
            }
            // Somebody else's, or our own of which the reply was lost: a look tells, perhaps a little later.
            Err(FlyError::NameTaken) => {
                self.look(&Look::Everything, tunnel, seen, memory)?;
                match &seen.app {
                    Some(App::Absent) => {
                        Err(Failure::new(Kind::Early, "the App's name is taken, but Fly does not show the App yet"))
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create_machine(&self, lane: &Lane, tunnel: &Tunnel, seen: &mut Observed) -> Result<(), Failure> {
        let keys = seen.objects_mut().keys.iter().find(|secret| secret.keys.fingerprint() == lane.recipe.keys);
        let Some(secret) = keys else {
            return Err(Failure::new(Kind::Outdated, "the lane's keys are not there any more"));
        };
        let request = machine::request(lane, &secret.keys, &self.owner_id, &tunnel.id.to_string());
        let made: Machine = match self.fly.create_machine(&tunnel.app, &request) {
            Ok(wire) => machine::observed(wire),
            Err(FlyError::MachineExists(id)) => machine::observed(self.fly.machine(&tunnel.app, &id)?),
            Err(error @ FlyError::Refused(_)) => {
                let what_to_do = "mend what it names, in the annotations of the Service or in the operator's settings";
                return Err(Failure::shown(Reason::InvalidService, format!("{error}; {what_to_do}")));
            }
            Err(error) => return Err(error.into()),
        };
        if !made.exists() {
            return Err(Failure::new(Kind::Early, "a Machine that is being destroyed still has the lane's name"));
        }
        seen.replace_machine(made);
        Ok(())
    }

    /// The first object that a tunnel has in the cluster. Where the namespace is missing it is made.
    fn create_secret(&self, secret: &serde_json::Value, permit: &Permit) -> Result<(), Failure> {
        let path = Resource::SECRETS.in_namespace(&self.namespace);
        match self.kube.create::<IgnoredAny>(&path, secret) {
            Err(error) if error.is_not_found() && permit.holds() => {
                cluster::make_namespace(&self.kube, &self.namespace)?;
                Err(Failure::new(Kind::Outdated, "the namespace was missing, and is made"))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    fn create_config_map(&self, frpc: &Frpc, tunnel: &Tunnel, seen: &mut Observed) -> Result<(), Failure> {
        let home = self.home(tunnel);
        let path = Resource::CONFIG_MAPS.in_namespace(&self.namespace);
        match self.kube.create::<IgnoredAny>(&path, &home.config_map(frpc)) {
            Ok(_) => {}
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        seen.objects_mut().config_maps.push(LaneObject { name: home.name(frpc), machine: frpc.machine.clone() });
        Ok(())
    }

    fn apply_deployment(
        &self,
        frpc: &Frpc,
        tunnel: &Tunnel,
        seen: &mut Observed,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        let home = self.home(tunnel);
        let path = Resource::DEPLOYMENTS.named(&self.namespace, &home.name(frpc));
        let applied = self.kube.apply(&path, FIELD_MANAGER, &home.deployment(frpc));
        let applied = applied.map_err(|error| match error.is_invalid() {
            true => {
                Failure::shown(Reason::InvalidService, format!("the cluster does not take frpc's Deployment: {error}"))
            }
            false => error.into(),
        })?;
        let deployment = observe::deployment(applied);
        memory.applied.insert(deployment.object.name.clone(), deployment.version);
        let deployments = &mut seen.objects_mut().deployments;
        deployments.retain(|known| known.object.name != deployment.object.name);
        deployments.push(deployment);
        Ok(())
    }

    fn delete(&self, resource: Resource, name: &str) -> Result<(), Failure> {
        match self.kube.delete(&resource.named(&self.namespace, name), &DeleteOptions::default()) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Somebody has to see to it, or it is billed for ever.
fn not_deleted(app: &str, error: FlyError) -> Failure {
    match error {
        FlyError::Refused(text) => Failure::shown(
            Reason::FlyUnavailable,
            format!("Fly does not delete the App: {text}. If that lasts: `fly apps destroy {app}`"),
        ),
        other => other.into(),
    }
}

/// Accounts on trial get no dedicated IPv4, and are told so by a 400.
fn no_address(error: FlyError) -> Failure {
    match error {
        FlyError::Refused(text) => FlyError::Quota(text).into(),
        other => other.into(),
    }
}
