//! The part of a tunnel that is kept between passes, and when it is worked on next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::work::{First, Work};
use crate::service::Service;
use crate::tunnel::Tunnel;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::step::{Look, Wait, Waiting};
use crate::tunnel::summary::{Digest, Summary};

/// How soon a tunnel that waits is looked at again. Fly allows five reads of a Machine a second, one of anything else.
const SOONEST_MACHINE: Duration = Duration::from_millis(250);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);

/// A lane that waits for traffic is looked at as a whole that often: only the cluster says why it does not run frpc.
const TRAFFIC: Duration = Duration::from_secs(20);

/// A tunnel that waited for long is looked at less often: each time after this part of the time that it waited.
const PART_OF_THE_WAIT: u32 = 20;

/// A tunnel between passes. All times are since the process started.
pub(super) struct Entry {
    phase: Phase,
    /// How the tunnel was to be, and how its Service looked, when it was last worked on.
    fingerprint: Fingerprint,
    /// It was to be taken down.
    to_go: bool,
    /// When everything was last looked at, or began to be.
    looked: Duration,
    /// When the last pass ended.
    finished: Option<Duration>,
    /// The thing that it waits for, and since when.
    waiting: Option<(Waiting, Duration)>,
    /// When its Service was first seen, if that was new and shows no address yet.
    new_since: Option<Duration>,
    /// How it was found when it settled, if it serves. Sweeps watch it then.
    summary: Option<Summary>,
    /// The Machines as a sweep showed them when it was last looked at for their sake. If that look found nothing to do, Fly's lists
    /// only write them in another way.
    suspected: Option<Digest>,
    /// Since when users are served by an frpc whose pod is not ready.
    unready_since: Option<Duration>,
    /// Its Service was changed while this process looked on, and not all is done yet that this asks for.
    asked_for: bool,
}

/// A pod that is not ready so long after its frpc serves never gets ready: it is probed every 10 s.
const NEVER_READY: Duration = Duration::from_secs(60);

/// Where a tunnel is between one pass and the next.
enum Phase {
    /// It is to be worked on at that time.
    Due { work: Box<Work>, at: Duration },
    /// A worker has it.
    Working {
        /// The Service as a poll saw it meanwhile.
        listed: Option<Fingerprint>,
    },
    /// Nothing is left to do; at that time it is looked at whether this is still so.
    Settled { work: Box<Work>, verify_at: Duration },
}

impl Entry {
    /// A tunnel that nobody worked on yet. Without `service` that is read first.
    pub(super) fn new(tunnel: Tunnel, service: Option<Service>, now: Duration) -> Entry {
        let first = if service.is_none() { First::ReadService } else { First::Plan };
        let new =
            service.as_ref().is_some_and(|service| service.condition().is_none() && service.addresses().is_empty());
        let seen = Observed::members(service);
        Entry {
            fingerprint: Fingerprint::of(&tunnel, &seen),
            to_go: tunnel.is_to_go(),
            phase: Phase::Due { work: Box::new(Work::new(tunnel, seen, first)), at: now },
            looked: now,
            finished: None,
            waiting: None,
            new_since: new.then_some(now),
            summary: None,
            suspected: None,
            unready_since: None,
            asked_for: false,
        }
    }

    /// Whether somebody asked for what is to be done by a change of the Service.
    pub(super) fn is_asked_for(&self) -> bool {
        self.asked_for
    }

    /// All that somebody asked for is done.
    pub(super) fn fulfilled(&mut self) {
        self.asked_for = false;
    }

