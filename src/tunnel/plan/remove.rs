//! The plan of a tunnel that is to go, in reverse: frpc, address, Machine, App; the finalizer last, and only when
//! nothing billed can be left.

use std::net::IpAddr;
use std::time::Duration;

use super::step::{Look, ServiceStep, Step, Waiting};
use super::{Context, Draft, Go, Halt, Next, READS_LAG, act, all, for_service, look, settled, wait, wait_for};
use crate::tunnel::condition::{Condition, Read, Reason, Shown};
use crate::tunnel::observed::{App, Objects, OurApp};

pub(super) fn plan(context: &Context) -> Draft {
    if context.has_finalizer() && context.is_only_legacy() {
        return context.halted(Condition::legacy_tunnel_of_a_deleted_service());
    }
    let Halt(next, why) = context.remove().err().unwrap_or(Halt(Next::Gone, None));
    if next == Next::Settled
        && let Some(other) = context.guarded()
    {
        return context.halted(Condition::other_owner(&other));
    }
    let keeps = context.may_be_another_owners();
    let addresses = if keeps { context.seen.shown_addresses() } else { context.addresses_left() };
    let shown = (!context.is_last(&next)).then(|| Shown::new(addresses, Condition::deleting()));
    Draft { next, why, shown }
}

pub(super) fn removes_the_finalizer(next: &Next) -> bool {
    matches!(next, Next::Act(steps) if matches!(steps[..], [Step::For(_, ServiceStep::RemoveFinalizer)]))
}

impl Context<'_> {
    fn remove(&self) -> Go<()> {
        let app = self.app()?;
        self.remove_objects()?;
        release(app)?;
        self.remove_the_rest(app)
    }

    /// The App goes, unless it is somebody else's; then our finalizer and our condition.
    pub(super) fn remove_the_rest(&self, app: &App) -> Go<()> {
        match app {
            App::Ours(app) => self.remove_app(app)?,
            _ if self.guarded().is_some() => return Err(settled()),
            App::Absent => self.wait_until_absence_is_believed()?,
            App::Foreign(_) => {}
        }
        match self.service() {
            Some(service) if self.has_finalizer() || service.condition().is_some() => {
                Err(act(for_service(service, ServiceStep::RemoveFinalizer)))
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing is shown any more: the condition goes together with the finalizer. Released addresses go before, since
    /// somebody else's finalizer may keep the Service.
    pub(super) fn is_last(&self, next: &Next) -> bool {
        let finalizer_goes = removes_the_finalizer(next) && self.seen.shown_addresses().is_empty();
        *next == Next::Gone || finalizer_goes
    }

    /// The addresses that the Service may show: each as long as Fly lists it.
    pub(super) fn addresses_left(&self) -> Vec<IpAddr> {
        let listed = self.seen.our_app().map(|app| app.addresses.as_slice()).unwrap_or_default();
        let mut shown = self.seen.shown_addresses();
        shown.retain(|ip| listed.iter().any(|address| address.ip == *ip));
        shown
    }

    /// The App is not there, and the address that the Service shows may yet tell that it is another owner's.
    pub(super) fn may_be_another_owners(&self) -> bool {
        let absent = matches!(self.seen.app, Some(App::Absent)) && self.memory.deeds.app_deleted.is_none();
        absent && self.has_finalizer() && self.seen.absence.as_ref().is_none_or(|absence| absence.holder.is_some())
    }

    /// The Service carries annotations of the Go operator, and no App of ours exists or existed: our finalizer may guard an App
    /// that we know nothing of.
    pub(super) fn is_only_legacy(&self) -> bool {
        let no_app = matches!(self.seen.app, Some(App::Absent | App::Foreign(_)));
        self.tunnel.legacy().is_some() && no_app && !self.had_a_tunnel()
    }

    /// A tunnel of ours was made for the Service: this process deleted its App, or the condition is one that only such a Service
    /// shows.
    fn had_a_tunnel(&self) -> bool {
        use Reason::*;
        let shown = self.service().and_then(Read::of).map(|read| read.reason);
        self.memory.deeds.app_deleted.is_some() || matches!(shown, Some(Serving | Provisioning | Updating | Deleting))
    }

    /// Our objects in the cluster go: Deployments first, so that nothing runs with what goes after them.
    pub(super) fn remove_objects(&self) -> Go<()> {
        let objects: &Objects = self.seen.objects.as_ref().ok_or(look(Look::Objects))?;
        let Objects { deployments, config_maps, keys, useless_keys, copies, .. } = objects;
        let deployments = deployments.iter().map(|d| &d.object.name).chain(&copies.deployments);
        let config_maps = config_maps.iter().map(|map| &map.object.name).chain(&copies.config_maps);
        let secrets = keys.iter().map(|secret| &secret.name).chain(useless_keys);
        let deployments = deployments.map(|name| Step::DeleteDeployment(name.clone()));
        let config_maps = config_maps.map(|name| Step::DeleteConfigMap(name.clone()));
        all(deployments.chain(config_maps).chain(secrets.map(|name| Step::DeleteSecret(name.clone()))))
    }

    /// The Machines go, and then the App with all that is left in it.
    fn remove_app(&self, app: &OurApp) -> Go<()> {
        let machines = app.machines.iter().filter(|machine| machine.exists());
        all(machines.map(|machine| Step::DestroyMachine(machine.id.clone())))?;
        let deeds = &self.memory.deeds;
        // A deletion that was accepted and takes so long is asked for again.
        if deeds.app_deleted.is_some_and(|at| self.now.since(at) < READS_LAG) {
            return Err(wait(Waiting::AppGone, Look::App));
        }
        match deeds.time_of_deletion.map(|at| at.saturating_sub(self.now.monotonic)) {
            None => Err(look(Look::TimeOfDeletion)),
            Some(Duration::ZERO) => Err(act(Step::DeleteApp)),
            Some(left) => Err(wait_for(Waiting::Deletions, Look::App, left)),
        }
    }

    /// "Not found" means gone at once where this process saw the DELETE accepted. Otherwise the App may have been made
    /// a moment ago, and Fly's reads lag. For a Service that is there without our finalizer nothing was ever made, as far as this process
    /// knows, unless somebody took the finalizer off by hand. One look at Fly covers that.
    fn wait_until_absence_is_believed(&self) -> Go<()> {
        let deeds = &self.memory.deeds;
        let never_had_one = self.service().is_some() && !self.has_finalizer() && !deeds.app_asked;
        if deeds.app_deleted.is_some() || never_had_one {
            return Ok(());
        }
        let absent = self.memory.sightings.absent.map(|since| self.now.since(since)).unwrap_or_default();
        if absent < READS_LAG {
            // Looked at all the while: an App that appears is taken down at once.
            let after = (READS_LAG - absent).min(Duration::from_secs(5));
            return Err(wait_for(Waiting::AppGone, Look::App, after));
        }
        self.confirmed_absence().map(|_| ())
    }
}

/// All addresses of the App are given back.
pub(super) fn release(app: &App) -> Go<()> {
    let App::Ours(app) = app else { return Ok(()) };
    all(app.addresses.iter().map(|address| Step::ReleaseAddress(address.ip)))
}
