//! A model of Fly and of the cluster in memory, so that tests can run the operator's own loop through thousands of schedules.
//!
//! It does what the real ones do as far as the operator can tell: Machines boot, checks pass where an frpc runs, Services have
//! versions. Time passes only with requests and when a test says so. Requests can fail, before they are carried out or after, and other
//! things can happen before one arrives. It watches: a request that must never be sent panics (`truth.rs`).

mod cluster;
mod faults;
mod fly;
mod machine;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::controller::work::Time;
use crate::events::Events;
use crate::examples::{self, Dice};
use crate::random::Random;
use crate::render::address::Assignment;
use crate::render::machine::wire::Machine;
use crate::render::objects::read::{Secret, WireConfigMap, WireDeployment};
use crate::service::{Service, ServiceId};
use crate::tunnel::desired::Desire;
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::now::Now;
use crate::world::World;
pub use cluster::edit;
pub use faults::{Faults, Side};
pub use truth::{History, Names, SERVICES, names, owner};

/// The organisation that we use.
pub const ORG: &str = "personal";

/// A Machine starts so long after it was asked for.
const BOOT: Duration = Duration::from_secs(2);

/// Both systems. Clones are the same ones.
#[derive(Clone)]
pub struct Model(Arc<Mutex<State>>);

/// Something that happens before a request arrives: somebody changes a thing by hand, or another process does something.
pub type Meanwhile = Box<dyn FnMut() + Send>;

/// Everything that exists.
pub struct State {
    pub now: Duration,
    pub dice: Dice,
    pub faults: Faults,
    /// The operator is to be uninstalled.
    pub drains: bool,
    /// Two processes lead.
    pub rivals: bool,
    /// When two last led. Until some time after, each may act on what it saw before the other acted.
    pub rivals_ended: Option<Duration>,
    /// When the last process started.
    pub started: Duration,
    /// The wall clock is so many seconds ahead.
    pub wall_offset: i64,
    /// The process dies after so many requests more: they have no effect then.
    pub dies_after: Option<u32>,
    /// Before so many of a hundred requests this happens.
    pub meanwhile: (u64, Option<Meanwhile>),
    pub apps: BTreeMap<String, App>,
    pub services: BTreeMap<ServiceId, Service>,
    /// Things that people did to each Service.
    pub histories: BTreeMap<ServiceId, History>,
    /// Addresses that Fly or a Service had and that somebody took away by hand, or made up.
    pub of_people: BTreeSet<IpAddr>,
    pub secrets: BTreeMap<String, Secret>,
    pub config_maps: BTreeMap<String, WireConfigMap>,
    pub deployments: BTreeMap<String, WireDeployment>,
    pub has_namespace: bool,
    /// The operator's namespace is being deleted until that time: nothing can be made in it.
    pub namespace_goes_until: Duration,
    /// Requests to both systems so far.
    pub requests: u64,
    /// Fly writes Machines in a way of its own.
    pub spells: bool,
    /// Changes so far, by whomever.
    pub changes: u64,
    /// Everything that was changed, for people; `None` where nobody reads it.
    pub story: Option<Vec<String>>,
    /// The reply to the request that is being carried out gets lost.
    unheard: bool,
    lists_that_lacked: Vec<String>,
    /// It makes names, addresses, UIDs and versions that nothing else has.
    counter: u32,
}

/// An App at Fly.
#[derive(Clone, Default)]
pub struct App {
    pub network: String,
    pub org: String,
    pub addresses: Vec<Assignment>,
    pub machines: Vec<Machine>,
    /// Machines that somebody changed or made by hand.
    pub by_hand: BTreeSet<String>,
    /// Machines that boot, by their IDs, and until when.
    booting: BTreeMap<String, Duration>,
    /// Machines that Fly last showed to the operator as serving, and since when it did.
    shown_serving: BTreeMap<String, Duration>,
    /// Fly's reads do not show it before.
    visible_at: Duration,
    /// It was asked to go, and is gone at that time.
    gone_at: Option<Duration>,
    /// How it was before it last changed, and when that was.
    before: Option<(Duration, Box<App>)>,
}

