//! What is kept of a tunnel between passes, and when it is worked on next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::work::Work;
use crate::backoff::Repeating;
use crate::service::Service;
use crate::tunnel::memory::Memory;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::{Look, Wait, Waiting};
use crate::tunnel::{Tunnel, Wanted};

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
    pub(super) tunnel: Tunnel,
    pub(super) fingerprint: u64,
    /// How the Service looked before the last pass.
    pub(super) fingerprint_before: u64,
    /// Its Service has our finalizer: something may have been made for it.
    pub(super) finalized: bool,
    /// When to work on it next; `None`: when a poll or a worker says so.
    pub(super) due: Option<Instant>,
    /// Nothing is left to do; when to look whether it is still so.
    pub(super) resync: Option<Instant>,
    /// When everything was last looked at, or began to be.
    pub(super) looked: Instant,
    pub(super) finished: Option<Instant>,
    /// A poll saw the Service change while a worker had the tunnel.
    pub(super) changed: bool,
    /// What it waits for, and since when.
    pub(super) waiting: Option<(Waiting, Instant)>,
    pub(super) failures: Repeating,
}

impl Entry {
    pub(super) fn new(tunnel: Tunnel, service: Option<Service>, now: Instant) -> Entry {
        let reread = service.is_none();
        let seen = Observed { service, ..Observed::default() };
        Entry {
            fingerprint: fingerprint(seen.service.as_ref()),
            fingerprint_before: fingerprint(seen.service.as_ref()),
            finalized: true, // until a pass knows better
            work: Some(Box::new(Work { tunnel: tunnel.clone(), seen, memory: Memory::default(), look: None, reread })),
            tunnel,
            due: Some(now),
            resync: None,
            looked: now,
            finished: None,
            changed: false,
            waiting: None,
            failures: Repeating::default(),
        }
    }

    /// A poll shows the Service.
    pub(super) fn listed(&mut self, tunnel: Tunnel, service: Service, began: Instant, now: Instant) {
        let shown = fingerprint(Some(&service));
        let changed = tunnel != self.tunnel || shown != self.fingerprint;
        // A list that began before the last pass ended may be older than what that pass wrote.
        let older = self.finished.is_some_and(|finished| finished > began);
        if older && tunnel == self.tunnel && shown == self.fingerprint_before {
            return;
        }
        let resync = self.resync.is_some_and(|resync| resync <= now);
        if !changed && !resync {
            return;
        }
        match &mut self.work {
            None => self.changed |= changed,
            Some(_) if older => self.start_anew(now),
            Some(work) => {
                work.forget();
                work.reread = false;
                work.tunnel = tunnel;
                work.seen.service = Some(service);
                self.due = Some(now);
            }
        }
    }

    /// No list shows the Service any more. Returns whether the tunnel is still to be worked on.
    pub(super) fn vanished(&mut self, now: Instant) -> bool {
        let removing = self.tunnel.wanted == Wanted::Removed;
        if self.work.is_some() && !removing {
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
        self.due = Some(now);
    }

    /// Keeps no more than it takes to see a change.
    pub(super) fn settled(&mut self, resync: Instant) {
        if let Some(work) = &mut self.work {
            work.forget();
            work.seen = Observed::default();
        }
        self.resync = Some(resync);
        // One that is in no list of load balancers is not woken by a poll.
        self.due = (self.tunnel.wanted == Wanted::Removed).then_some(resync);
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

/// Tells whether a Service is as it was left: everything that we read of it beside what makes the tunnel.
pub(super) fn fingerprint(service: Option<&Service>) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(service) = service {
        service.metadata.uid.hash(&mut hasher);
        service.metadata.finalizers.hash(&mut hasher);
        service.addresses().hash(&mut hasher);
        if let Some(condition) = service.condition() {
            (&condition.status, &condition.reason, &condition.message).hash(&mut hasher);
        }
    }
    hasher.finish()
}
