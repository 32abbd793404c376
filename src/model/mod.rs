//! A model of Fly and of the cluster in memory, so that tests can run the operator's own loop through thousands of schedules.
//!
//! It does what the real ones do as far as the operator can tell: Machines boot, checks pass where an frpc runs, Services have
//! versions. Time passes only with requests and when a test says so. Requests can fail, before they are carried out or after.
//! It watches: a request that must never be sent panics.

mod cluster;
mod fly;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::controller::work::Time;
use crate::examples::{self, Dice};
use crate::random::Random;
use crate::render::address::Assignment;
use crate::render::machine::wire::Machine;
use crate::render::objects::read::{Secret, WireConfigMap, WireDeployment};
use crate::service::{Service, ServiceId};
use crate::tunnel::TunnelId;
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::memory::Now;

/// A request takes up to so many milliseconds.
const LONGEST_REQUEST: u64 = 400;

/// A Machine starts so long after it was asked for.
const BOOT: Duration = Duration::from_secs(2);

/// Both systems. Clones are the same ones.
#[derive(Clone)]
pub struct Model(Arc<Mutex<State>>);

/// Everything that exists.
pub struct State {
    pub now: Duration,
    pub dice: Dice,
    pub faults: Faults,
    /// The operator is to be uninstalled.
    pub drains: bool,
    /// The wall clock is so many seconds ahead.
    pub wall_offset: i64,
    /// The process dies after so many requests more: they have no effect then.
    pub dies_after: Option<u32>,
    pub apps: BTreeMap<String, App>,
    pub services: BTreeMap<ServiceId, Service>,
    pub secrets: BTreeMap<String, Secret>,
    pub config_maps: BTreeMap<String, WireConfigMap>,
    pub deployments: BTreeMap<String, WireDeployment>,
    pub has_namespace: bool,
    /// Requests to both systems so far.
    pub requests: u64,
    /// Everything that was changed, for people.
    pub story: Vec<String>,
    /// It makes names, addresses, UIDs and versions that nothing else has.
    counter: u32,
}

/// The things that do not work at the moment.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// So many of a hundred requests fail.
    pub failures: u64,
    /// So many of a hundred requests to Fly are too many.
    pub too_many: u64,
    /// Fly has no room for a Machine.
    pub no_capacity: bool,
    /// Machines that are made now never boot.
    pub no_boot: bool,
    /// The cluster does not run frpc that is applied now.
    pub no_frpc: bool,
    /// A policy refuses writes to the status of Services.
    pub status_refused: bool,
}

impl Faults {
    /// Some of them, or none.
    pub fn rolled(dice: &mut Dice) -> Faults {
        Faults {
            failures: [0, 0, 5, 30][dice.below(4) as usize],
            too_many: [0, 0, 0, 20][dice.below(4) as usize],
            no_capacity: dice.percent(8),
            no_boot: dice.percent(5),
            no_frpc: dice.percent(8),
            status_refused: dice.percent(8),
        }
    }
}

/// An App at Fly.
#[derive(Default)]
pub struct App {
    pub network: String,
    pub org: String,
    pub addresses: Vec<Assignment>,
    pub machines: Vec<Machine>,
    /// Machines that boot, by their IDs, and until when.
    booting: BTreeMap<String, Duration>,
    /// Fly's reads do not show it before.
    visible_at: Duration,
    /// It was asked to go, and is gone at that time.
    gone_at: Option<Duration>,
}

/// The outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    /// It fails, and was never carried out.
    Refused,
    /// It is carried out, and the reply is lost.
    ReplyLost,
}

impl Model {
    /// Nothing exists but the operator's namespace.
    pub fn new(seed: u64) -> Model {
        Model(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            dice: Dice(seed),
            faults: Faults::default(),
            drains: false,
            wall_offset: 3_000,
            dies_after: None,
            apps: BTreeMap::new(),
            services: BTreeMap::new(),
            secrets: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            deployments: BTreeMap::new(),
            has_namespace: true,
            requests: 0,
            story: Vec::new(),
            counter: 0,
        })))
    }

    /// Everything that exists, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.apps.retain(|_, app| app.gone_at.is_none_or(|gone_at| gone_at > now));
        for app in self.apps.values_mut() {
            app.booting.retain(|id, until| {
                let boots = *until > now;
                let started = app.machines.iter_mut().find(|machine| machine.id == *id && !boots);
                if let Some(machine) = started {
                    machine.state = "started".into();
                }
                boots
            });
        }
    }

    pub fn say(&mut self, line: String) {
        self.story.push(format!("{:8.2}s {line}", self.now.as_secs_f64()));
    }

    /// A request that must never be sent was sent.
    fn forbid(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.story.join("\n"))
    }

    /// A request is sent: time passes, and it may fail.
    fn fate(&mut self) -> Fate {
        let took = Duration::from_millis(self.dice.below(LONGEST_REQUEST));
        self.pass(took);
        self.requests += 1;
        if let Some(left) = &mut self.dies_after {
            if *left == 0 {
                return Fate::Refused;
            }
            *left -= 1;
        }
        let failures = self.faults.failures;
        if !self.dice.percent(failures) {
            Fate::Served
        } else if self.dice.percent(50) {
            Fate::Refused
        } else {
            Fate::ReplyLost
        }
    }

    /// The Service whose tunnel's App has this name.
    fn service_of(&self, app: &str) -> Option<&Service> {
        let owner = examples::owner();
        self.services.values().find(|service| owner.app(&TunnelId::of(&service.id())) == app)
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
