//! Carries out one step: one idempotent call, and at most another for what it ran into.

use kube_client_lite::lease::Permit;
use serde_json::Value;

use crate::cluster::error::ClusterError;
use crate::cluster::{self, Kind};
use crate::fly::error::{ErrorKind, FlyError};
use crate::render::{address, machine, objects};
use crate::report;
use crate::service::{Service, ServiceId};
use crate::tunnel::Tunnel;
use crate::tunnel::effect::Reply;
use crate::tunnel::failure::{Cause, Failure};
use crate::tunnel::lane::{Frpc, Lane};
use crate::tunnel::memory::Memory;
use crate::tunnel::now::Now;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::step::{ServiceStep, Step};
use crate::world::World;

/// Everything that it takes to carry out a step.
pub struct Hand<'a> {
    pub world: &'a World,
    pub tunnel: &'a Tunnel,
    pub now: Now,
    /// The step's event is written only while this holds.
    pub permit: &'a Permit,
}

impl Hand<'_> {
    /// Carries out the step, and takes down its effect. The caller has just made sure that it may.
    ///
    /// # Errors
    /// It did not work out, or nobody knows: look again before the next.
    pub fn carry_out(&self, step: &Step, seen: &mut Observed, memory: &mut Memory) -> Result<(), Failure> {
        if let Step::CreateMachine(lane) = step {
            memory.sightings.attempted(&lane.generation, lane.slot, &lane.name);
        }
        let reply = match step {
            Step::For(id, step) => self.for_service(id, step, seen, memory)?,
            step => {
                if *step == Step::DeleteApp {
                    memory.deeds.time_of_deletion = None; // it holds for one request
                }
                let reply = send(self.world, step, self.tunnel, seen, self.now);
                let refused = reply.as_ref().is_err_and(Failure::is_a_refusal);
                match step {
                    Step::CreateApp if !refused => memory.asked_for_the_app(),
                    Step::AllocateAddress(_) if !refused => memory.asked_for_an_address(),
                    _ => {}
                }
                reply?
            }
        };
        seen.done(step, reply, &self.tunnel.app, &mut memory.deeds, self.now);
        Ok(())
    }

    fn for_service(
        &self,
        id: &ServiceId,
        step: &ServiceStep,
        seen: &Observed,
        memory: &mut Memory,
    ) -> Result<Reply, Failure> {
        let Hand { world, tunnel, now, permit } = *self;
        let Some(service) = seen.member(id) else { return Ok(Reply::Done) };
        let finalizer = &world.settings.finalizer;
        let written = match step {
            ServiceStep::AddFinalizer => world.cluster.add_finalizer(service, finalizer),
            ServiceStep::RemoveFinalizer => world.cluster.remove_finalizer(service, finalizer),
            ServiceStep::Show(shown) => world.cluster.show(service, shown, now),
        };
        let changed = written.map_err(|error| not_written(world, service, error))?;
        match step {
            ServiceStep::AddFinalizer => {}
            ServiceStep::RemoveFinalizer => report::deleted(world, service, permit),
            ServiceStep::Show(shown) => report::shown(world, service, shown, tunnel, memory, permit),
        }
        Ok(Reply::Service(Box::new(changed)))
    }
}

