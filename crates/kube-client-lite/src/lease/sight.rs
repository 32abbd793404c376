//! The facts that a candidate learnt when it looked at the Lease.

use std::time::{Duration, Instant};

use super::clock::Now;
use super::record::Lease;

/// The Lease as a candidate saw it.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// It has not seen a Lease.
    Nothing,
    /// The Lease was there at the last look.
    There(Seen),
    /// The Lease was not there at the last look, though it had been: somebody deleted it.
    Missing {
        /// How it was before.
        before: Seen,
        /// The first of those looks that found no Lease, with no long time between two of them.
        since: Instant,
        /// The last of them.
        looked: Instant,
    },
}

/// A Lease that was there.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub lease: Lease,
    /// When its record was seen for the first time.
    pub since: Instant,
    /// Somebody else took or renewed the Lease while this candidate looked on.
    pub rival_is_alive: bool,
    /// The Lease was retired before this candidate saw one for the first time.
    pub was_retired: bool,
}

impl Seen {
    /// The reply to a write of this candidate.
    pub fn written(lease: Lease, now: Now) -> Seen {
        Seen { lease, since: now.monotonic, rival_is_alive: false, was_retired: false }
    }

    /// How long the record protects its holder; `default` where it does not say. A Lease that was retired before this
    /// candidate began is given the same time: the candidate may have begun just too late to be one of those who are kept out.
    pub fn protects_for(&self, default: Duration) -> Duration {
        let duration = self.lease.record().duration;
        if self.was_retired || duration.is_zero() { default } else { duration }
    }

    /// Whether the Lease is retired, and this candidate is one of those who are kept out.
    pub fn is_retired(&self) -> bool {
        !self.was_retired && self.lease.record().is_retired()
    }
}

impl Sight {
    /// The Lease as it was when it was there.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Sight::Nothing => None,
            Sight::There(seen) | Sight::Missing { before: seen, .. } => Some(seen),
        }
    }

    /// The candidate with this identity found the Lease.
    pub fn found(&mut self, lease: Lease, identity: &str, now: Now) {
        let record = lease.record();
        let seen = match self.seen() {
            Some(seen) if seen.lease.record() == record => Seen { lease, ..seen.clone() },
            before => Seen {
                lease,
                since: now.monotonic,
                rival_is_alive: before.is_some() && !record.holder.is_empty() && record.holder != identity,
                was_retired: before.is_none() && record.is_retired(),
            },
        };
        *self = Sight::There(seen);
    }

    /// The candidate found no Lease. It may have been there in between, unless the last look was no longer ago than `pause`.
    pub fn found_none(&mut self, pause: Duration, now: Now) {
        let start = now.monotonic;
        *self = match std::mem::replace(self, Sight::Nothing) {
            Sight::Nothing => Sight::Nothing,
            Sight::Missing { before, since, looked } if now.monotonic_since(looked) <= pause => {
                Sight::Missing { before, since, looked: start }
            }
            Sight::There(before) | Sight::Missing { before, .. } => {
                Sight::Missing { before, since: start, looked: start }
            }
        };
    }

    /// Nothing that was seen says any longer that somebody else is alive.
    pub fn forget_rival(&mut self) {
        if let Sight::There(seen) | Sight::Missing { before: seen, .. } = self {
            seen.rival_is_alive = false;
        }
    }
}
