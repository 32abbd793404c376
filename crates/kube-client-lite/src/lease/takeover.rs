//! For a process that puts an end to what leaders did: it takes the Lease whoever holds it, and it retires the Lease.
//!
//! client-go knows neither. To seize a Lease does not stop its holder, who learns of it with the next renewal. So a
//! candidate that seized the Lease leads only when the holder's own deadline must have passed, and until then it leaves
//! the Lease to nobody else. Everything else is the business of the [`Election`].

use std::time::{Duration, Instant};

use super::clock::Now;
use super::election::{Election, Move, Write};
use super::record::Lease;

/// An election whose candidate may take the Lease by force.
#[derive(Clone, Debug)]
pub(super) struct Takeover {
    election: Election,
    seizure: Option<Seizure>,
}

/// The Lease was taken, or is to be taken, though somebody held it.
#[derive(Clone, Copy, Debug)]
struct Seizure {
    /// For how long that holder may believe that it leads.
    outlives: Duration,
    /// When a reply said for the first time that the Lease is ours.
    confirmed: Option<Instant>,
}

impl Takeover {
    pub fn new(election: Election) -> Takeover {
        Takeover { election, seizure: None }
    }

    pub fn election(&self) -> &Election {
        &self.election
    }

    /// Begins a round: see [`Election::first`].
    pub fn first(&self, now: Now) -> Move {
        self.protected_move(self.election.first(now))
    }

    /// The Lease was read: see [`Election::read`].
    pub fn read(&mut self, found: Option<Lease>, now: Now) -> Move {
        let next = self.election.read(found, now);
        self.protected_move(next)
    }

    /// The Lease was written: see [`Election::wrote`].
    pub fn wrote(&mut self, written: Lease, sent: Now, now: Now) {
        self.election.wrote(written, sent, now);
        if self.election.is_confirmed()
            && let Some(seizure) = &mut self.seizure
        {
            seizure.confirmed.get_or_insert(now.monotonic);
        }
    }

    /// The Lease was read, and is to be taken whoever holds it. This candidate leads once that holder must have noticed.
    pub fn seize(&mut self, found: Option<Lease>, now: Now) -> Write {
        if let Some(outlives) = self.unaware_for(found.as_ref(), now) {
            let before = self.seizure.map_or(Duration::ZERO, |seizure| seizure.outlives);
            self.seizure = Some(Seizure { outlives: before.max(outlives), confirmed: None });
        }
        self.protected(self.election.take(found, now))
    }

    /// For how long somebody may believe that it leads if the Lease is taken now; `None` where nobody does.
    fn unaware_for(&self, found: Option<&Lease>, now: Now) -> Option<Duration> {
        let Election { identity, timings, sight, .. } = &self.election;
        let default = timings.lease_duration;
        if let Some(record) = found.map(Lease::record) {
            let has_ended = record.is_released() || record.is_retired();
            let duration = if record.duration.is_zero() { default } else { record.duration };
            return (!has_ended && record.holder != *identity).then_some(duration);
        }
        // Somebody deleted it. Its holder, whoever that was by then, does not know yet.
        let seen = sight.seen().filter(|_| !self.election.holds(now))?;
        Some(seen.protects_for(default).max(default))
    }

    /// Gives the leadership up. Returns the Lease to write so that others need not wait; `None` where it is not ours, or where
    /// they have to wait, since whoever it was seized from may still go on.
    pub fn release(&mut self, now: Now) -> Option<Write> {
        if self.outlived_in(now).is_some() {
            self.election.step_down();
            return None;
        }
        self.election.release(now)
    }

    /// Gives the leadership up, and leaves it to none of those who wait for it now. Returns the Lease to write for that; `None`
    /// where it is not ours.
    pub fn retire(&mut self, now: Now) -> Option<Write> {
        self.election.leave(|record| record.retired(now.wall))
    }

    /// The moment from which this candidate leads, and for how long; `None` where it does not lead.
    pub fn leads_from(&self, now: Now) -> Option<(Now, Duration)> {
        self.election.leads_from(now).filter(|_| self.outlived_in(now).is_none())
    }

    /// How long it still takes until whoever the Lease was seized from must have noticed; `None` where nobody is left who might
    /// not have.
    pub fn outlived_in(&self, now: Now) -> Option<Duration> {
        let Seizure { outlives, confirmed } = self.seizure?;
        let passed = confirmed.map_or(Duration::ZERO, |since| now.monotonic_since(since));
        Some(outlives.saturating_sub(passed)).filter(|left| !left.is_zero())
    }

    fn protected_move(&self, next: Move) -> Move {
        match next {
            Move::Write(write) => Move::Write(self.protected(write)),
            Move::Read | Move::Stand => next,
        }
    }

    /// Makes the Lease last so long that the next holder waits as well for the one that it was seized from.
    fn protected(&self, write: Write) -> Write {
        let outlives = self.seizure.map_or(Duration::ZERO, |seizure| seizure.outlives);
        match write {
            Write::Create(lease) => Write::Create(lease.lasting(outlives)),
            Write::Replace(lease) => Write::Replace(lease.lasting(outlives)),
        }
    }
}