/// Sends what a step asks of Fly or of the cluster, but for those for a Service.
fn send(world: &World, step: &Step, tunnel: &Tunnel, seen: &Observed, now: Now) -> Result<Reply, Failure> {
    let (fly, app) = (&world.fly, tunnel.app.as_str());
    match step {
        Step::For(..) => return Ok(Reply::Done), // it is not for this function
        Step::CreateApp => fly.create_app(app, &tunnel.network).map_err(app_name)?,
        Step::DeleteApp => fly.delete_app(app).map_err(app_to_go)?,
        Step::AllocateAddress(family) => return Ok(Reply::Address(address::observed(fly.allocate(app, *family)?))),
        Step::ReleaseAddress(ip) => fly.release(app, *ip)?,
        Step::CreateMachine(lane) => return create_machine(world, lane, tunnel, seen),
        Step::StartMachine(id) => fly.start_machine(app, id)?,
        Step::DestroyMachine(id) => fly.destroy_machine(app, id)?,
        Step::GiveUpMachine(given_up) => fly.destroy_machine(app, &given_up.machine)?,
        Step::Cordon(id) => fly.cordon(app, id)?,
        Step::Uncordon(id) => fly.uncordon(app, id)?,
        Step::StartRetiring(id, since) => {
            fly.set_metadata(app, id, machine::RETIRING_SINCE, &machine::time(*since))?;
        }
        Step::NoteSpelling(id, spelling) => fly.set_metadata(app, id, machine::SPELLING, spelling)?,
        Step::StopRetiring(id) => fly.delete_metadata(app, id, machine::RETIRING_SINCE)?,
        Step::CreateNamespace => world.cluster.create_namespace()?,
        Step::CreateKeys => return create_keys(world, tunnel, now),
        Step::LabelKeys(name) => return label_keys(world, name, tunnel, seen),
        Step::CreateConfigMap(frpc) => return create_config_map(world, frpc, tunnel),
        Step::ApplyDeployment(frpc) => return write_deployment(world, frpc, tunnel, seen),
        Step::DeleteDeployment(name) => world.cluster.delete(Kind::Deployment, name)?,
        Step::DeleteConfigMap(name) => world.cluster.delete(Kind::ConfigMap, name)?,
        Step::DeleteSecret(name) => world.cluster.delete(Kind::Secret, name)?,
    }
    Ok(Reply::Done)
}

/// A write to the Service failed. One that names what it expects may have met a Service that changed meanwhile. If that is as
/// it was seen, the write itself is refused: by a policy, or since the Service's namespace is gone.
fn not_written(world: &World, service: &Service, error: ClusterError) -> Failure {
    if !error.is_not_as_seen() {
        return error.into();
    }
    let ServiceId { namespace, .. } = &service.id();
    match world.cluster.service(&service.id()) {
        Ok(Some(there)) if there.metadata.resource_version == service.metadata.resource_version => {
            let gone = error.kind == cluster::error::ErrorKind::NotFound;
            let advice = "is gone, and this Service is left of it";
            let text = format!(
                "the namespace {namespace} {advice}: `kubectl create namespace {namespace}`, and it is taken down"
            );
            if gone { Failure::new(Cause::Cluster, text) } else { error.into() }
        }
        _ => Failure::service_changed(),
    }
}

/// Somebody else's App, or our own of which the reply was lost: a look tells, perhaps a little later.
fn app_name(error: FlyError) -> Failure {
    let taken = error.kind == ErrorKind::NameTaken;
    let failure = Failure::from(error);
    if taken {
        Failure { text: "the App's name is taken, but Fly does not show the App yet".into(), ..failure }
    } else {
        failure
    }
}

/// An App that was there a moment ago may go by itself: somebody asked Fly to delete it before us.
fn app_to_go(error: FlyError) -> Failure {
    if error.is_not_found() { Failure::new(Cause::Outdated, "the App is not there any more") } else { error.into() }
}

fn create_machine(world: &World, lane: &Lane, tunnel: &Tunnel, seen: &Observed) -> Result<Reply, Failure> {
    let mut secrets = seen.objects.iter().flat_map(|objects| &objects.keys);
    let Some(secret) = secrets.find(|secret| secret.keys.fingerprint() == lane.recipe.keys) else {
        return Err(Failure::new(Cause::Outdated, "the lane's keys are not there any more"));
    };
    let request = machine::request(lane, &secret.keys, &world.owner_id, &tunnel.id.to_string());
    match world.fly.create_machine(&tunnel.app, &request) {
        Err(FlyError { kind: ErrorKind::MachineExists(id), .. }) => {
            let twin = machine::observed(world.fly.machine(&tunnel.app, &id)?);
            let text = "a Machine that is being destroyed still has the lane's name";
            if twin.exists() { Ok(Reply::Twin(twin)) } else { Err(Failure::new(Cause::Early, text)) }
        }
        made => Ok(Reply::Machine(machine::observed(made?))),
    }
}