impl App {
    /// An App that somebody else made.
    pub fn of_others(network: &str, org: &str) -> App {
        App { network: network.into(), org: org.into(), ..App::default() }
    }
}

impl Model {
    /// Nothing exists but the operator's namespace. `told`: somebody will read the story.
    pub fn new(seed: u64, told: bool) -> Model {
        Model(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            dice: Dice(seed),
            faults: Faults::default(),
            drains: false,
            rivals: false,
            rivals_ended: None,
            started: Duration::ZERO,
            wall_offset: 3_000,
            dies_after: None,
            meanwhile: (0, None),
            apps: BTreeMap::new(),
            services: BTreeMap::new(),
            histories: BTreeMap::new(),
            of_people: BTreeSet::new(),
            secrets: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            deployments: BTreeMap::new(),
            has_namespace: true,
            namespace_goes_until: Duration::ZERO,
            requests: 0,
            spells: false,
            changes: 0,
            story: told.then(Vec::new),
            unheard: false,
            lists_that_lacked: Vec::new(),
            counter: 0,
        })))
    }

    /// Everything that an operator works with.
    pub fn world(&self, events: Events, desire: Desire) -> World {
        let (owner, owner_id) = owner().clone();
        World {
            cluster: Arc::new(self.clone()),
            fly: Box::new(self.clone()),
            events,
            random: Box::new(self.clone()),
            namespace: "fly-tunnel-operator-system".into(),
            owner_id,
            owner,
            settings: examples::settings(),
            desire,
            next_deletion: Mutex::default(),
        }
    }

    /// Everything that exists, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is on its way, and something may happen before it arrives.
    fn arrive(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let (percent, there) = (state.meanwhile.0, state.meanwhile.1.is_some());
        if !there || !state.dice.percent(percent) {
            return state;
        }
        let Some(mut meanwhile) = state.meanwhile.1.take() else { return state };
        drop(state);
        meanwhile();
        let mut state = self.state();
        state.meanwhile.1 = Some(meanwhile);
        state
    }
}

impl State {
    /// A number that was never given before.
    pub fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        if self.apps.values().any(|app| app.gone_at.is_some_and(|gone_at| gone_at <= now)) {
            self.apps.retain(|_, app| app.gone_at.is_none_or(|gone_at| gone_at > now));
        }
        for app in self.apps.values_mut().filter(|app| !app.booting.is_empty()) {
            app.booting.retain(|id, until| {
                let boots = *until > now;
                let started = app.machines.iter_mut().find(|machine| machine.id == *id && !boots);
                if let Some(machine) = started.filter(|machine| machine.state != "destroyed") {
                    machine.state = "started".into();
                }
                boots
            });
        }
    }

    /// Fly's reads show everything.
    pub fn catch_up(&mut self) {
        let now = self.now;
        self.apps.values_mut().for_each(|app| app.visible_at = app.visible_at.min(now));
    }

    /// Something was changed.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        self.changes += 1;
        if let Some(story) = &mut self.story {
            story.push(format!("{:8.2}s {}", self.now.as_secs_f64(), line()));
        }
    }

    /// Something that must never be.
    pub fn forbid(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.told())
    }

    /// The story so far.
    pub fn told(&self) -> String {
        self.story.as_ref().map(|story| story.join("\n")).unwrap_or_default()
    }
}

impl Time for Model {
    fn now(&self) -> Now {
        let state = self.state();
        let now = state.now;
        let ahead = Duration::from_secs(state.wall_offset.max(0) as u64);
        Now { monotonic: now, wall: SystemTime::UNIX_EPOCH + now + ahead }
    }
}

impl Random for Model {
    fn byte(&self) -> u8 {
        self.state().dice.below(256) as u8
    }

    fn tunnel_keys(&self, _: &str, _: SystemTime) -> Result<TunnelKeys, String> {
        let number = self.state().next();
        TunnelKeys::read(|name| Some(format!("{name} {number}"))).ok_or_else(|| "no entry is empty".into())
    }
}
