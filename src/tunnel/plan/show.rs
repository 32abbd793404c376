//! Decides what a Service shows, and when it is written.

use super::remove::removes_the_finalizer;
use super::step::{Look, ServiceStep, Step, Waiting};
use super::{BELIEVED, Context, Draft, Halt, Next, Plan, act, for_service, wait_for};
use crate::service::Service;
use crate::service::port::Port;
use crate::service::request::Warning;
use crate::tunnel::Wanted;
use crate::tunnel::condition::{Condition, Note, Read, Ready, Reason, Shown, fails_to_start};
use crate::tunnel::failure::{Attempt, Cause, Failure, Trouble};
use crate::tunnel::lane::SlotId;
use crate::tunnel::machines::LaneMachine;
use crate::tunnel::observed::Machine;
use crate::tunnel::situation::{Slot, SlotState};

/// Fly and clusters have a bad moment now and then. The Service shows it from this many failures in a row on.
const WORTH_A_WORD: u32 = 3;

impl Context<'_> {
    /// The status is written before the next thing is begun, but after the finalizer, and after all that has
    /// to be looked at first. Where the API server does not take it, the next thing is begun all the same.
    pub(super) fn show_first(&self, draft: Draft) -> Plan {
        let Draft { next, why, shown } = draft;
        let (Some(service), Some(shown)) = (self.service(), shown) else { return Plan { next, why } };
        let shown = self.completed(shown);
        let later = match &next {
            Next::Look(_) => true,
            Next::Act(steps) => adds_the_finalizer(steps) || may_wait(&shown, service),
            Next::Wait(_) if self.memory.trouble.as_ref().is_some_and(Trouble::is_unsolved) => {
                may_wait(&shown, service)
            }
            Next::Wait(_) | Next::TryAgain | Next::Settled | Next::LeftAlone(_) | Next::MadeAgain | Next::Gone => false,
        };
        if later || shown.is_shown_by(service) || self.memory.deeds.is_rewritten(&shown, service) {
            return Plan { next, why };
        }
        if let Some(left) = self.memory.write_waits(self.now) {
            let Halt(later, _) = wait_for(Waiting::Write, Look::Everything, left);
            // Once our finalizer is gone nobody would take the released address out of the status.
            let must_wait = next == Next::Settled || removes_the_finalizer(&next) && !shown.condition_alone;
            let next = if must_wait { later } else { next };
            return Plan { next, why };
        }
        let Halt(next, why) = act(for_service(service, ServiceStep::Show(shown)));
        Plan { next, why }
    }

    /// A Service that became no load balancer, or one of another class, keeps only our condition, until our finalizer goes.
    fn completed(&self, shown: Shown) -> Shown {
        let condition_alone = self.tunnel.member().is_some_and(|member| !member.is_load_balancer);
        // Without an address nobody comes: a lane may lead to a Service that was deleted and made again.
        let ready = if shown.addresses.is_empty() { Ready::False } else { self.ready() };
        Shown { condition_alone, ready, ..shown }
    }

    /// Whether users are served, as far as anybody can tell. It is no question of the reason: what hinders a new lane does not
    /// hinder the old.
    fn ready(&self) -> Ready {
        let served = match &self.seen.app {
            _ if self.tunnel.is_to_go() => Some(false),
            Some(_) => Some(self.situation.lanes().any(|lane| lane.takes_users())),
            None => self.memory.sightings.users_served,
        };
        let connected = self.seen.frpc_connected.unwrap_or_default();
        match served {
            Some(true) => Ready::True,
            Some(false) => Ready::False,
            None => Ready::without_fly(self.service().and_then(Service::condition), connected, self.now.wall),
        }
    }

    /// A look or a step of this pass failed. The Service is told, where it is worth a word, and nothing more is tried before
    /// some time has passed. The addresses stay, whatever fails.
    pub(super) fn after_failure(&self, trouble: &Trouble) -> Draft {
        let condition = if trouble.untold { None } else { self.trouble_shown(trouble) };
        let nobody_looked = self.seen.frpc_connected.is_none() && matches!(self.ready(), Ready::Unknown { .. });
        if condition.is_some() && nobody_looked {
            return Draft::new(Next::Look(Look::Frpc), None);
        }
        // How many lanes serve is not known any more. The next look tells, and then it is shown with the failure.
        let others_serve = self.memory.sightings.users_served == Some(true) && self.tunnel.lanes() > 1;
        let condition = condition.filter(|_| trouble.attempt != Attempt::CreateMachine || !others_serve);
        let connected = (self.seen.frpc_connected == Some(true)).then_some(Note::FrpcConnected);
        let shown = condition.map(|condition| {
            let shown = Shown::new(self.seen.shown_addresses(), condition);
            let shown = match self.tunnel.wanted() {
                Wanted::Refused { message, .. } => self.refused(message, shown),
                Wanted::Served(_) | Wanted::Removed | Wanted::Drained => shown,
            };
            Shown { notes: shown.notes.into_iter().chain(connected).collect(), ..shown }
        });
        Draft::new(Next::TryAgain, shown)
    }

    /// The Service is refused: that is what its user can mend, so it stays the reason while something fails beside. The failure stands
    /// behind it until what failed is done.
    pub(super) fn refused(&self, message: &str, shown: Shown) -> Shown {
        let unsolved = self.memory.trouble.as_ref().filter(|trouble| trouble.fresh || trouble.is_unsolved());
        let failure = unsolved.and_then(|trouble| self.trouble_shown(trouble)).map(Note::Failure);
        Shown { condition: Condition::invalid_service(message), notes: failure.into_iter().collect(), ..shown }
    }

    /// Our finalizer could not be written in an earlier pass. The Service was read again since, so it can be told now.
    pub(super) fn tell_of_a_failed_write(&self) -> Option<Plan> {
        let trouble = self.memory.trouble.as_ref()?;
        let told = trouble.fresh || trouble.unread || !trouble.untold || trouble.attempt != Attempt::Finalizer;
        let told = told || self.memory.write_waits(self.now).is_some();
        let condition = if told { None } else { self.trouble_shown(trouble) };
        let (service, shown) = (self.service()?, Shown::new(self.seen.shown_addresses(), condition?));
        let shown = self.completed(shown);
        let Halt(next, why) = act(for_service(service, ServiceStep::Show(shown)));
        Some(Plan { next, why })
    }

    /// The condition of a failure. What passes by itself is shown only where it does not.
    fn trouble_shown(&self, trouble: &Trouble) -> Option<Condition> {
        let worth_a_word = match trouble.failure.cause {
            Cause::Outdated | Cause::NamespaceMissing => false,
            Cause::Refused if matters_to_the_service(trouble.attempt) => true,
            Cause::Refused | Cause::Unavailable | Cause::Busy | Cause::Cluster => trouble.times >= WORTH_A_WORD,
            Cause::Early | Cause::NameTaken => trouble.lasts_too_long_for_early(),
            Cause::ObjectRefused | Cause::TokenUnreadable | Cause::TokenRefused | Cause::TokenTooWeak => true,
            Cause::OtherOrganisation | Cause::Capacity | Cause::Quota => true,
        };
        worth_a_word.then(|| condition(&trouble.failure, trouble.attempt, &self.tunnel.app))
    }

    /// The status of a Service that is to be served: its address from the moment that a wanted lane serves, and no
    /// other, for as long as Fly lists it. `None`, and all stays as it is, where one look shows no address.
    pub(super) fn shown(&self, warnings: &[Warning]) -> Option<Shown> {
        let situation = &self.situation;
        if situation.addresses.kept.is_none() && !self.address_is_lost() {
            let shown = Shown::new(self.seen.shown_addresses(), Condition::no_address_listed());
            return (self.unlisted_for() >= BELIEVED).then_some(shown);
        }
        let app = &self.tunnel.app;
        let serving = situation.is_serving();
        let was_shown = self.seen.shown_addresses();
        let begins = situation.begins_to_serve();
        let address = situation.addresses.kept.filter(|ip| begins || was_shown.contains(&(*ip).into()));
        let taking_over = situation.lanes().any(|lane| lane.machine.cordoned || lane.serves);
        let on_a_port_of_the_service = |port| situation.slots.iter().any(|slot| slot.recipe.serves(Port::tcp(port)));
        let breaks_first = situation.lanes().any(|lane| on_a_port_of_the_service(lane.ours.control_port));
        let fails_to_start =
            situation.slots.iter().any(|slot| self.memory.deeds.fails_to_start(slot.id, &slot.generation));
        let waits = self.memory.waits_its_turn && situation.is_to_replace();
        let frpc = self.frpc_trouble();
        let partly = self.partly_served();
        let refused = situation.slots.iter().find_map(|slot| self.refusal_of(slot));
        let unreached = situation.slots.iter().find_map(|slot| self.long_unreached(slot));
        let unreached = unreached.map(|machine| Condition::unreached(app, &machine.id));
        let condition = match (address, frpc) {
            (Some(address), _) if serving => Condition::serving(address, situation.slots.len()),
            (Some(_), _) if partly.is_some() => partly.unwrap_or_else(Condition::no_lane_serves),
            _ if refused.is_some() => refused.unwrap_or_else(Condition::no_lane_serves),
            (_, Some(why)) if situation.lanes().any(|lane| lane.takes_users()) => Condition::new_frpc_unavailable(&why),
            (_, Some(why)) => Condition::frpc_unavailable(&why),
            (None, _) if fails_to_start => Condition::fails_to_start(app),
            (None, _) => unreached.unwrap_or_else(Condition::provisioning),
            (Some(_), _) if taking_over && breaks_first => Condition::breaking_first(),
            (Some(_), _) if taking_over && fails_to_start => Condition::new_lane_fails_to_start(app),
            (Some(_), _) if taking_over && waits => Condition::waiting_its_turn(),
            (Some(_), _) if situation.has_surplus_lanes() => Condition::lanes_leave(),
            (Some(_), _) if taking_over => Condition::taking_over(),
            (Some(_), _) if fails_to_start => Condition::fails_to_start(app),
            (Some(_), _) => unreached.unwrap_or_else(Condition::no_lane_serves),
        };
        let warnings = warnings.iter().copied().map(Note::Warning);
        let stranger = |machine: &&Machine| Note::Stranger { app: app.clone(), machine: machine.id.clone() };
        let strangers = situation.strangers.iter().map(stranger);
        let hosts = situation.shared_host().map(|(one, other)| Note::SharedHost(one, other));
        let notes = warnings.chain(self.other_owner().map(Note::OtherOwner)).chain(hosts).chain(strangers).collect();
        Some(Shown { notes, ..Shown::new(address.into_iter().map(Into::into).collect(), condition) })
    }
}