/// The first object that a tunnel has in the cluster, so that it is the first to miss the namespace.
fn create_keys(world: &World, tunnel: &Tunnel, now: Now) -> Result<Reply, Failure> {
    let keys = world.random.tunnel_keys(&tunnel.app, now.wall).map_err(|text| Failure::new(Cause::Early, text))?;
    match world.cluster.create(Kind::Secret, &world.home(tunnel).secret(&keys)) {
        Err(error) if error.kind == cluster::error::ErrorKind::NotFound => {
            Err(Failure::new(Cause::NamespaceMissing, error.to_string()))
        }
        Err(error) => Err(error.into()),
        Ok(uid) => Ok(Reply::Keys(keys, uid.unwrap_or_default())),
    }
}

fn label_keys(world: &World, name: &str, tunnel: &Tunnel, seen: &Observed) -> Result<Reply, Failure> {
    let mut secrets = seen.objects.iter().flat_map(|objects| &objects.keys);
    let Some(secret) = secrets.find(|secret| secret.name == name) else { return Ok(Reply::Done) };
    let uid = create_anew(world, Kind::Secret, name, &world.home(tunnel).secret(&secret.keys))?;
    Ok(Reply::Keys(secret.keys.clone(), uid))
}

fn create_config_map(world: &World, frpc: &Frpc, tunnel: &Tunnel) -> Result<Reply, Failure> {
    let home = world.home(tunnel);
    let uid = create_anew(world, Kind::ConfigMap, &home.name(frpc), &home.config_map(frpc))?;
    Ok(Reply::ConfigMap(uid))
}

/// One that is there and is not as it should be was edited: somebody took its labels off, say. Nobody can change what it holds, so it
/// is made anew. Gives its UID.
fn create_anew(world: &World, kind: Kind, name: &str, object: &Value) -> Result<String, Failure> {
    let mut uid = world.cluster.create(kind, object)?;
    if uid.is_none() {
        world.cluster.delete(kind, name)?;
        uid = world.cluster.create(kind, object)?;
    }
    Ok(uid.unwrap_or_default())
}

/// An apply leaves what others added as it is, so where they did, also since the last look, the Deployment is written whole.
fn write_deployment(world: &World, frpc: &Frpc, tunnel: &Tunnel, seen: &Observed) -> Result<Reply, Failure> {
    let home = world.home(tunnel);
    let (name, object) = (home.name(frpc), home.deployment(frpc));
    let replace = || world.cluster.replace_deployment(&name, &object).map(objects::read::deployment);
    let written = if seen.deployment(&frpc.machine).is_some_and(|deployment| deployment.foreign) {
        replace()
    } else {
        let applied = world.cluster.apply_deployment(&name, &object).map(objects::read::deployment);
        applied.and_then(|deployment| if deployment.foreign { replace() } else { Ok(deployment) })
    };
    written.map(Reply::Deployment).map_err(|error| {
        let refused = error.kind == cluster::error::ErrorKind::Invalid;
        if refused { Failure::new(Cause::ObjectRefused, error.to_string()) } else { error.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;
    use crate::examples;
    use crate::model::{Model, edit};
    use crate::tunnel::desired;

    /// Otherwise it would stay so: a Deployment that is as it was written last is taken for ours.
    #[test]
    fn a_deployment_that_somebody_edits_after_the_last_look_is_written_whole() {
        let model = Model::new(0, false);
        let world = model.world(Events::counted().0, desired::tunnel);
        let tunnel = examples::tunnel();
        let (slot, recipe) = (crate::tunnel::lane::SlotId::tcp(0), examples::recipe());
        let lane = Lane {
            slot,
            recipe,
            generation: "g".into(),
            name: "frps-g-0-1".into(),
            control_port: 7000,
            probe_port: Some(7001),
            pool: 50,
        };
        let frpc = Frpc { lane, machine: "m1".into(), secret: "the-secret".into() };
        let write = || write_deployment(&world, &frpc, &tunnel, &Observed::default());
        write().expect("it is made");
        model.state().deployments.values_mut().for_each(edit);
        let Ok(Reply::Deployment(written)) = write() else { panic!("it is written") };
        assert!(!written.foreign);
    }
}
