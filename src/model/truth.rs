//! How things really are, for the checker of `tunnel/invariants.rs`: it is asked before each request that changes something.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use super::{App, ORG, State};
use crate::examples;
use crate::render::machine::wire::Machine;
use crate::render::machine::{CONTROL_PORT, GENERATION, SLOT, SPELLING};
use crate::service::{Service, ServiceId};
use crate::tunnel::TunnelId;
use crate::tunnel::invariants::{self, Deed, Known, Whose};
use crate::tunnel::lane::SlotId;
use crate::tunnel::names::Owner;

/// The operator may know a Service as it was so long ago: a list is on its way, and a pass takes its time.
const OUTDATED: Duration = Duration::from_secs(300);

/// The operator says so of Apps that no Service asks for.
const ORPHANS_LIVE: Duration = Duration::from_secs(600);

/// A process cannot know what another made so short a time ago, if Fly's reads lag.
const SECRET: Duration = Duration::from_secs(10);

/// The Services of all schedules.
pub const SERVICES: [&str; 3] = ["web", "shop", "mail"];

/// The names that follow from a Service's.
pub struct Names {
    pub id: ServiceId,
    pub app: String,
    pub network: String,
}

/// The owner that the operator is, and its ID.
pub fn owner() -> &'static (Owner, String) {
    static OWNER: OnceLock<(Owner, String)> = OnceLock::new();
    OWNER.get_or_init(|| (examples::owner(), examples::owner().id()))
}

/// The names of the Services of all schedules.
pub fn names() -> &'static [Names] {
    static NAMES: OnceLock<Vec<Names>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let named = |name: &&str| {
            let id = ServiceId { namespace: "default".into(), name: (*name).into() };
            let app = owner().0.app(&TunnelId::of(&id));
            Names { network: owner().0.network(&app), id, app }
        };
        SERVICES.iter().map(named).collect()
    })
}

/// Things that people did to a Service.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When it last began or ceased to be a load balancer of ours, or was made again.
    pub turned: Option<Duration>,
    /// Ports that it ever had.
    pub ports: BTreeSet<u16>,
    /// It once asked for a closed door.
    pub closed: bool,
    /// When somebody took it away while no operator ran.
    pub orphaned: Option<Duration>,
    /// Somebody took our finalizer off, or the whole Service.
    pub bare: bool,
}

impl State {
    /// Makes sure that what is asked for does no harm.
    pub(super) fn watch(&self, app: &str, deed: Deed) {
        let Some(names) = names().iter().find(|names| names.app == app) else {
            self.forbid(&format!("somebody else's App {app} is touched: {deed:?}"));
        };
        let truth = Truth { state: self, names, app: self.apps.get(app), service: self.services.get(&names.id) };
        // One list is not believed where that costs something, and to show less costs nothing where all is to go.
        let lists_lie = self.faults.lists_lack > 0 || self.faults.stale > 0;
        let by_people: Vec<IpAddr>;
        let deed = match deed {
            Deed::Show(_) if lists_lie && !truth.is_wanted() => return,
            Deed::Show(addresses) => {
                by_people = addresses.iter().copied().filter(|ip| !self.of_people.contains(ip)).collect();
                Deed::Show(&by_people)
            }
            deed => deed,
        };
        if truth.is_young_orphan() && matches!(deed, Deed::DeleteApp | Deed::Release(_) | Deed::TakeOut(_)) {
            self.forbid(&format!("the orphan {app} is taken down at once: {deed:?}"));
        }
        let rivals = self.rivals || self.rivals_ended.is_some_and(|ended| self.now < ended + OUTDATED);
        // Each acts on what it saw before the other acted. One may make anew what the other took down a moment ago: the sweep finds that.
        let is_new = || truth.app.is_some_and(|app| self.now < app.visible_at + OUTDATED);
        if rivals && (!matches!(deed, Deed::RemoveFinalizer) || is_new()) {
            return;
        }
        if let Some(what) = invariants::wrong(deed, &[deed], &truth) {
            self.forbid(&format!("{app}: {what}: {deed:?}"));
        }
    }

    /// The App that a Service is served by, if it is ours.
    pub fn app_of(&self, id: &ServiceId) -> Option<&App> {
        let names = names().iter().find(|names| names.id == *id)?;
        self.apps.get(&names.app).filter(|app| app.network == names.network && app.org == ORG)
    }
}

