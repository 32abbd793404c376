//! The plan of a tunnel that is to serve, and of one that must not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::lanes::Lanes;
use super::{
    BELIEVED, Context, Go, Halt, Look, Next, Plan, READS_LAG, Reason, Shown, Step, Waiting, act, all, wait_for,
};
use crate::tunnel::Ask;
use crate::tunnel::lane::Recipe;
use crate::tunnel::observed::{App, KeysSecret, Machine, Objects, OurApp};

/// The way to a tunnel that serves.
pub(super) fn plan(context: &Context, ask: &Ask) -> Plan {
    if context.tunnel.legacy.is_some() && context.seen.app.is_none() {
        return Plan { next: Next::Look(Look::Everything), shown: None };
    }
    if let Some((reason, message)) = context.in_the_way() {
        return context.halted(reason, message);
    }
    let next = match context.serve(ask) {
        Ok(()) => Next::Settled,
        Err(Halt(next)) => next,
    };
    match &context.seen.app {
        None => Plan { next, shown: None },
        Some(_) => Plan { shown: context.shown(ask), next },
    }
}

/// A Service that cannot be served: what runs stays as it is, but a door that is to be closed is closed.
pub(super) fn refuse(context: &Context, message: &str, close: bool) -> Plan {
    let live = context.seen.service.as_ref().is_some_and(|s| s.has_finalizer(&context.settings.finalizer));
    let next = match &context.seen.app {
        None if close && live => return Plan { next: Next::Look(Look::Everything), shown: None },
        Some(App::Ours(app)) if close => {
            let open = app.machines.iter().filter(|m| m.exists() && m.ours.is_some() && !m.cordoned);
            let steps: Vec<Step> = open.map(|machine| Step::Cordon(machine.id.clone())).collect();
            if steps.is_empty() { Next::Settled } else { Next::Act(steps) }
        }
        _ => Next::Settled,
    };
    Plan { next, ..context.halted(Reason::InvalidService, message.to_owned()) }
}

/// Fly routes a port to all Machines that expose it: the lane goes first.
const BREAKS_FIRST: &str = "the Service asks for the very port on which its lane is controlled, so that lane is closed first: new \
                            connections fail until the new lane serves";

fn fails_to_start(app: &str) -> String {
    format!("Machines of the App {app} do not come to serve and are made again; `fly logs --app {app}` may tell why")
}

