//! The plan of a tunnel that is to go, in reverse: frpc, address, Machine, App; the finalizer last, and only when
//! nothing billed can be left. Before an uninstall the address goes first: what Fly does not let go goes on serving.

use std::net::IpAddr;
use std::time::Duration;

use super::{Context, Go, Halt, Look, Next, Plan, READS_LAG, Reason, Shown, Step, Waiting, act, all, wait, wait_for};
use crate::tunnel::Wanted;
use crate::tunnel::observed::{App, Objects, OurApp};

pub(super) fn plan(context: &Context) -> Plan {
    let next = match context.remove() {
        Ok(()) => Next::Gone,
        Err(Halt(next)) => next,
    };
    let legacy = context.tunnel.legacy.is_some() && context.seen.our_app().is_none();
    if let Some(message) = context.guarded().filter(|_| next == Next::Settled && !legacy) {
        return match context.drains() {
            true => Plan { next: Next::Left(message), shown: None },
            false => context.halted(Reason::NameConflict, message),
        };
    }
    let shown = Shown {
        addresses: context.addresses_left(),
        reason: if legacy { Reason::LegacyTunnel } else { Reason::Deleting },
        message: match legacy {
            true => "the Go operator's App may still be there: delete it, then take away the finalizer by hand".into(),
            false => "the tunnel is being taken down".into(),
        },
    };
    let untouched = context.drains() && (legacy || context.undecided());
    let last = next == act(Step::RemoveFinalizer) && (!context.drains() || context.seen.shown().is_empty());
    let writes = next != Next::Gone && !last && !untouched;
    Plan { shown: writes.then_some(shown), next }
}

impl Context<'_> {
    fn remove(&self) -> Go<()> {
        let app = self.app()?;
        if self.tunnel.legacy.is_some() && !matches!(app, App::Ours(_)) {
            return Err(Halt(Next::Settled)); // its finalizer may guard an App that we know nothing of
        }
        let objects = self.seen.objects.as_ref().ok_or(Halt(Next::Look(Look::Objects)))?;
        match self.drains() {
            true => release(app).and_then(|()| remove_objects(objects))?,
            false => remove_objects(objects).and_then(|()| release(app))?,
        }
        match app {
            App::Ours(app) => self.remove_app(app)?,
            _ if self.guarded().is_some() => return Err(Halt(Next::Settled)),
            App::Absent => self.app_is_gone()?,
            App::Foreign(_) => {}
        }
        match &self.seen.service {
            Some(service) if self.has_finalizer() || self.drains() && service.condition().is_some() => {
                Err(Halt(act(Step::RemoveFinalizer)))
            }
            _ => Ok(()),
        }
    }

    /// The address is shown for as long as Fly lists it, where the Service stays.
    fn addresses_left(&self) -> Vec<IpAddr> {
        let mut shown = self.seen.shown();
        if self.drains() {
            let listed = self.seen.our_app().map(|app| &app.addresses);
            shown.retain(|ip| listed.is_some_and(|listed| listed.iter().any(|address| address.ip == *ip)));
        }
        shown
    }

    /// The App is not there, and the address that the Service shows may yet tell whose it is.
    fn undecided(&self) -> bool {
        let absent = matches!(self.seen.app, Some(App::Absent)) && self.memory.app_deleted.is_none();
        absent && self.has_finalizer() && self.seen.unlisted.as_ref().is_none_or(|list| list.holder.is_some())
    }

    /// Before an uninstall the Service stays; after any other removal it is gone, or somebody else's.
    fn drains(&self) -> bool {
        self.tunnel.wanted == Wanted::Drained
    }

    /// The finalizer may guard another owner's App: who changed the cluster name would never hear of it again.
    fn guarded(&self) -> Option<String> {
        self.other_owner().filter(|_| self.has_finalizer())
    }

    fn has_finalizer(&self) -> bool {
        self.seen.service.as_ref().is_some_and(|service| service.has_finalizer(&self.settings.finalizer))
    }

    fn remove_app(&self, app: &OurApp) -> Go<()> {
        let machines = app.machines.iter().filter(|machine| machine.exists());
        all(machines.map(|machine| Step::DestroyMachine(machine.id.clone())))?;
        let asked = self.memory.app_deleted.map(|at| self.now.since(at));
        Err(Halt(match asked {
            // A deletion that was accepted and takes so long is asked for again.
            Some(ago) if ago < READS_LAG => wait(Waiting::AppGone, Look::App),
            _ => act(Step::DeleteApp),
        }))
    }

    /// "Not found" means gone at once where this process saw the DELETE accepted. Otherwise the App may have been made
    /// a moment ago, and Fly's reads lag.
    fn app_is_gone(&self) -> Go<()> {
        if self.memory.app_deleted.is_some() {
            return Ok(());
        }
        // Nothing is made before the finalizer is there; one look more than none is for whoever took it away by hand.
        if self.drains() && !self.has_finalizer() {
            return Ok(());
        }
        let absent = self.memory.absent.map(|since| self.now.since(since)).unwrap_or_default();
        if absent < READS_LAG {
            // Looked at all the while: an App that appears is taken down at once.
            let after = (READS_LAG - absent).min(Duration::from_secs(5));
            return Err(Halt(wait_for(Waiting::AppGone, Look::App, after)));
        }
        self.unlisted().map(|_| ())
    }

    /// Whether this process saw the Machine destroyed.
    pub(super) fn destroyed(&self, machine: &str) -> bool {
        self.seen.our_app().is_some_and(|app| app.machines.iter().any(|m| m.id == machine && !m.exists()))
    }
}

fn release(app: &App) -> Go<()> {
    let App::Ours(app) = app else { return Ok(()) };
    all(app.addresses.iter().map(|address| Step::ReleaseAddress(address.ip)))
}

fn remove_objects(objects: &Objects) -> Go<()> {
    let deployments = objects.deployments.iter().map(|d| Step::DeleteDeployment(d.object.name.clone()));
    let config_maps = objects.config_maps.iter().map(|map| Step::DeleteConfigMap(map.name.clone()));
    let secrets = objects.keys.iter().map(|secret| &secret.name).chain(&objects.broken_keys);
    all(deployments.chain(config_maps).chain(secrets.map(|name| Step::DeleteSecret(name.clone()))))
}
