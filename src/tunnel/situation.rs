//! Sorts everything that was seen, once: the plan and what the Service shows read it here. Whose a Machine is and whether it serves
//! is asked in `machines.rs`, by the memory and the metrics too.
//!
//! ```text
//!               ┌─ slots      each wanted lane, with the Machine that fills it, if there is one
//! Machines ─────┼─ leaving    ours, and of no slot any more: replaced, failed or surplus
//!               └─ strangers  somebody else put them into the App; they are left alone
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::deviations::spelling;
use super::kept::{self, Blueprint};
use super::lane::{Recipe, SlotId};
use super::machines::{LaneMachine, Machines, machines};
use super::memory::Memory;
use super::now::Now;
use super::observed::{Family, KeysSecret, Machine, Observed, OurApp, State};
use super::settings::Settings;
use super::{Tunnel, Wanted};

/// How long Fly may fail to reach a host before its Machine is replaced. Fly's own pings take some seconds; a short
/// outage is cheaper than a move.
const HOST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a Machine may be on its way before it counts as failed (flyctl calls it stuck after five minutes).
const START_PATIENCE: Duration = Duration::from_secs(300);

/// Everything that was seen of a tunnel, by what it is to the tunnel.
pub struct Situation<'a> {
    pub addresses: Addresses,
    /// The lanes that are wanted. There are none where no lane is, or where the address or the keys are missing that they are
    /// to be made with.
    pub slots: Vec<Slot<'a>>,
    pub leaving: Vec<Leaving<'a>>,
    pub strangers: Vec<&'a Machine>,
}

/// The addresses of the App.
#[derive(Default)]
pub struct Addresses {
    /// The address that the tunnel lives on.
    pub kept: Option<Ipv4Addr>,
    /// Others of its family, each of which is billed.
    pub surplus: Vec<IpAddr>,
}

/// The place of a lane that is wanted.
pub struct Slot<'a> {
    pub id: SlotId,
    pub recipe: Recipe,
    pub generation: String,
    /// The Machine that can serve or will. Of two for one lane it is the one in service, else the older.
    pub machine: Option<LaneMachine<'a>>,
    pub state: SlotState,
}

/// How far a wanted lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It has no Machine, and none is to be made before this time has passed.
    Missing {
        pause: Duration,
    },
    /// Its Machine takes no new connections.
    Cordoned,
    /// Its Machine is on the way.
    Booting,
    Stopped,
    /// Its Machine runs, and traffic does not pass yet, or not any more.
    Unreached,
    Serving,
}

/// A Machine of ours that fills no slot.
pub struct Leaving<'a> {
    pub lane: LaneMachine<'a>,
    /// It will not come to run by itself.
    pub failed: bool,
}

impl<'a> Situation<'a> {
    /// Sorts what was seen of the tunnel.
    pub fn of(tunnel: &Tunnel, settings: &Settings, seen: &'a Observed, memory: &Memory, now: Now) -> Situation<'a> {
        let Machines { ours, strangers } = machines(seen);
        let addresses = seen.our_app().map(|app| addresses(app, &seen.shown_addresses())).unwrap_or_default();
        let keys = seen.objects.as_ref().and_then(|objects| objects.keys.first());
        let slots = match (addresses.kept, keys) {
            (Some(address), Some(KeysSecret { keys, .. })) => {
                let wanted = match tunnel.wanted() {
                    Wanted::Served(wish) => {
                        let recipe = Recipe::new(wish, settings, address, &keys.fingerprint());
                        let blueprint = |index| Blueprint::of(recipe.clone().of_index(index));
                        (0..wish.settings.replicas).map(|index| (SlotId::tcp(index), blueprint(index))).collect()
                    }
                    Wanted::Refused { close: false, .. } => kept::last(seen, address, &keys.fingerprint()),
                    Wanted::Refused { close: true, .. } | Wanted::Removed | Wanted::Drained => Vec::new(),
                };
                wanted.into_iter().map(|(id, blueprint)| Slot::new(id, blueprint, &ours, memory, now)).collect()
            }
            _ => Vec::new(),
        };
        let fills_a_slot = |lane: &LaneMachine| {
            slots.iter().filter_map(|slot| slot.machine).any(|filling| filling.machine.id == lane.machine.id)
        };
        let leaving = ours.iter().filter(|lane| !fills_a_slot(lane));
        let leaving =
            leaving.map(|lane| Leaving { lane: *lane, failed: has_failed(lane.machine, memory, now) }).collect();
        Situation { addresses, slots, leaving, strangers }
    }

    /// Every Machine of ours.
    pub fn lanes(&self) -> impl Iterator<Item = LaneMachine<'a>> {
        let filling = self.slots.iter().filter_map(|slot| slot.machine);
        filling.chain(self.leaving.iter().map(|leaving| leaving.lane))
    }

    /// Every Machine that exists in the App, whoever made it.
    pub fn machines(&self) -> impl Iterator<Item = &'a Machine> {
        self.lanes().map(|lane| lane.machine).chain(self.strangers.iter().copied())
    }

    /// Whether each wanted lane serves, and no other Machine of ours takes new connections. A lane of another generation may
    /// lead to another place: to the ClusterIP of a Service that was deleted and made again, say.
    pub fn is_serving(&self) -> bool {
        !self.slots.is_empty()
            && self.slots.iter().all(|slot| slot.state == SlotState::Serving)
            && self.leaving.iter().all(|leaving| leaving.lane.machine.cordoned)
    }
}

