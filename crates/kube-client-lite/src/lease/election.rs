//! The judgement of a candidate: no I/O, and no clock of its own.
//!
//! A candidate makes a round every retry period. A round goes like this:
//!
//! ```text
//! first() ──► Read ──► read(the Lease that was found) ──► Stand: nothing to do but wait
//!    │                        │
//!    └───────────────────► Write(a Lease) ──► wrote(reply): leading
//!                             │
//!                             └─ somebody was faster ──► Read
//! ```
//!
//! The election knows which Lease it saw (`sight.rs`), and since when its own one counts. It takes a Lease only where
//! that is free; `takeover.rs` takes one by force.

use std::time::Duration;

use super::clock::Now;
use super::record::{Lease, Record};
use super::sight::{Seen, Sight};

/// How fast leadership changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// For how long others leave a Lease alone that is not renewed. It counts in whole seconds, rounded up.
    pub lease_duration: Duration,
    /// A leader that could not renew for so long leads no more. It is shorter than the lease duration, by as much as a
    /// request may take.
    pub renew_deadline: Duration,
    /// How often candidates look, and the leader renews. It is shorter than the renew deadline.
    pub retry_period: Duration,
}

impl Default for Timings {
    /// The defaults of client-go: 15 s, 10 s, 2 s.
    fn default() -> Timings {
        let [lease_duration, renew_deadline, retry_period] = [15, 10, 2].map(Duration::from_secs);
        Timings { lease_duration, renew_deadline, retry_period }
    }
}

/// A candidate's view of the election.
#[derive(Clone, Debug)]
pub struct Election {
    /// The name of the Lease.
    name: String,
    pub(super) identity: String,
    pub(super) timings: Timings,
    pub(super) sight: Sight,
    /// The leadership counts from here: the moment before the last write of ours was sent that was confirmed.
    renewed: Option<Now>,
}

/// The next thing to do in a round.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Read the Lease, and call [`Election::read`].
    Read,
    /// Write the Lease, and call [`Election::wrote`] with the reply. Where somebody else was faster: read it.
    Write(Write),
    /// Do nothing: somebody else leads, or may.
    Stand,
}

/// A Lease to write. The API server refuses it where somebody else was faster.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// There is no Lease yet.
    Create(Lease),
    /// The Lease carries the version that was seen.
    Replace(Lease),
}

impl Election {
    /// A candidate that has seen nothing yet. Its `identity` must be its own: two candidates of one identity both lead.
    pub fn new(lease_name: &str, identity: &str, timings: Timings) -> Election {
        Election { name: lease_name.into(), identity: identity.into(), timings, sight: Sight::Nothing, renewed: None }
    }

    /// Begins a round. A leader renews the Lease that it wrote last; anybody else looks first.
    pub fn first(&self, now: Now) -> Move {
        match self.sight.seen() {
            Some(seen) if self.holds(now) => Move::Write(self.take(Some(seen.lease.clone()), now)),
            _ => Move::Read,
        }
    }

    /// The Lease was read; `None` where there is none.
    pub fn read(&mut self, found: Option<Lease>, now: Now) -> Move {
        match found {
            Some(lease) => self.found(lease, now),
            None => self.found_none(now),
        }
    }

    fn found(&mut self, lease: Lease, now: Now) -> Move {
        let Record { holder, .. } = lease.record();
        let (is_ours, is_nobodys) = (holder == self.identity, holder.is_empty());
        if !is_ours && !is_nobodys {
            self.renewed = None;
        }
        self.sight.found(lease.clone(), &self.identity, now);
        let is_free = is_ours || lease.record().is_released() || is_nobodys && self.holds(now) || self.has_expired(now);
        if is_free { Move::Write(self.take(Some(lease), now)) } else { Move::Stand }
    }

    fn found_none(&mut self, now: Now) -> Move {
        self.sight.found_none(self.timings.retry_period * 2, now);
        // Somebody deleted it. Its holder, whoever that was by then, does not know yet.
        let is_protected = self.expires_in(now).is_some_and(|left| !left.is_zero());
        if is_protected && !self.holds(now) {
            return Move::Stand;
        }
        self.sight.forget_rival();
        Move::Write(self.take(None, now))
    }