    /// When to work on it next; `None`: when a poll or a worker says so.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Due { at, .. } => Some(*at),
            Phase::Working { .. } => None,
            // A tunnel that is to go is in no list of load balancers, so no poll wakes it. One that serves is asked after at Fly alone.
            Phase::Settled { verify_at, .. } => (self.to_go || self.summary.is_some()).then_some(*verify_at),
        }
    }

    pub(super) fn is_with_a_worker(&self) -> bool {
        matches!(self.phase, Phase::Working { .. })
    }

    /// The tunnel, unless a worker has it.
    pub(super) fn work(&self) -> Option<&Work> {
        match &self.phase {
            Phase::Due { work, .. } | Phase::Settled { work, .. } => Some(work),
            Phase::Working { .. } => None,
        }
    }

    /// Gives the tunnel to a worker; `None` where one has it.
    pub(super) fn start(&mut self, now: Duration) -> Option<Box<Work>> {
        let work = match std::mem::replace(&mut self.phase, Phase::Working { listed: None }) {
            Phase::Due { work, .. } => work,
            Phase::Settled { mut work, .. } => {
                if let Some(summary) = self.summary {
                    work.first = First::Confirm(summary);
                }
                work
            }
            working @ Phase::Working { .. } => {
                self.phase = working;
                return None;
            }
        };
        if work.will_look_at_everything() {
            self.looked = now;
        }
        Some(work)
    }

    /// How long it took a new Service to show an address, once it does.
    pub(super) fn first_address(&mut self, seen: &Observed, now: Duration) -> Option<Duration> {
        if seen.shown_addresses().is_empty() {
            return None;
        }
        self.new_since.take().map(|since| now - since)
    }

    /// A poll that began at that time shows the Service.
    pub(super) fn listed(&mut self, tunnel: Tunnel, service: Service, began: Duration, now: Duration) {
        let seen = Observed::members([service]);
        let fingerprint = Fingerprint::of(&tunnel, &seen);
        if let Phase::Working { listed } = &mut self.phase {
            *listed = Some(fingerprint);
            return;
        }
        // The list is older than what the last pass wrote, perhaps: the next poll tells.
        if self.finished.is_some_and(|finished| finished > began) {
            return;
        }
        let to_verify =
            self.summary.is_none() && matches!(self.phase, Phase::Settled { verify_at, .. } if verify_at <= now);
        self.asked_for |= fingerprint.tunnel != self.fingerprint.tunnel;
        if fingerprint != self.fingerprint || to_verify {
            self.wake(now, |work| {
                (work.tunnel, work.seen, work.first) = (tunnel, seen, First::Plan);
                work.memory.service_read();
            });
        }
    }

    /// A worker gives the tunnel back. Returns whether a poll saw its Service change meanwhile, beside what the pass
    /// itself wrote.
    pub(super) fn returned(&mut self, work: Box<Work>, now: Duration) -> bool {
        let after = Fingerprint::of(&work.tunnel, &work.seen);
        let before = std::mem::replace(&mut self.fingerprint, after);
        self.to_go = work.tunnel.is_to_go();
        self.finished = Some(now);
        let phase = std::mem::replace(&mut self.phase, Phase::Due { work, at: now });
        let Phase::Working { listed: Some(Fingerprint { tunnel, shown }) } = phase else { return false };
        self.asked_for |= tunnel != after.tunnel;
        tunnel != after.tunnel || ![before.shown, after.shown].contains(&shown)
    }

    /// A worker gives the tunnel back, and only asked Fly whether it is as it was found. Returns whether a poll saw its Service change
    /// meanwhile.
    pub(super) fn confirmed(&mut self, work: Box<Work>, now: Duration) -> bool {
        self.finished = Some(now);
        let phase = std::mem::replace(&mut self.phase, Phase::Due { work, at: now });
        matches!(phase, Phase::Working { listed: Some(listed) } if listed != self.fingerprint)
    }

    /// No list shows the Service any more. One list is not enough: it is read by name.
    pub(super) fn vanished(&mut self, now: Duration) {
        if !self.is_with_a_worker() && !self.to_go {
            self.start_anew(now);
        }
    }

    /// Reads the Service, then looks at everything.
    pub(super) fn start_anew(&mut self, now: Duration) {
        self.waiting = None;
        self.wake(now, Work::forget);
    }

    /// Something failed: it is tried again at that time.
    pub(super) fn try_again(&mut self, at: Duration) {
        self.wake(at, |_| ());
    }

    fn wake(&mut self, at: Duration, edit: impl FnOnce(&mut Work)) {
        self.summary = None;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Working { listed: None }) {
            Phase::Due { mut work, .. } | Phase::Settled { mut work, .. } => {
                edit(&mut work);
                Phase::Due { work, at }
            }
            working @ Phase::Working { .. } => working,
        };
    }

    /// It settles, and serves by pods that are ready or not. Returns whether it is time to say that they never get ready.
    pub(super) fn never_ready(&mut self, unready: bool, now: Duration) -> bool {
        self.unready_since = unready.then(|| self.unready_since.unwrap_or(now));
        self.unready_since.is_some_and(|since| now - since >= NEVER_READY)
    }

    /// Keeps no more than it takes to see a change. `summary` is how the tunnel was found, if it serves.
    pub(super) fn settled(&mut self, summary: Option<Summary>, verify_at: Duration) {
        self.summary = summary;
        self.waiting = None;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Working { listed: None }) {
            Phase::Due { mut work, .. } | Phase::Settled { mut work, .. } => {
                work.forget();
                work.seen = Observed::default();
                Phase::Settled { work, verify_at }
            }
            working @ Phase::Working { .. } => working,
        };
    }

    /// Nothing is to be done: it is as it was found before.
    pub(super) fn settled_as_before(&mut self, verify_at: Duration) {
        self.settled(self.summary, verify_at);
    }

    /// How the tunnel was found when it settled, if it serves and no pass ended after that time.
    pub(super) fn settled_before(&self, began: Duration) -> Option<(&Tunnel, Summary)> {
        let Phase::Settled { work, .. } = &self.phase else { return None };
        let summary = self.summary.filter(|_| self.finished.is_none_or(|finished| finished <= began))?;
        Some((&work.tunnel, summary))
    }

    /// Whether a sweep that shows the Machines like this shows something that no look explained yet.
    pub(super) fn is_new(&self, machines: Digest) -> bool {
        self.summary.is_none_or(|summary| summary.machines != machines) && self.suspected != Some(machines)
    }

    /// A sweep shows something else than what was found. `machines` is what it shows of these, if that is it.
    pub(super) fn suspect(&mut self, machines: Option<Digest>, now: Duration) {
        self.suspected = machines.or(self.suspected);
        self.start_anew(now);
    }

    /// No sweep can tell how it is, so it is looked at by itself from that time on.
    pub(super) fn watch_alone(&mut self, at: Duration) {
        if let Phase::Settled { verify_at, .. } = &mut self.phase {
            self.summary = None;
            *verify_at = at.min(*verify_at);
        }
    }

    /// It is looked at again at a known time, or soon and later each time. A tunnel that nobody looked at as a whole for an
    /// interval is looked at as a whole.
    pub(super) fn wait(&mut self, wait: Wait, now: Duration, resync_interval: Duration) {
        let soonest = if matches!(wait.look, Look::Machines(_)) { SOONEST_MACHINE } else { SOONEST };
        let since = match self.waiting {
            Some((what, since)) if what == wait.what => since,
            _ => now,
        };
        self.waiting = Some((wait.what, since));
        let pause = ((now - since) / PART_OF_THE_WAIT).clamp(soonest, LATEST);
        let pause = wait.after.unwrap_or(pause).min(resync_interval);
        let longest = if wait.what == Waiting::Traffic { TRAFFIC.min(resync_interval) } else { resync_interval };
        let stale = now + pause - self.looked >= longest;
        let look = if stale { Look::Everything } else { wait.look };
        self.wake(now + pause, |work| work.first = First::Look(look));
    }
}

