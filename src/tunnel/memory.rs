//! What was seen before. Nothing here is needed to be right after a restart: it only makes a tunnel wait longer, or
//! spares a request.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::observed::{App, Observed, State};

/// The clocks, passed in so that a plan is pure.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started: never jumps.
    pub monotonic: Duration,
    /// Compared only with times that were written for everybody to read.
    pub wall: SystemTime,
}

impl Now {
    /// How long ago that was.
    pub fn since(self, then: Duration) -> Duration {
        self.monotonic.saturating_sub(then)
    }
}

/// Since when each of these has been as it is. A list: there are a few at most, for each of a thousand tunnels.
#[derive(Clone, Debug, Default)]
pub struct Since(Vec<(String, Duration)>);

impl Since {
    /// How long it has been so; `None` if it is not so.
    pub fn elapsed(&self, key: &str, now: Now) -> Option<Duration> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, since)| now.since(*since))
    }

    fn note<'a>(&mut self, keys: impl Iterator<Item = &'a str> + Clone, now: Now) {
        self.0.retain(|(known, _)| keys.clone().any(|key| key == known));
        for key in keys {
            if !self.0.iter().any(|(known, _)| known == key) {
                self.0.push((key.to_owned(), now.monotonic));
            }
        }
        self.0.shrink_to_fit();
    }
}

/// One tunnel's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Machines that serve and are not cordoned.
    pub in_service: Since,
    pub cordoned: Since,
    pub host_lost: Since,
    /// Machines that are on their way to a state that they do not reach.
    pub pending: Since,
    /// Machines that an object of ours belongs to and that Fly does not list.
    pub unlisted: Since,
    /// Since when Fly lists no address for the tunnel, or no App.
    pub no_address: Option<Duration>,
    /// Since when the App was seen absent.
    pub absent: Option<Duration>,
    /// This process made the App and asked for no address yet, and nobody else can have.
    pub app_created: bool,
    /// When this process saw the App's DELETE accepted.
    pub app_deleted: Option<Duration>,
    /// `metadata.generation` of the Deployments as this process last applied them: another one was edited.
    pub applied: BTreeMap<String, i64>,
    /// Events that were written, where the condition may not tell: after a failure it shows the failure.
    pub told: Told,
    /// Machines that were made since one served.
    creations: Creations,
}

#[derive(Clone, Debug, Default)]
pub struct Told {
    /// That the tunnel is being taken down.
    pub deleting: bool,
    /// Of [`super::Ask::warnings`].
    pub warnings: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct Creations {
    count: u32,
    last: Duration,
}

/// Pause before a second Machine is made where the first did not come to serve; then twice as long each time, up to
/// five minutes. Each is billed, and Fly has its limits.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Memory {
    /// Takes note of a Machine that was made.
    pub fn created(&mut self, now: Now) {
        self.creations = Creations { count: self.creations.count + 1, last: now.monotonic };
    }

    /// How long to wait before another Machine is made.
    pub fn pause(&self, now: Now) -> Duration {
        let Creations { count, last } = self.creations;
        let pause = match count {
            0 => Duration::ZERO,
            _ => LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.pow((count - 1).min(10))),
        };
        pause.saturating_sub(now.since(last))
    }

    /// Whether Machines were made again and again, and none came to serve.
    pub fn fails_to_start(&self) -> bool {
        self.creations.count > 1
    }

    /// Takes note of a look.
    pub fn note(&mut self, seen: &Observed, now: Now) {
        let (absent, ours) = match &seen.app {
            Some(App::Absent) => (true, None),
            Some(App::Ours(app)) => (false, Some(app)),
            Some(App::Foreign(_)) => (false, None),
            None => return,
        };
        self.absent = absent.then(|| self.absent.unwrap_or(now.monotonic));
        let machines = ours.map(|app| app.machines.as_slice()).unwrap_or_default();
        let machines = || machines.iter().filter(|machine| machine.exists());
        self.in_service.note(machines().filter(|m| seen.serves(m) && !m.cordoned).map(|m| m.id.as_str()), now);
        self.cordoned.note(machines().filter(|m| m.cordoned).map(|m| m.id.as_str()), now);
        self.pending.note(machines().filter(|m| m.state == State::Pending).map(|m| m.id.as_str()), now);
        if machines().any(|machine| seen.serves(machine)) {
            self.creations = Creations::default();
        }
        self.host_lost.note(machines().filter(|m| !m.host_ok).map(|m| m.id.as_str()), now);
        let no_address = absent || ours.is_some_and(|app| !app.addresses.iter().any(|address| address.dedicated));
        self.no_address = no_address.then(|| self.no_address.unwrap_or(now.monotonic));
        if let Some(objects) = &seen.objects {
            let of_lanes = objects.config_maps.iter().chain(objects.deployments.iter().map(|d| &d.object));
            let unlisted = of_lanes.filter(|object| !machines().any(|m| m.id == object.machine));
            self.unlisted.note(unlisted.map(|object| object.machine.as_str()), now);
        }
    }
}
