//! What was seen before. Nothing here is needed to be right after a restart: it only makes a tunnel wait longer, or
//! spares a request.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::observed::{App, Observed};

/// The clocks, passed in so that a plan is pure.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started: never jumps.
    pub monotonic: Duration,
    /// Compared only with times that were written for everybody to read.
    pub wall: SystemTime,
}

/// Since when each of these has been as it is.
#[derive(Clone, Debug, Default)]
pub struct Since(BTreeMap<String, Duration>);

impl Since {
    /// How long it has been so; `None` if it is not so.
    pub fn elapsed(&self, key: &str, now: Now) -> Option<Duration> {
        self.0.get(key).map(|since| now.monotonic.saturating_sub(*since))
    }

    fn note<'a>(&mut self, keys: impl Iterator<Item = &'a str> + Clone, now: Now) {
        self.0.retain(|known, _| keys.clone().any(|key| key == known));
        for key in keys {
            self.0.entry(key.to_owned()).or_insert(now.monotonic);
        }
    }
}

/// One tunnel's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Machines that serve and are not cordoned.
    pub in_service: Since,
    pub cordoned: Since,
    pub host_lost: Since,
    /// Machines that an object of ours belongs to and that Fly does not list.
    pub unlisted: Since,
    /// Since when our App was seen without an address.
    pub no_address: Since,
    /// Since when the App was seen absent.
    pub absent: Since,
    /// This process made the App, and has not seen an address of it yet: nobody else can have asked for one.
    pub app_created: bool,
    /// When this process saw the App's DELETE accepted.
    pub app_deleted: Option<Duration>,
    /// The organisation's list was read without the App in it, after it was absent for long enough.
    pub unlisted_app: bool,
    /// `metadata.generation` of the Deployments as this process last applied them: another one was edited.
    pub applied: BTreeMap<String, i64>,
}

/// The one key of a [`Since`] that is about the App.
pub const APP: &str = "app";

impl Memory {
    /// Takes note of a look.
    pub fn note(&mut self, seen: &Observed, now: Now) {
        let (absent, ours) = match &seen.app {
            Some(App::Absent) => (true, None),
            Some(App::Ours(app)) => (false, Some(app)),
            Some(App::Foreign(_)) => (false, None),
            None => return,
        };
        self.absent.note(absent.then_some(APP).into_iter(), now);
        self.unlisted_app &= absent;
        let machines = ours.map(|app| app.machines.as_slice()).unwrap_or_default();
        let machines = || machines.iter().filter(|machine| machine.exists());
        self.in_service.note(machines().filter(|m| seen.serves(m) && !m.cordoned).map(|m| m.id.as_str()), now);
        self.cordoned.note(machines().filter(|m| m.cordoned).map(|m| m.id.as_str()), now);
        self.host_lost.note(machines().filter(|m| !m.host_ok).map(|m| m.id.as_str()), now);
        let no_address = ours.is_some_and(|app| !app.addresses.iter().any(|address| address.dedicated));
        self.app_created &= no_address;
        self.no_address.note(no_address.then_some(APP).into_iter(), now);
        if let Some(objects) = &seen.objects {
            let of_lanes = objects.config_maps.iter().chain(objects.deployments.iter().map(|d| &d.object));
            let unlisted = of_lanes.filter(|object| !machines().any(|m| m.id == object.machine));
            self.unlisted.note(unlisted.map(|object| object.machine.as_str()), now);
        }
    }
}
