//! A Lease as it goes over the wire.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::election::FOR_GOOD;

/// `coordination.k8s.io/v1` Lease. Whatever we do not know of it (labels, newer fields) is sent back as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(Value);

/// What candidates say to each other in a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: nobody.
    pub holder: String,
    /// How long others wait after a renewal; whole seconds on the wire.
    pub duration: Duration,
    /// MicroTime: RFC 3339 with six decimals.
    pub acquire_time: String,
    pub renew_time: String,
    /// How often the holder became another one.
    pub transitions: u64,
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

    /// What it says. Whatever is missing is empty or zero.
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

    /// Whether its holder seems to be there: it renewed the Lease no longer ago than others wait for it. The clocks of two machines
    /// are compared for that, so it is a hint and no more. One that is kept for good has no holder who is there.
    pub fn seems_held(&self, now: SystemTime) -> bool {
        let Record { holder, duration, renew_time, .. } = self.record();
        let renewed = humantime::parse_rfc3339(&renew_time).ok();
        let age = renewed.and_then(|renewed| now.duration_since(renewed).ok()).unwrap_or_default();
        !holder.is_empty() && renewed.is_some() && duration < FOR_GOOD && age < duration
    }

    /// Who holds it; `""` if nobody does.
    pub fn holder(&self) -> &str {
        self.0["spec"]["holderIdentity"].as_str().unwrap_or_default()
    }
}

/// The Lease counts whole seconds, and none is too few: others may wait longer than asked, never shorter.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// As the API writes a MicroTime.
pub(super) fn micro_time(time: SystemTime) -> String {
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
        let record = |holder: &str, duration| Record {
            holder: holder.into(),
            duration,
            acquire_time: micro_time(renewed),
            renew_time: micro_time(renewed),
            transitions: 1,
        };
        let minute = Duration::from_secs(60);
        for (holder, duration, now, held) in [
            ("them", minute, at(59), true),
            ("them", minute, renewed - minute, true),
            ("them", minute, at(60), false),
            ("", minute, at(1), false),
            ("them", FOR_GOOD, at(1), false),
        ] {
            let lease = Lease::new("a", &record(holder, duration));
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
