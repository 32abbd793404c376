//! The plan of a tunnel that is to serve.

use std::time::Duration;

use super::lanes::Lanes;
use super::step::{Look, ServiceStep, Step, Waiting};
use super::waits::Waits;
use super::{BELIEVED, Context, Draft, Go, Halt, Next, READS_LAG, act, all, for_service, look, settled, wait_for};
use crate::service::request::Wish;
use crate::tunnel::condition::{Condition, Shown};
use crate::tunnel::failure::{Cause, Trouble};
use crate::tunnel::memory::Sightings;
use crate::tunnel::observed::{App, Family, KeysSecret, Objects, OurApp};
use crate::tunnel::situation::{Slot, SlotState};

/// The way to a tunnel that serves.
pub(super) fn plan(context: &Context, wish: &Wish) -> Draft {
    if context.tunnel.legacy().is_some() && context.seen.app.is_none() {
        return Draft::new(Next::Look(Look::Everything), None);
    }
    if let Some(condition) = context.in_the_way() {
        return context.halted(condition);
    }
    let Halt(next, why) = context.serve().err().unwrap_or(settled());
    let shown = context.seen.app.as_ref().and_then(|_| context.shown(&wish.warnings));
    Draft { next, why, shown }
}

impl Context<'_> {
    /// The steps to a tunnel that serves, in their order.
    pub(super) fn serve(&self) -> Go<()> {
        self.add_finalizer()?;
        self.app()?; // looked for first: whose it is decides on all the rest
        // If the cluster refuses something, it does so here, before anything is billed.
        let objects = self.objects()?;
        let keys = self.keys(objects)?;
        let app = self.own_app()?;
        self.address(app)?;
        let lanes = Lanes::new(self, app, objects, &keys.name);
        lanes.discard_useless()?;
        lanes.give_up_unreached()?;
        lanes.clear_destroyed()?;
        lanes.free_control_ports()?;
        let (failed, others): (Vec<_>, Vec<_>) = self.situation.slots.iter().partition(|slot| self.has_failed(slot));
        let mut waits = Waits::default();
        lanes.bring_up(&others, &mut waits)?;
        lanes.clear_copies()?;
        if self.situation.slots.iter().any(|slot| slot.state == SlotState::Serving) {
            lanes.retire_replaced(&mut waits)?;
            waits.gather(lanes.clear_orphans())?;
            if self.situation.leaving.is_empty() {
                self.release_surplus()?;
                self.delete_old_keys(objects, keys)?;
            }
        }
        // They come last: what fails each time would hold up everything behind it.
        lanes.bring_up(&self.least_refused_first(failed), &mut waits)?;
        waits.end()
    }

    /// Whether a lane of this slot could not be made, or did not come to serve, and none has served since.
    fn has_failed(&self, slot: &Slot) -> bool {
        self.memory.deeds.fails(slot.id, &slot.generation)
    }

    /// The one that was refused least comes first: the first that is refused ends the pass.
    fn least_refused_first<'s>(&self, mut slots: Vec<&'s Slot<'s>>) -> Vec<&'s Slot<'s>> {
        let refusals = |slot: &Slot| self.memory.deeds.refusals(slot.id, &slot.generation);
        if let Some((least, _)) = slots.iter().enumerate().min_by_key(|(_, slot)| refusals(slot)) {
            slots.swap(0, least);
        }
        slots
    }

    pub(super) fn add_finalizer(&self) -> Go<()> {
        match self.service() {
            Some(service) if !self.has_finalizer() => Err(act(for_service(service, ServiceStep::AddFinalizer))),
            _ => Ok(()),
        }
    }

    fn own_app(&self) -> Go<&OurApp> {
        match self.app()? {
            App::Ours(app) => Ok(app),
            App::Absent if self.address_is_lost() => {
                if !self.seen.shown_addresses().is_empty() {
                    self.confirmed_absence()?;
                }
                Err(act(Step::CreateApp))
            }
            App::Absent => Err(wait_for(Waiting::SecondLook, Look::App, BELIEVED)),
            App::Foreign(_) => Err(settled()),
        }
    }

    fn objects(&self) -> Go<&Objects> {
        self.seen.objects.as_ref().ok_or(look(Look::Objects))
    }

    /// The oldest complete Secret is current. The first is also the first object of a tunnel in the cluster: where it was
    /// refused for want of the namespace, that is made.
    fn keys<'o>(&self, objects: &'o Objects) -> Go<&'o KeysSecret> {
        if let Some(KeysSecret { name, labelled: false, .. }) = objects.keys.first() {
            return Err(act(Step::LabelKeys(name.clone())));
        }
        objects.keys.first().ok_or_else(|| {
            let missing = |trouble: &Trouble| trouble.failure.cause == Cause::NamespaceMissing;
            let namespace = self.memory.trouble.as_ref().filter(|trouble| missing(trouble));
            let steps = namespace.map(|_| Step::CreateNamespace).into_iter().chain([Step::CreateKeys]);
            Halt(Next::Act(steps.collect()), None)
        })
    }

    /// Fly bills every address that is asked for, so a list without one is believed at once only where nobody can have
    /// asked. As long as Fly did not show the App, or before it was asked last, its lists tell nothing.
    fn address(&self, app: &OurApp) -> Go<()> {
        if app.address(&self.seen.shown_addresses()).is_some() {
            return Ok(());
        }
        let Sightings { no_address_since_asked, .. } = &self.memory.sightings;
        let listed = self.memory.sightings.as_listed(self.now);
        let none_since_asked = no_address_since_asked.map(|since| listed.since(since));
        let deeds = &self.memory.deeds;
        let nobody_asked =
            deeds.app_created && !deeds.address_asked || none_since_asked.unwrap_or_default() >= BELIEVED;
        if nobody_asked && self.address_is_lost() {
            Err(act(Step::AllocateAddress(Family::V4)))
        } else {
            Err(wait_for(Waiting::SecondLook, Look::Everything, BELIEVED))
        }
    }

    /// An address that people use is given up only when Fly listed neither it nor another for as long as its reads may
    /// lag.
    pub(super) fn address_is_lost(&self) -> bool {
        self.seen.shown_addresses().is_empty() || self.unlisted_for() >= READS_LAG
    }

    /// For how long Fly has listed no address of the tunnel.
    pub(super) fn unlisted_for(&self) -> Duration {
        self.memory.sightings.no_address.map(|since| self.now.since(since)).unwrap_or_default()
    }

    fn release_surplus(&self) -> Go<()> {
        all(self.situation.addresses.surplus.iter().map(|ip| Step::ReleaseAddress(*ip)))
    }

    fn delete_old_keys(&self, objects: &Objects, current: &KeysSecret) -> Go<()> {
        let old = objects.keys.iter().map(|secret| &secret.name).filter(|name| **name != current.name);
        all(old.chain(&objects.useless_keys).map(|name| Step::DeleteSecret(name.clone())))
    }

    /// Nothing to do until a person or Fly changes something. The addresses that the Service shows stay, unless our App has long been
    /// without any, or somebody else's has long had its name.
    pub(super) fn halted(&self, condition: Condition) -> Draft {
        let is_known = match self.seen.app {
            Some(App::Ours(_)) => true,
            // Without an App of ours a Service of the Go operator shows that operator's address.
            Some(App::Foreign(_)) => self.tunnel.legacy().is_none(),
            Some(App::Absent) | None => false,
        };
        let is_released = is_known && self.unlisted_for() >= READS_LAG;
        let addresses = if is_released { Vec::new() } else { self.seen.shown_addresses() };
        Draft::new(Next::Settled, Some(Shown::new(addresses, condition)))
    }
}
