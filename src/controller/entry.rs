//! What is kept of a tunnel between passes, and when it is worked on next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::work::Work;
use crate::backoff::Repeating;
use crate::service::Service;
use crate::tunnel::Tunnel;
use crate::tunnel::memory::Memory;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::{Look, Wait, Waiting};

/// How soon a tunnel that waits is looked at again. Fly allows five reads of a Machine a second, one of anything else.
const SOONEST_MACHINE: Duration = Duration::from_millis(250);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);

/// Who waited for long is looked at less often: each time after this part of the time that it waited.
const PART_OF_THE_WAIT: u32 = 20;

/// What is kept of a tunnel between passes.
pub(super) struct Entry {
    /// `None` while a worker has it.
    pub(super) work: Option<Box<Work>>,
    /// What the tunnel was to be, and how its Service looked, when it was last worked on.
    fingerprint: Fingerprint,
    /// It was to be taken down.
    removing: bool,
    /// Its Service has our finalizer: something may have been made for it.
    finalized: bool,
    /// When to work on it next; `None`: when a poll or a worker says so.
    pub(super) due: Option<Instant>,
    /// Nothing is left to do; when to look whether it is still so.
    pub(super) resync: Option<Instant>,
    /// When everything was last looked at, or began to be.
    pub(super) looked: Instant,
    finished: Option<Instant>,
    /// What a poll saw while a worker had the tunnel.
    listed_meanwhile: Option<Fingerprint>,
    /// What it waits for, and since when.
    waiting: Option<(Waiting, Instant)>,
    /// Nothing is left to do that could be done: what is not as it should be, if anything.
    pub(super) verdict: Option<Option<String>>,
    /// When its Service was first seen, if that was new and shows no address yet.
    new_since: Option<Instant>,
}

impl Entry {
    pub(super) fn new(tunnel: Tunnel, service: Option<Service>, now: Instant) -> Entry {
        let reread = service.is_none();
        let new =
            service.as_ref().is_some_and(|service| service.condition().is_none() && service.addresses().is_empty());
        let seen = Observed { service: service.map(Box::new), ..Observed::default() };
        Entry {
            fingerprint: Fingerprint::of(&tunnel, seen.service.as_deref()),
            removing: tunnel.wanted.is_nothing(),
            finalized: true, // until a pass knows better
            work: Some(Box::new(Work {
                tunnel,
                seen,
                memory: Memory::default(),
                look: None,
                reread,
                failures: Repeating::default(),
                made_again: 0,
            })),
            due: Some(now),
            resync: None,
            looked: now,
            finished: None,
            listed_meanwhile: None,
            waiting: None,
            verdict: None,
            new_since: new.then_some(now),
        }
    }

    /// How long it took a new Service to show an address, once it does.
    pub(super) fn first_address(&mut self, seen: &Observed, now: Instant) -> Option<Duration> {
        if seen.shown().is_empty() {
            return None;
        }
        self.new_since.take().map(|since| now.duration_since(since))
    }

    /// A poll shows the Service.
    pub(super) fn listed(&mut self, tunnel: Tunnel, service: Service, began: Instant, now: Instant) {
        let listed = Fingerprint::of(&tunnel, Some(&service));
        let Some(work) = &mut self.work else {
            self.listed_meanwhile = Some(listed);
            return;
        };
        // Older than what the last pass wrote, perhaps: the next poll tells.
        if self.finished.is_some_and(|finished| finished > began) {
            return;
        }
        if listed != self.fingerprint || self.resync.is_some_and(|resync| resync <= now) {
            work.forget();
            work.reread = false;
            work.tunnel = tunnel;
            work.seen.service = Some(Box::new(service));
            self.due = Some(now);
            self.verdict = None;
        }
    }

    /// A worker gives the tunnel back. Returns whether a poll saw its Service change meanwhile, beside what the pass
    /// itself wrote.
    pub(super) fn returned(&mut self, work: Box<Work>, finalizer: &str, now: Instant) -> bool {
        let after = Fingerprint::of(&work.tunnel, work.seen.service.as_deref());
        let before = std::mem::replace(&mut self.fingerprint, after);
        let listed = self.listed_meanwhile.take();
        let changed = listed.is_some_and(|Fingerprint { tunnel, shown }| {
            tunnel != after.tunnel || ![before.shown, after.shown].contains(&shown)
        });
        self.removing = work.tunnel.wanted.is_nothing();
        self.finalized = work.seen.service.as_ref().is_some_and(|service| service.has_finalizer(finalizer));
        self.finished = Some(now);
        self.work = Some(work);
        changed
    }

    /// No list shows the Service any more. Returns whether the tunnel is still to be worked on.
    pub(super) fn vanished(&mut self, now: Instant) -> bool {
        if self.work.is_some() && !self.removing {
            if !self.finalized {
                return false;
            }
            self.start_anew(now); // one list is not enough: it is read by name
        }
        true
    }

    /// Reads the Service, then looks at everything.
    pub(super) fn start_anew(&mut self, now: Instant) {
        if let Some(work) = &mut self.work {
            work.forget();
        }
        self.waiting = None;
        self.verdict = None;
        self.due = Some(now);
    }

