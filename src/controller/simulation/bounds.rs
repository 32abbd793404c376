//! Bounds of what is sent for one tunnel and said of one Service, whatever goes wrong: they hold at each moment of each schedule.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cluster::NewEvent;
use crate::controller::work::Outcome;
use crate::events::limits::Limits;
use crate::tunnel::TunnelId;

/// Requests for a tunnel in a minute, in passes that do something or fail: where the pauses double from a second on, seven tries fit into
/// it. None takes more than a new tunnel: 8 requests to Fly, and as many to the cluster.
const MOST_REQUESTS: usize = 7 * (8 + 8);

/// The same while it waits. A Machine that boots is read four times a second for five seconds, and then each time after a twentieth of
/// the time that it took so far: 70 times. Twice, since somebody may change the tunnel meanwhile. The rest is for what was done before
/// it waited.
const MOST_READS: usize = 2 * 70 + MOST_REQUESTS - 7 * 8;

/// Events about a Service in an hour.
const MOST_EVENTS: usize = 20;

/// An event says nothing again so soon.
const SAME: Duration = Duration::from_secs(600);

/// Events about a Service in an hour before those that are too many are left out. An event tells of a change, so that a Service that flaps
/// has some more than are written; if it told of a look or a try, it would have hundreds.
const MOST_NEWS: usize = 3 * MOST_EVENTS;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Everything that one process sent and said lately.
#[derive(Default)]
pub struct Bounds {
    requests: BTreeMap<TunnelId, [Window; 2]>,
    /// By the UIDs of Services.
    events: BTreeMap<String, Told>,
    limits: Limits,
}

/// Things that were counted, and when.
#[derive(Default)]
struct Window {
    recent: VecDeque<(Duration, usize)>,
    sum: usize,
}

/// Events about a Service.
#[derive(Default)]
struct Told {
    news: Window,
    written: Window,
    /// When each was last written, by reason and text.
    last: BTreeMap<(&'static str, String), Duration>,
}

impl Bounds {
    /// A pass over a tunnel began at that time, sent so many requests, and ended like this.
    pub fn passed(&mut self, id: &TunnelId, began: Duration, requests: usize, outcome: &Outcome) -> Result<(), String> {
        let waits = matches!(outcome, Outcome::Wait(_));
        if !self.requests.contains_key(id) {
            self.requests.insert(id.clone(), Default::default());
        }
        let Some(windows) = self.requests.get_mut(id) else { return Ok(()) };
        let (what, most) = if waits { ("while it waits", MOST_READS) } else { ("not to wait", MOST_REQUESTS) };
        let sent = windows[usize::from(waits)].add(requests, began, MINUTE);
        within(sent, most, || format!("requests a minute for {id}, {what}"))
    }

    /// An event is to be written.
    pub fn told(&mut self, event: NewEvent, now: Duration) -> Result<(), String> {
        let of_service = self.events.entry(event.about.uid().to_owned()).or_default();
        let news = of_service.news.add(1, now, HOUR);
        within(news, MOST_NEWS, || format!("events an hour are to be written: {}", event.message))?;
        if !self.limits.admit(&event, now) {
            return Ok(());
        }
        let written = of_service.written.add(1, now, HOUR);
        within(written, MOST_EVENTS, || format!("events an hour are written: {}", event.message))?;
        let NewEvent { reason, message, .. } = event;
        match of_service.last.insert((reason, message.clone()), now) {
            Some(last) if now < last + SAME => Err(format!("{reason} is said again after {:?}: {message}", now - last)),
            _ => Ok(()),
        }
    }
}

impl Window {
    /// Counts so many more. Returns how many there were lately.
    fn add(&mut self, number: usize, now: Duration, lately: Duration) -> usize {
        self.recent.push_back((now, number));
        self.sum += number;
        while let Some((_, old)) = self.recent.pop_front_if(|(at, _)| now.saturating_sub(*at) >= lately) {
            self.sum -= old;
        }
        self.sum
    }
}

fn within(number: usize, most: usize, what: impl FnOnce() -> String) -> Result<(), String> {
    if number <= most { Ok(()) } else { Err(format!("{number} {}", what())) }
}