impl Context<'_> {
    /// Some lanes serve, and fewer than are wanted: they are made for the first time, or some are lost.
    fn partly_served(&self) -> Option<Condition> {
        let slots = &self.situation.slots;
        let (serving, wanted) = (self.situation.lanes().filter(LaneMachine::takes_users).count(), slots.len());
        if serving == 0 || serving >= wanted {
            return None;
        }
        let was = self.service().and_then(Read::of);
        let missing = slots.iter().filter(|slot| slot.state != SlotState::Serving);
        let missing: Vec<_> = missing.map(|slot| (slot.id, self.why_missing(slot))).collect();
        let are_new = match &was {
            Some(was) if was.reason == Reason::Serving => was.lanes() < wanted,
            Some(was) => matches!(was.reason, Reason::Provisioning | Reason::Updating),
            None => true,
        };
        if are_new && missing.iter().all(|(_, why)| why.is_none()) {
            return Some(Condition::lanes_join(serving, wanted));
        }
        let told = |(slot, why): &(SlotId, Option<String>)| match why {
            Some(why) => format!("lane {slot}: {why}"),
            None => format!("lane {slot} is being repaired"),
        };
        let missing: Vec<String> = missing.iter().map(told).collect();
        let since = was.and_then(|was| was.degraded_since()).unwrap_or(self.now.wall);
        Some(Condition::serving_degraded(serving, wanted, since, &missing.join(", ")))
    }

    /// Why a lane that is wanted does not serve, where it is more than on its way.
    fn why_missing(&self, slot: &Slot) -> Option<String> {
        if let Some(why) = self.frpc_trouble_of(slot) {
            return Some(format!("the cluster does not run its frpc: {why}"));
        }
        if let Some(condition) = self.refusal_of(slot) {
            return Some(condition.message().to_owned());
        }
        if self.memory.deeds.fails_to_start(slot.id, &slot.generation) {
            return Some(fails_to_start(&self.tunnel.app));
        }
        let machine = &self.long_unreached(slot)?.id;
        Some(format!("Machine {machine} runs, and nobody is reached through it"))
    }

    /// Why Fly does not make the Machine of this slot.
    fn refusal_of(&self, slot: &Slot) -> Option<Condition> {
        let refused = slot.machine.is_none() && self.memory.deeds.refusals(slot.id, &slot.generation) > 0;
        let trouble = self.memory.trouble.as_ref().filter(|_| refused)?;
        let of_a_machine = trouble.attempt == Attempt::CreateMachine && trouble.is_unsolved();
        if of_a_machine { self.trouble_shown(trouble) } else { None }
    }

    /// Why the cluster does not run the frpc of a lane that is wanted, in its own words; or why it did not before that lane was
    /// given up.
    fn frpc_trouble(&self) -> Option<String> {
        self.situation.slots.iter().find_map(|slot| self.frpc_trouble_of(slot))
    }

    fn frpc_trouble_of(&self, slot: &Slot) -> Option<String> {
        match (slot.machine, slot.state) {
            (Some(lane), SlotState::Unreached) => self.seen.deployment(&lane.machine.id)?.trouble.clone(),
            (None, _) => self.memory.deeds.why_given_up(slot.id, &slot.generation).map(str::to_owned),
            (Some(_), _) => None,
        }
    }
}