/// A tunnel, as it is.
struct Truth<'a> {
    state: &'a State,
    names: &'static Names,
    app: Option<&'a App>,
    service: Option<&'a Service>,
}

impl Truth<'_> {
    fn history(&self) -> Option<&History> {
        self.state.histories.get(&self.names.id)
    }

    /// Somebody took the Service away while no operator ran, and may give it back.
    fn is_young_orphan(&self) -> bool {
        let orphaned = self.history().and_then(|history| history.orphaned);
        orphaned.is_some_and(|at| self.state.now < at + ORPHANS_LIVE) && self.service.is_none() && !self.state.drains
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.app.iter().flat_map(|app| &app.machines)
    }
}

fn metadata<'a>(machine: &'a Machine, key: &str) -> Option<&'a str> {
    machine.config.as_ref()?.metadata.get(key).map(String::as_str)
}

impl Known for Truth<'_> {
    fn is_wanted(&self) -> bool {
        let wanted = self.service.is_some_and(|service| service.wants_tunnel(&owner().0.class));
        let may_be_outdated = self.history().is_some_and(|history| {
            history.closed || history.turned.is_some_and(|turned| self.state.now < turned + OUTDATED)
        });
        wanted && !may_be_outdated && !self.state.drains
    }

    fn has_finalizer(&self) -> bool {
        let finalizer = &super::fly::settings().finalizer;
        self.service.is_some_and(|service| service.has_finalizer(finalizer))
            || self.history().is_some_and(|history| history.bare)
    }

    fn app(&self) -> Whose {
        match self.app {
            Some(app) if app.network != self.names.network || app.org != ORG => Whose::SomebodyElses,
            Some(app) if app.gone_at.is_none() => Whose::Ours,
            Some(_) | None => Whose::Nobodys,
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.app.iter().flat_map(|app| &app.addresses).map(|address| address.ip).collect()
    }

    fn shown(&self) -> Vec<IpAddr> {
        self.service.map(Service::addresses).unwrap_or_default()
    }

    fn in_service(&self) -> Vec<&str> {
        self.app.iter().flat_map(|app| app.shown_serving.keys()).map(String::as_str).collect()
    }

    fn established(&self) -> Vec<&str> {
        let (now, settle_time) = (self.state.now, super::fly::settings().settle_time);
        let shown = self.app.iter().flat_map(|app| &app.shown_serving);
        shown.filter(|(_, since)| now >= **since + settle_time).map(|(id, _)| id.as_str()).collect()
    }

    fn has_machine_of(&self, object: &str) -> bool {
        let of_it = |machine: &&Machine| object.strip_suffix(&machine.id).is_some_and(|app| app.ends_with('-'));
        self.machines().filter(of_it).any(|machine| machine.state != "destroyed")
    }

    fn is_controlled_on_a_wanted_port(&self, machine: &str) -> bool {
        let machine = self.machines().find(|known| known.id == machine);
        let port = machine.and_then(|machine| metadata(machine, CONTROL_PORT)?.parse().ok());
        port.is_some_and(|port: u16| self.history().is_some_and(|history| history.ports.contains(&port)))
    }

    fn lane(&self, generation: &str, slot: SlotId) -> Option<&str> {
        // A lost reply hides how Fly writes a Machine, so another is made; of the two, a short list may then lack the one that stays.
        if self.state.spells && self.state.faults.lists_lack > 0 {
            return None;
        }
        let app = self.app?;
        let mut twins = self.machines().filter(|machine| {
            let on_its_way = app.booting.contains_key(&machine.id) || machine.state == "started";
            let is_it = metadata(machine, GENERATION) == Some(generation)
                && metadata(machine, SLOT).and_then(SlotId::parse) == Some(slot);
            let made: u128 = machine.created_at.parse().unwrap_or_default();
            let (now, started) = (self.state.now.as_millis(), self.state.started.as_millis());
            let is_unknown = made < started && now < made + SECRET.as_millis();
            // Whoever did not hear what Fly made of it takes that for an edit.
            let is_as_made = !self.state.spells || metadata(machine, SPELLING).is_some();
            let by_hand = app.by_hand.contains(&machine.id);
            is_it && on_its_way && !is_unknown && is_as_made && machine.state != "destroyed" && !by_hand
        });
        twins.next().map(|machine| machine.id.as_str())
    }
}