impl Situation<'_> {
    /// Whether a wanted lane serves, and no other Machine of ours than those that are wanted takes new connections.
    pub fn begins_to_serve(&self) -> bool {
        self.slots.iter().any(|slot| slot.state == SlotState::Serving)
            && self.leaving.iter().all(|leaving| leaving.lane.machine.cordoned)
    }

    /// Whether all wanted lanes serve, beside others that are of no slot that is wanted.
    pub fn has_surplus_lanes(&self) -> bool {
        let is_wanted = |leaving: &Leaving| self.slots.iter().any(|slot| slot.id == leaving.lane.ours.slot);
        self.slots.iter().all(|slot| slot.state == SlotState::Serving) && !self.leaving.iter().any(is_wanted)
    }

    /// Two lanes that serve on one host, as far as Fly's addresses tell.
    pub fn shared_host(&self) -> Option<(SlotId, SlotId)> {
        let host = |slot: &Slot| slot.machine.filter(|lane| lane.serves)?.machine.host;
        let pairs = self
            .slots
            .iter()
            .enumerate()
            .flat_map(|(index, one)| self.slots[..index].iter().map(move |two| (two, one)));
        let mut sharing = pairs.filter(|(one, other)| host(one).is_some() && host(one) == host(other));
        sharing.next().map(|(one, other)| (one.id, other.id))
    }

    /// Whether a lane is to be made now that takes over from one that serves.
    pub fn is_to_replace(&self) -> bool {
        self.slots.iter().any(|slot| {
            let replaces_one = self.leaving.iter().any(|leaving| leaving.lane.takes_users());
            slot.state == SlotState::Missing { pause: Duration::ZERO } && replaces_one
        })
    }

    /// Whether a wanted lane has a Machine, and not all took over yet while an older one serves.
    pub fn moves(&self) -> bool {
        let made = self.slots.iter().any(|slot| slot.machine.is_some());
        made && !self.is_serving() && self.leaving.iter().any(|leaving| leaving.lane.takes_users())
    }
}

fn addresses(app: &OurApp, shown: &[IpAddr]) -> Addresses {
    let kept = app.address(shown);
    let surplus =
        app.addresses.iter().filter(|address| address.serves(Family::V4) && Some(address.ip) != kept.map(IpAddr::V4));
    Addresses { kept, surplus: surplus.map(|address| address.ip).collect() }
}

impl<'a> Slot<'a> {
    fn new(
        id: SlotId,
        Blueprint { recipe, generation }: Blueprint,
        ours: &[LaneMachine<'a>],
        memory: &Memory,
        now: Now,
    ) -> Slot<'a> {
        let of_this_slot = |lane: &&LaneMachine| lane.ours.generation == generation && lane.ours.slot == id;
        let is_as_made = |machine: &Machine| {
            let deviations = recipe.deviations(machine);
            let noted = || machine.ours.as_ref().is_some_and(|ours| ours.spelling == Some(spelling(&deviations)));
            deviations.is_empty() || deviations == memory.deeds.spelling || noted()
        };
        let can_serve = |lane: &&LaneMachine| {
            !has_failed(lane.machine, memory, now)
                && !cannot_be_started(lane.machine, memory)
                && !is_given_up(lane.machine, memory, now)
                && is_as_made(lane.machine)
        };
        let machine = ours
            .iter()
            .filter(|lane| of_this_slot(lane) && can_serve(lane))
            .min_by_key(|lane| (lane.machine.cordoned, !lane.serves, &lane.machine.created_at))
            .copied();
        let pause = memory.deeds.pause(id, &generation, now);
        Slot { id, recipe, generation, machine, state: machine.map_or(SlotState::Missing { pause }, state) }
    }
}

fn state(lane: LaneMachine) -> SlotState {
    match lane.machine.state {
        _ if lane.machine.cordoned => SlotState::Cordoned,
        State::Started if lane.serves => SlotState::Serving,
        State::Started => SlotState::Unreached,
        State::Stopped => SlotState::Stopped,
        State::Pending | State::Failed | State::Gone => SlotState::Booting,
    }
}

/// Whether the Machine will not come to run by itself.
fn has_failed(machine: &Machine, memory: &Memory, now: Now) -> bool {
    let stuck = memory.sightings.pending.elapsed(&machine.id, now).is_some_and(|long| long >= START_PATIENCE);
    machine.state == State::Failed || stuck && machine.host_ok
}

/// Whether the Machine is stopped, and Fly does not start it.
fn cannot_be_started(machine: &Machine, memory: &Memory) -> bool {
    machine.state == State::Stopped && memory.deeds.cannot_be_started(&machine.id)
}

/// Whether Fly has not reached the Machine's host for so long that another Machine takes its place.
fn is_given_up(machine: &Machine, memory: &Memory, now: Now) -> bool {
    memory.sightings.host_lost.elapsed(&machine.id, now).is_some_and(|lost| lost >= HOST_PATIENCE)
}