/// The wishes of a Service are in its address and its Machines: if one is refused there, it must hear of it at once.
fn matters_to_the_service(attempt: Attempt) -> bool {
    matches!(attempt, Attempt::AllocateAddress | Attempt::CreateMachine)
}

/// The condition of a failure that is worth a word.
pub fn condition(failure: &Failure, attempt: Attempt, app: &str) -> Condition {
    let (text, sentence) = (&failure.text, failure.to_string());
    match (failure.cause, attempt) {
        (Cause::TokenUnreadable, _) => Condition::token_unreadable(text),
        (Cause::TokenRefused, _) => Condition::token_refused(&sentence),
        (Cause::TokenTooWeak, _) => Condition::token_too_weak(&sentence),
        (Cause::OtherOrganisation, _) => Condition::other_organisation(text),
        (Cause::Capacity, _) => Condition::no_capacity(&sentence),
        // Accounts on trial get no dedicated IPv4, and are told so by a 400.
        (Cause::Quota, _) | (Cause::Refused, Attempt::AllocateAddress) => Condition::over_quota(text),
        (Cause::Refused, Attempt::CreateMachine) => Condition::machine_refused(&sentence),
        (Cause::Refused, Attempt::DeleteApp) => Condition::app_not_deleted(app, text),
        (Cause::ObjectRefused, _) => Condition::deployment_refused(&sentence),
        (Cause::Cluster, _) => Condition::cluster_fails(text),
        (Cause::Refused | Cause::Unavailable | Cause::Busy | Cause::Early, _) => Condition::fly_unavailable(&sentence),
        (Cause::NameTaken | Cause::NamespaceMissing | Cause::Outdated, _) => Condition::fly_unavailable(&sentence),
    }
}

fn adds_the_finalizer(steps: &[Step]) -> bool {
    matches!(steps.first(), Some(Step::For(_, ServiceStep::AddFinalizer)))
}

/// Keeps showing an earlier failure while the step that failed is tried again: otherwise the condition would flap, with an
/// event each time.
fn may_wait(shown: &Shown, service: &Service) -> bool {
    use Reason::*;
    let no_worse =
        matches!(shown.condition.reason, Serving | Provisioning | Updating | Degraded | FrpcUnavailable | Deleting);
    let failed = Read::of(service).is_some_and(|read| read.reason.is_failure());
    no_worse && failed && shown.addresses == service.addresses()
}