impl Context<'_> {
    /// The steps to a tunnel that serves, in their order.
    fn serve(&self, ask: &Ask) -> Go<()> {
        self.finalizer()?;
        self.app()?; // looked for first: whose it is decides on all the rest
        // What the cluster refuses it refuses here, before anything is billed.
        let objects = self.objects()?;
        let keys = self.keys(objects)?;
        let app = self.own_app()?;
        let address = self.address(app)?;
        let recipe = self.recipe(ask, address, keys);
        let lanes = Lanes::new(self, app, objects, recipe, &keys.name);
        lanes.discard()?;
        lanes.free_the_control_port()?;
        lanes.make()?;
        lanes.connect()?;
        lanes.serve()?;
        lanes.replace()?;
        lanes.clear()?;
        self.release_surplus(app, address)?;
        self.delete_old_keys(objects, keys)
    }

    fn finalizer(&self) -> Go<()> {
        match &self.seen.service {
            Some(service) if !service.has_finalizer(&self.settings.finalizer) => Err(Halt(act(Step::AddFinalizer))),
            _ => Ok(()),
        }
    }

    fn own_app(&self) -> Go<&OurApp> {
        match self.app()? {
            App::Ours(app) => Ok(app),
            App::Absent => match self.address_is_lost() {
                true => {
                    if !self.seen.shown().is_empty() {
                        self.unlisted()?;
                    }
                    Err(Halt(act(Step::CreateApp)))
                }
                false => Err(Halt(wait_for(Waiting::SecondLook, Look::App, BELIEVED))),
            },
            App::Foreign(_) => Err(Halt(Next::Settled)),
        }
    }

    fn objects(&self) -> Go<&Objects> {
        self.seen.objects.as_ref().ok_or(Halt(Next::Look(Look::Objects)))
    }

    /// The oldest complete Secret is current.
    fn keys<'o>(&self, objects: &'o Objects) -> Go<&'o KeysSecret> {
        objects.keys.first().ok_or(Halt(act(Step::CreateKeys)))
    }

    /// Fly bills every address that is asked for, so a list without one is believed at once only where nobody can have
    /// asked.
    fn address(&self, app: &OurApp) -> Go<Ipv4Addr> {
        if let Some(address) = app.address(&self.seen.shown()) {
            return Ok(address);
        }
        let nobody_asked = self.memory.app_created || self.listed_none() >= BELIEVED;
        Err(Halt(match nobody_asked && self.address_is_lost() {
            true => act(Step::AllocateAddress),
            false => wait_for(Waiting::SecondLook, Look::Everything, BELIEVED),
        }))
    }

    /// An address that people use is given up only when Fly listed neither it nor another for as long as its reads may
    /// lag.
    fn address_is_lost(&self) -> bool {
        self.seen.shown().is_empty() || self.listed_none() >= READS_LAG
    }

    /// For how long Fly has listed no address of the tunnel.
    fn listed_none(&self) -> Duration {
        self.memory.no_address.map(|since| self.now.since(since)).unwrap_or_default()
    }

    fn recipe(&self, ask: &Ask, address: Ipv4Addr, keys: &KeysSecret) -> Recipe {
        Recipe::new(ask, &self.settings.lanes, address, &keys.keys.fingerprint())
    }

    fn release_surplus(&self, app: &OurApp, kept: Ipv4Addr) -> Go<()> {
        let surplus = app.addresses.iter().filter(|address| address.dedicated && address.ip != kept);
        all(surplus.map(|address| Step::ReleaseAddress(address.ip)))
    }

    fn delete_old_keys(&self, objects: &Objects, current: &KeysSecret) -> Go<()> {
        let old = objects.keys.iter().map(|secret| &secret.name).filter(|name| **name != current.name);
        all(old.chain(&objects.broken_keys).map(|name| Step::DeleteSecret(name.clone())))
    }

    /// What the Service shows: its address from the moment that a lane of the wanted generation serves, and no other,
    /// for as long as Fly lists it. A lane of another generation may lead to another place: to the ClusterIP of a
    /// Service that was deleted and made again, say. `None`, and all stays as it is, where one look shows no address.
    fn shown(&self, ask: &Ask) -> Option<Shown> {
        let app = self.seen.our_app();
        let address = app.and_then(|app| app.address(&self.seen.shown()));
        if address.is_none() && !self.address_is_lost() {
            let message = "Fly lists no address of the tunnel; another is asked for if it does not for a minute";
            let shown = Shown { addresses: self.seen.shown(), reason: Reason::Degraded, message: message.to_owned() };
            return (self.listed_none() >= BELIEVED).then_some(shown);
        }
        let keys = self.seen.objects.as_ref().and_then(|objects| objects.keys.first());
        let generation = address.zip(keys).map(|(address, keys)| self.recipe(ask, address, keys).generation());

        let machines = || app.into_iter().flat_map(|app| &app.machines).filter(|machine| machine.exists());
        let ours = || machines().filter_map(|machine| Some((machine, &machine.ours.as_ref()?.generation)));
        let open = || ours().filter(|(machine, _)| !machine.cordoned);
        let serves =
            open().any(|(machine, made_from)| Some(made_from) == generation.as_ref() && self.seen.serves(machine));
        let serving = serves && open().count() == 1;
        let taking_over = ours().any(|(machine, _)| machine.cordoned || self.seen.serves(machine));

        let in_the_way =
            |machine: &Machine| machine.ours.as_ref().is_some_and(|ours| ask.ports.contains(&ours.control_port));
        let breaks_first = ours().any(|(machine, _)| in_the_way(machine));

        let was_shown = |ip: &IpAddr| self.seen.shown().contains(ip);
        let addresses: Vec<IpAddr> =
            address.map(IpAddr::V4).into_iter().filter(|ip| serving || was_shown(ip)).collect();
        let (reason, message) = match addresses.first() {
            None if self.memory.fails_to_start() => (Reason::Degraded, fails_to_start(&self.tunnel.app)),
            None => (Reason::Provisioning, "the tunnel is being made".to_owned()),
            Some(address) if serving => (Reason::Serving, format!("serving at {address}")),
            Some(_) if taking_over && breaks_first => (Reason::Updating, BREAKS_FIRST.to_owned()),
            Some(_) if taking_over => (Reason::Updating, "a new lane takes over from the old one".to_owned()),
            Some(_) if self.memory.fails_to_start() => (Reason::Degraded, fails_to_start(&self.tunnel.app)),
            Some(_) => (Reason::Degraded, "no lane serves at the moment; it is being repaired".to_owned()),
        };
        let other = self.other_owner();
        // From here they are read again after a restart, so that each is told once.
        let parts: Vec<&str> =
            std::iter::once(message.as_str()).chain(ask.warnings.iter().copied()).chain(other.as_deref()).collect();
        Some(Shown { addresses, reason, message: parts.join("; ") })
    }
}
