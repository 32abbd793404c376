//! A Lease as it goes over the wire, and what its fields mean.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The duration in a Lease that was released, as client-go writes it.
const RELEASED: Duration = Duration::from_secs(1);

/// The duration in a Lease that was retired: the largest `int32`, which is the field's type in the API. It is 68 years.
const RETIRED: Duration = Duration::from_secs(i32::MAX as u64);

/// The largest number of transitions: the field is an `int32` in the API.
const MOST_TRANSITIONS: u64 = i32::MAX as u64;

/// A Lease of `coordination.k8s.io/v1`. Fields that this crate does not know (labels, newer ones) are sent back as they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(Value);

/// The fields of a Lease by which candidates speak to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The identity of the holder. Empty: nobody holds the Lease.
    pub holder: String,
    /// How long others wait after a renewal. The Lease counts whole seconds. Zero: the Lease does not say.
    pub duration: Duration,
    /// A `MicroTime`: RFC 3339 with six decimals.
    pub acquire_time: String,
    /// A `MicroTime`, too.
    pub renew_time: String,
    /// How often another candidate became the holder.
    pub transitions: u64,
}

impl Record {
    /// Whether its holder gave the Lease up, so that nobody need wait. A Lease whose holder was erased by hand still has a
    /// longer duration: its holder does not know yet.
    pub fn is_released(&self) -> bool {
        self.holder.is_empty() && self.duration <= RELEASED
    }

    /// Whether its holder retired the Lease: nobody who waited for it at that time is to have it.
    pub fn is_retired(&self) -> bool {
        self.duration >= RETIRED
    }

    /// The record of a leader that takes the Lease, or renews it. `before` is the record that it replaces.
    pub fn held(holder: &str, duration: Duration, before: Option<&Record>, now: SystemTime) -> Record {
        let renew_time = micro_time(now);
        let (acquire_time, transitions) = match before {
            Some(before) if before.holder == holder => (before.acquire_time.clone(), before.transitions),
            Some(before) => (renew_time.clone(), (before.transitions + 1).min(MOST_TRANSITIONS)),
            None => (renew_time.clone(), 0),
        };
        Record { holder: holder.to_owned(), duration, acquire_time, renew_time, transitions }
    }

    /// The last record of a leader that leaves the Lease to whoever is first.
    pub fn released(self, now: SystemTime) -> Record {
        let time = micro_time(now);
        Record { holder: String::new(), duration: RELEASED, acquire_time: time.clone(), renew_time: time, ..self }
    }

    /// The last record of a leader that leaves the Lease to nobody who waits for it.
    pub fn retired(self, now: SystemTime) -> Record {
        Record { duration: RETIRED, renew_time: micro_time(now), ..self }
    }
}

impl Lease {
    /// A Lease that is still to be made.
    pub(super) fn new(name: &str, record: &Record) -> Lease {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name },
        });
        Lease(lease).with(record)
    }

    /// The same Lease, in the same version, with another record in it.
    pub(super) fn with(mut self, record: &Record) -> Lease {
        let Record { holder, duration, acquire_time, renew_time, transitions } = record;
        if !self.0["spec"].is_object() {
            self.0["spec"] = json!({});
        }
        let spec = &mut self.0["spec"];
        spec["holderIdentity"] = json!(holder);
        spec["leaseDurationSeconds"] = json!(whole_seconds(*duration));
        spec["acquireTime"] = json!(acquire_time);
        spec["renewTime"] = json!(renew_time);
        spec["leaseTransitions"] = json!(transitions);
        self
    }

    /// The same Lease, with a duration of at least this.
    pub(super) fn lasting(self, duration: Duration) -> Lease {
        let record = self.record();
        let duration = record.duration.max(duration);
        self.with(&Record { duration, ..record })
    }

    /// The record in it. A field that is missing is empty or zero.
    pub(super) fn record(&self) -> Record {
        let spec = &self.0["spec"];
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        Record {
            holder: text("holderIdentity"),
            duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or_default()),
            acquire_time: text("acquireTime"),
            renew_time: text("renewTime"),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or_default().min(u64::from(u32::MAX)),
        }
    }

    /// The namespace that it is in; `""` for one that is still to be made.
    pub fn namespace(&self) -> &str {
        self.0["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    /// The identity of its holder; `""` if nobody holds it.
    pub fn holder(&self) -> &str {
        self.0["spec"]["holderIdentity"].as_str().unwrap_or_default()
    }

    /// Whether its holder seems to be there: it renewed the Lease no longer ago than others wait for it. This compares the
    /// clocks of two machines, so it is a hint and no more. The holder of a retired Lease has ended.
    pub fn seems_held(&self, now: SystemTime) -> bool {
        let record = self.record();
        let Ok(renewed) = humantime::parse_rfc3339(&record.renew_time) else { return false };
        let age = now.duration_since(renewed).unwrap_or_default();
        !record.holder.is_empty() && !record.is_retired() && age < record.duration
    }
}

/// The Lease counts whole seconds, from 1 on. Fractions are rounded up: others may wait longer than asked, never shorter.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// A time as the API writes a `MicroTime`.
fn micro_time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_sent_back_as_it_came() {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": { "name": "a", "resourceVersion": "7", "ownerReferences": [{ "name": "x" }] },
            "spec": { "holderIdentity": "them", "strategy": "OldestEmulationVersion" },
        }))
        .expect("any JSON");
        let record = Record { holder: "us".into(), ..lease.record() };
        let sent = serde_json::to_value(lease.with(&record)).expect("JSON");
        assert_eq!(sent["metadata"]["resourceVersion"], "7");
        assert_eq!(sent["metadata"]["ownerReferences"][0]["name"], "x");
        assert_eq!(sent["spec"]["strategy"], "OldestEmulationVersion");
        assert_eq!(sent["spec"]["holderIdentity"], "us");
    }

    #[test]
    fn a_lease_of_any_shape_can_be_read_and_taken() {
        for lease in [
            json!({}),
            json!({ "spec": null }),
            json!({ "spec": { "leaseDurationSeconds": "x", "holderIdentity": 3 } }),
        ] {
            let lease = Lease(lease);
            assert_eq!(lease.holder(), "");
            let record = Record { holder: "us".into(), ..lease.record() };
            assert_eq!(lease.with(&record).holder(), "us");
        }
    }

    #[test]
    fn a_lease_seems_held_as_long_as_others_wait_for_its_holder() {
        let renewed = humantime::parse_rfc3339("2026-01-01T00:00:00Z").expect("a time");
        let at = |seconds| renewed + Duration::from_secs(seconds);
        let minute = Duration::from_secs(60);
        for (holder, duration, now, held) in [
            ("them", minute, at(59), true),
            ("them", minute, renewed - minute, true),
            ("them", minute, at(60), false),
            ("", minute, at(1), false),
            ("them", RETIRED, at(1), false),
        ] {
            let lease = Lease::new("a", &Record::held(holder, duration, None, renewed));
            assert_eq!(lease.seems_held(now), held, "{holder} {duration:?}");
        }
        assert!(
            !Lease(json!({ "spec": { "holderIdentity": "them", "leaseDurationSeconds": 60 } })).seems_held(renewed)
        );
    }

    #[test]
    fn durations_and_times_are_those_of_the_api() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
        assert_eq!(micro_time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
