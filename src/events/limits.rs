//! Keeps the number of events small, whatever keeps failing or flapping. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::cluster::NewEvent;

/// The same event of a Service is not written again before this time has passed.
const SAME: Duration = Duration::from_secs(600);

/// A Service has at most so many events in an hour.
const MOST: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);

/// The events of the last hour.
#[derive(Default)]
pub struct Limits {
    /// By the UID of the Service.
    written: BTreeMap<String, Vec<Written>>,
    tidied: Duration,
}

struct Written {
    reason: &'static str,
    text: u64,
    at: Duration,
}

impl Limits {
    /// Whether the event may be written at this time. If so, it counts.
    pub fn admit(&mut self, event: &NewEvent, now: Duration) -> bool {
        if now - self.tidied >= SAME {
            self.tidied = now;
            self.written.retain(|_, written| written.last().is_some_and(|last| now - last.at < HOUR));
        }
        let written = self.written.entry(event.about.uid().to_owned()).or_default();
        written.retain(|before| now - before.at < HOUR);
        let text = hash(&event.message);
        let is_same = |before: &Written| before.reason == event.reason && before.text == text && now - before.at < SAME;
        let admitted = written.len() < MOST && !written.iter().any(is_same);
        if admitted {
            written.push(Written { reason: event.reason, text, at: now });
        }
        admitted
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use kube_client_lite::{EventType, ObjectReference};

    use super::*;
    use crate::examples;

    fn event(uid: &str, reason: &'static str, message: &str) -> NewEvent {
        let mut service = examples::service();
        service.metadata.uid = uid.into();
        let about = ObjectReference::new("v1", "Service", &service.metadata);
        NewEvent { about, kind: EventType::Warning, reason, message: message.into() }
    }

    #[test]
    fn the_same_event_is_written_once_in_ten_minutes() {
        let mut limits = Limits::default();
        let mut admit =
            |seconds, uid, reason, message| limits.admit(&event(uid, reason, message), Duration::from_secs(seconds));
        assert!(admit(0, "a", "Failed", "down"));
        assert!(!admit(599, "a", "Failed", "down"));
        assert!(admit(1, "a", "Failed", "another text"));
        assert!(!admit(2, "a", "Failed", "down"), "two texts in turn are no news either");
        assert!(admit(2, "a", "Ensured", "down"), "another kind");
        assert!(admit(2, "b", "Failed", "down"), "another Service");
        assert!(admit(601, "a", "Failed", "down"));
    }

    #[test]
    fn a_service_has_at_most_twenty_events_in_an_hour() {
        let mut limits = Limits::default();
        let mut admitted = |from: u64| {
            let seconds = (from..from + 3600).step_by(10);
            let events = seconds.map(|second| (second, event("a", "Failed", &second.to_string())));
            events.filter(|(second, event)| limits.admit(event, Duration::from_secs(*second))).count()
        };
        assert_eq!(admitted(0), 20);
        assert_eq!(admitted(3600), 20);
        assert!(limits.admit(&event("b", "Failed", ""), Duration::from_secs(20_000)));
        assert_eq!(limits.written.len(), 1, "an old Service is forgotten");
    }
}