    /// Keeps no more than it takes to see a change.
    pub(super) fn settled(&mut self, resync: Instant) {
        if let Some(work) = &mut self.work {
            work.forget();
            work.seen = Observed::default();
        }
        self.waiting = None;
        self.resync = Some(resync);
        // One that is in no list of load balancers is not woken by a poll.
        self.due = self.removing.then_some(resync);
    }

    /// A known time, or soon and later each time. What nobody looked at for a whole interval is looked at again.
    pub(super) fn wait(&mut self, wait: Wait, now: Instant, resync_interval: Duration) {
        let soonest = if matches!(wait.look, Look::Machines(_)) { SOONEST_MACHINE } else { SOONEST };
        let since = match self.waiting {
            Some((what, since)) if what == wait.what => since,
            _ => now,
        };
        self.waiting = Some((wait.what, since));
        let pause = (now.duration_since(since) / PART_OF_THE_WAIT).clamp(soonest, LATEST);
        self.due = Some(now + wait.after.unwrap_or(pause));
        let stale = now.duration_since(self.looked) >= resync_interval;
        if let Some(work) = &mut self.work {
            work.look = Some(if stale { Look::Everything } else { wait.look });
        }
    }
}

/// Tells whether a Service is as it was left, in a few bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    /// Of what makes the tunnel.
    tunnel: u64,
    /// Of everything else that we read of the Service.
    shown: u64,
}

impl Fingerprint {
    fn of(tunnel: &Tunnel, service: Option<&Service>) -> Fingerprint {
        let mut shown = DefaultHasher::new();
        if let Some(service) = service {
            service.metadata.uid.hash(&mut shown);
            service.metadata.finalizers.hash(&mut shown);
            service.addresses().hash(&mut shown);
            if let Some(condition) = service.condition() {
                (&condition.status, &condition.reason, &condition.message).hash(&mut shown);
            }
        }
        let mut hasher = DefaultHasher::new();
        tunnel.hash(&mut hasher);
        Fingerprint { tunnel: hasher.finish(), shown: shown.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::TunnelId;
    use crate::tunnel::desired;
    use crate::tunnel::names::Owner;

    const SECOND: Duration = Duration::from_secs(1);

    fn service(address: Option<&str>) -> Service {
        let mut service = Service::default();
        service.metadata.name = "web".into();
        service.status.load_balancer.ingress =
            address.iter().map(|ip| crate::service::Ingress { ip: ip.parse().ok() }).collect();
        service
    }

    fn tunnel() -> Tunnel {
        let owner = Owner { cluster_name: "home".into(), class: "a/lb".into() };
        desired::removed(TunnelId { namespace: "default".into(), name: "web".into() }, &owner)
    }

    #[test]
    fn a_poll_wakes_a_settled_tunnel_only_when_its_service_changed() {
        let now = Instant::now();
        let mut entry = Entry::new(tunnel(), Some(service(None)), now);
        let mut work = entry.work.take().expect("nobody has it");
        work.seen.service = Some(Box::new(service(Some("192.0.2.1"))));
        assert!(!entry.returned(work, "f", now));
        entry.settled(now + 60 * SECOND);
        entry.due = None;
        entry.listed(tunnel(), service(Some("192.0.2.1")), now + SECOND, now + SECOND);
        assert_eq!(entry.due, None, "nothing changed");
        entry.listed(tunnel(), service(None), now - SECOND, now + SECOND);
        assert_eq!(entry.due, None, "a list that began before the pass ended says nothing");
        entry.listed(tunnel(), service(None), now + SECOND, now + SECOND);
        assert_eq!(entry.due, Some(now + SECOND), "somebody took the address away");
    }

    #[test]
    fn what_a_pass_wrote_itself_is_no_change() {
        let now = Instant::now();
        for (listed, expected) in [(None, false), (Some("192.0.2.1"), false), (Some("192.0.2.9"), true)] {
            let mut entry = Entry::new(tunnel(), Some(service(None)), now);
            let mut work = entry.work.take().expect("nobody has it");
            entry.listed(tunnel(), service(listed), now, now);
            work.seen.service = Some(Box::new(service(Some("192.0.2.1"))));
            assert_eq!(entry.returned(work, "f", now), expected, "{listed:?}");
        }
    }

    #[test]
    fn who_waits_for_long_is_looked_at_less_often() {
        let start = Instant::now();
        let mut entry = Entry::new(tunnel(), None, start);
        for (after, pause) in [(0, 250), (4, 250), (10, 500), (60, 3000), (600, 5000)] {
            let now = start + after * SECOND;
            let look = Look::Machines(vec!["m".into()]);
            entry.wait(Wait { what: Waiting::MachineStart, look, after: None }, now, 3600 * SECOND);
            assert_eq!(entry.due, Some(now + Duration::from_millis(pause)), "after {after} s");
        }
        entry.wait(
            Wait { what: Waiting::Traffic, look: Look::Objects, after: None },
            start + 601 * SECOND,
            60 * SECOND,
        );
        assert_eq!(entry.due, Some(start + 602 * SECOND), "something else is waited for");
        let look = entry.work.and_then(|work| work.look);
        assert_eq!(look, Some(Look::Everything), "nobody looked at everything for a minute");
    }
}