/// Tells whether a Service is as it was left, in a few bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    /// A hash of what makes the tunnel.
    tunnel: u64,
    /// A hash of everything else that we read of the Service.
    shown: u64,
}

impl Fingerprint {
    fn of(tunnel: &Tunnel, seen: &Observed) -> Fingerprint {
        let mut shown = DefaultHasher::new();
        for service in &seen.services {
            service.metadata.uid.hash(&mut shown);
            service.metadata.finalizers.hash(&mut shown);
            service.status.load_balancer.ingress.hash(&mut shown);
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
    use crate::examples;
    use crate::service::Ingress;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(1_000);

    fn service(address: Option<&str>) -> Service {
        let mut service = examples::service();
        service.status.load_balancer.ingress =
            address.iter().map(|ip| Ingress::proxy(ip.parse().expect("an address"))).collect();
        service
    }

    /// A pass writes this address into the status.
    fn worked_on(entry: &mut Entry, address: &str, meanwhile: impl FnOnce(&mut Entry)) -> bool {
        let mut work = entry.start(NOW).expect("nobody has it");
        meanwhile(entry);
        let service = service(Some(address));
        work.seen.put_member(service);
        entry.returned(work, NOW)
    }

    #[test]
    fn a_poll_wakes_a_settled_tunnel_only_when_its_service_changed() {
        let mut entry = Entry::new(examples::tunnel(), Some(service(None)), NOW);
        assert!(!worked_on(&mut entry, "192.0.2.1", |_| ()));
        entry.settled(None, NOW + 60 * SECOND);
        entry.listed(examples::tunnel(), service(Some("192.0.2.1")), NOW + SECOND, NOW + SECOND);
        assert_eq!(entry.due(), None, "nothing changed");
        entry.listed(examples::tunnel(), service(None), NOW - SECOND, NOW + SECOND);
        assert_eq!(entry.due(), None, "a list that began before the pass ended says nothing");
        entry.listed(examples::tunnel(), service(None), NOW + SECOND, NOW + SECOND);
        assert_eq!(entry.due(), Some(NOW + SECOND), "somebody took the address away");
    }

    #[test]
    fn a_settled_tunnel_is_verified_after_the_interval() {
        let mut entry = Entry::new(examples::tunnel(), Some(service(None)), NOW);
        worked_on(&mut entry, "192.0.2.1", |_| ());
        entry.settled(None, NOW + 60 * SECOND);
        for (after, due) in [(59, None), (60, Some(NOW + 60 * SECOND))] {
            let at = NOW + after * SECOND;
            entry.listed(examples::tunnel(), service(Some("192.0.2.1")), at, at);
            assert_eq!(entry.due(), due, "after {after} s");
        }
        let mut removed = Entry::new(examples::removed("web"), None, NOW);
        let work = removed.start(NOW).expect("nobody has it");
        removed.returned(work, NOW);
        removed.settled(None, NOW + 60 * SECOND);
        assert_eq!(removed.due(), Some(NOW + 60 * SECOND), "no poll shows its Service");
    }

    #[test]
    fn what_a_pass_wrote_itself_is_no_change() {
        for (listed, expected) in [(None, false), (Some("192.0.2.1"), false), (Some("192.0.2.9"), true)] {
            let mut entry = Entry::new(examples::tunnel(), Some(service(None)), NOW);
            let poll = |entry: &mut Entry| entry.listed(examples::tunnel(), service(listed), NOW, NOW);
            assert_eq!(worked_on(&mut entry, "192.0.2.1", poll), expected, "{listed:?}");
        }
    }

    #[test]
    fn a_tunnel_that_waits_for_long_is_looked_at_less_often() {
        let mut entry = Entry::new(examples::removed("web"), None, NOW);
        for (after, pause) in [(0, 250), (4, 250), (10, 500), (60, 3000), (600, 5000)] {
            let now = NOW + after * SECOND;
            let look = Look::Machines(vec!["m".into()]);
            entry.wait(Wait { what: Waiting::MachineStart, look, after: None, in_vain: false }, now, 3600 * SECOND);
            assert_eq!(entry.due(), Some(now + Duration::from_millis(pause)), "after {after} s");
        }
        let wait = Wait { what: Waiting::Traffic, look: Look::Objects, after: None, in_vain: false };
        entry.wait(wait, NOW + 601 * SECOND, 60 * SECOND);
        assert_eq!(entry.due(), Some(NOW + 602 * SECOND), "something else is waited for");
        let everything = entry.work().is_some_and(Work::will_look_at_everything);
        assert!(everything, "nobody looked at everything for a minute");
    }
}