    /// The Lease that was sent at `sent` is written; the reply is the Lease as it is now.
    pub fn wrote(&mut self, written: Lease, sent: Now, now: Now) {
        self.sight = Sight::There(Seen::written(written, now));
        self.renewed = (self.holder() == self.identity && !self.is_retired()).then_some(sent);
    }

    /// Gives the leadership up. Returns the Lease to write so that others need not wait; `None` where it is not ours.
    pub fn release(&mut self, now: Now) -> Option<Write> {
        self.leave(|record| record.released(now.wall))
    }

    /// Whether this candidate leads.
    pub fn is_leading(&self, now: Now) -> bool {
        self.holds(now)
    }

    /// The moment from which this candidate leads, and for how long; `None` where it does not lead.
    pub(super) fn leads_from(&self, now: Now) -> Option<(Now, Duration)> {
        let renewed = self.renewed.filter(|_| self.holds(now))?;
        Some((renewed, self.timings.renew_deadline))
    }

    /// Whether the Lease is ours, and nobody else may take it yet.
    pub(super) fn holds(&self, now: Now) -> bool {
        self.renewed.is_some_and(|renewed| !now.is_after(self.timings.renew_deadline, renewed))
    }

    /// Whether the last reply said that the Lease is ours.
    pub(super) fn is_confirmed(&self) -> bool {
        self.renewed.is_some()
    }

    /// Leads no more. The Lease is left as it is.
    pub(super) fn step_down(&mut self) {
        self.renewed = None;
    }

    /// Leads no more. Returns the Lease to write with its last record in it; `None` where the Lease is not ours.
    pub(super) fn leave(&mut self, last: impl FnOnce(Record) -> Record) -> Option<Write> {
        self.step_down();
        let seen = self.sight.seen().filter(|seen| seen.lease.holder() == self.identity)?;
        Some(Write::Replace(seen.lease.clone().with(&last(seen.lease.record()))))
    }

    /// The Lease to write so that it is ours from now on.
    pub(super) fn take(&self, found: Option<Lease>, now: Now) -> Write {
        let before = found.as_ref().map(Lease::record);
        let record = Record::held(&self.identity, self.timings.lease_duration, before.as_ref(), now.wall);
        match found {
            Some(lease) => Write::Replace(lease.with(&record)),
            None => Write::Create(Lease::new(&self.name, &record)),
        }
    }

    /// Whether the Lease is retired, so that this candidate never gets it.
    pub(super) fn is_retired(&self) -> bool {
        self.sight.seen().is_some_and(Seen::is_retired)
    }

    /// The holder as it was seen last; `""` where there was none.
    pub(super) fn holder(&self) -> &str {
        self.sight.seen().map_or("", |seen| seen.lease.holder())
    }

    /// Whether somebody else took or renewed the Lease while we looked on.
    pub(super) fn rival_is_alive(&self) -> bool {
        self.sight.seen().is_some_and(|seen| seen.rival_is_alive)
    }

    /// When the Lease can be taken if nobody gives a sign of life until then; `None` where nobody else is known to hold it.
    pub(super) fn expires_in(&self, now: Now) -> Option<Duration> {
        let default = self.timings.lease_duration;
        let (since, duration) = match &self.sight {
            Sight::Nothing => return None,
            Sight::There(seen) if [self.identity.as_str(), ""].contains(&seen.lease.holder()) => return None,
            Sight::There(seen) => (seen.since, seen.protects_for(default)),
            Sight::Missing { before, since, .. } => (*since, before.protects_for(default).max(default)),
        };
        Some(duration.saturating_sub(now.monotonic_since(since)))
    }

    /// Whether the Lease was not renewed for as long as it protects its holder.
    fn has_expired(&self, now: Now) -> bool {
        let protects_for = |seen: &Seen| seen.protects_for(self.timings.lease_duration);
        self.sight.seen().is_some_and(|seen| now.monotonic_since(seen.since) >= protects_for(seen))
    }
}
