//! The judgement of a candidate: no I/O, no clock of its own.
//!
//! A round goes like this; a candidate makes one every retry period:
//!
//! ```text
//! first() ──► Read ──► read(what was found) ──► Stand: nothing to do but wait
//!    │                        │
//!    └───────────────────► Write(a Lease) ──► wrote(reply): leading
//!                             │
//!                             └─ somebody was faster ──► Read
//! ```

use std::time::{Duration, Instant, SystemTime};

use super::record::{Lease, Record, micro_time};

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

impl Now {
    /// The machine's clocks.
    pub fn read() -> Now {
        Now { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}

/// How fast leadership changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long others leave a Lease alone that is not renewed. Counts in whole seconds, rounded up.
    pub lease_duration: Duration,
    /// A leader that could not renew for so long leads no more. Shorter than the lease duration, by as much as a
    /// request may take.
    pub renew_deadline: Duration,
    /// How often candidates look, and the leader renews. Shorter than the renew deadline.
    pub retry_period: Duration,
}

impl Default for Timings {
    /// client-go's own: 15 s, 10 s, 2 s.
    fn default() -> Timings {
        let [lease_duration, renew_deadline, retry_period] = [15, 10, 2].map(Duration::from_secs);
        Timings { lease_duration, renew_deadline, retry_period }
    }
}

/// The duration in a Lease that was released, as client-go writes it.
const RELEASED: Duration = Duration::from_secs(1);

/// The duration in a Lease that is kept for good: the field's limit in the API, 68 years.
pub(super) const FOR_GOOD: Duration = Duration::from_secs(i32::MAX as u64);

/// The field's limit in the API, an `int32`.
const MOST_TRANSITIONS: u64 = i32::MAX as u64;

/// A candidate's view of the election.
#[derive(Clone, Debug)]
pub struct Election {
    name: String,
    identity: String,
    timings: Timings,
    /// The Lease as it was seen last.
    seen: Option<Seen>,
    /// From when on the last write of ours that was confirmed counts: before it was sent.
    renewed: Option<Now>,
    rival_is_alive: bool,
    /// It is not there, though it was.
    missing: Option<Missing>,
    seizure: Option<Seizure>,
    /// The Lease was kept for good already when it was seen for the first time.
    found_retired: bool,
}

/// The Lease was taken, or is to be, though somebody held it.
#[derive(Clone, Copy, Debug)]
struct Seizure {
    /// How long its holder may believe that it leads.
    outlives: Duration,
    /// When ours was confirmed.
    confirmed: Option<Instant>,
}

/// When it was first and last found missing, with no long time between two looks: it may have been there meanwhile.
#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    last: Instant,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    /// When its record was seen for the first time.
    since: Instant,
}

/// What to do next in a round.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    Read,
    Write(Write),
    /// Nothing: somebody else leads, or may.
    Stand,
}

/// What to write. Both fail where somebody else was faster.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(Lease),
    /// The Lease carries the version that was seen.
    Replace(Lease),
}

impl Election {
    /// A candidate that has seen nothing yet. `identity` must be its own: two candidates of one identity both lead.
    pub fn new(lease_name: &str, identity: &str, timings: Timings) -> Election {
        Election {
            name: lease_name.into(),
            identity: identity.into(),
            timings,
            seen: None,
            renewed: None,
            rival_is_alive: false,
            missing: None,
            seizure: None,
            found_retired: false,
        }
    }

    /// Begins a round. A leader renews what it wrote last; anybody else looks first.
    pub fn first(&self, now: Now) -> Move {
        match &self.seen {
            Some(seen) if self.holds(now) => Move::Write(self.replace(&seen.lease, now)),
            _ => Move::Read,
        }
    }

    /// The Lease was read; `None`: there is none.
    pub fn read(&mut self, found: Option<Lease>, now: Now) -> Move {
        let holding = self.holds(now);
        let Some(lease) = found else {
            // Somebody deleted it. Its holder, whoever that was by then, does not know yet.
            self.missing = self.seen.as_ref().map(|_| Missing { last: now.monotonic, ..self.missing_at(now) });
            if !holding && self.expires_in(now).is_some_and(|left| !left.is_zero()) {
                return Move::Stand;
            }
            self.rival_is_alive = false;
            return Move::Write(Write::Create(Lease::new(&self.name, &self.record(None, now))));
        };
        self.missing = None;
        let record = lease.record();
        let ours = record.holder == self.identity;
        if !ours && !record.holder.is_empty() {
            self.renewed = None;
        }
        let since = match &self.seen {
            Some(seen) if seen.lease.record() == record => seen.since,
            before => {
                self.found_retired = before.is_none() && record.duration >= FOR_GOOD;
                self.rival_is_alive = before.is_some() && !ours && !record.holder.is_empty();
                now.monotonic
            }
        };
        let expired = now.monotonic.saturating_duration_since(since) >= self.duration(&record);
        let nobodys = record.holder.is_empty();
        // One that is released says so by its duration. One that was emptied otherwise has a holder who does not know.
        let released = nobodys && record.duration <= RELEASED;
        let free = ours || released || nobodys && holding || expired;
        let next = if free { Move::Write(self.replace(&lease, now)) } else { Move::Stand };
        self.seen = Some(Seen { lease, since });
        next
    }

    /// What was sent at `sent` is written; the reply is the Lease as it is now.
    pub fn wrote(&mut self, written: Lease, sent: Now, now: Now) {
        self.rival_is_alive = false;
        self.missing = None;
        self.seen = Some(Seen { lease: written, since: now.monotonic });
        self.found_retired = false;
        self.renewed = (self.holder() == self.identity && !self.is_retired()).then_some(sent);
        if let (Some(_), Some(seizure)) = (self.renewed, &mut self.seizure) {
            seizure.confirmed.get_or_insert(now.monotonic);
        }
    }

    /// Whether this candidate leads.
    pub fn is_leading(&self, now: Now) -> bool {
        self.leads_from(now).is_some()
    }

    /// From when on and for how long it leads, if it does.
    pub(super) fn leads_from(&self, now: Now) -> Option<(Now, Duration)> {
        let renewed = self.renewed.filter(|_| self.holds(now) && self.outlived_in(now).is_none())?;
        Some((renewed, self.timings.renew_deadline))
    }

    /// Whether the Lease is ours, and nobody else takes it.
    pub(super) fn holds(&self, now: Now) -> bool {
        self.renewed.is_some_and(|renewed| !has_passed(self.timings.renew_deadline, renewed, now))
    }

    /// How long it still is until whoever the Lease was seized from must have noticed. `None`: nobody is left who might not.
    pub fn outlived_in(&self, now: Now) -> Option<Duration> {
        let Seizure { outlives, confirmed } = self.seizure?;
        let passed = confirmed.map_or(Duration::ZERO, |since| now.monotonic.saturating_duration_since(since));
        Some(outlives.saturating_sub(passed)).filter(|left| !left.is_zero())
    }

    /// The Lease was read, and is to be taken whoever holds it. This candidate leads once its holder must have noticed.
    pub fn seize(&mut self, found: Option<Lease>, now: Now) -> Write {
        let outlives = match (found.as_ref().map(Lease::record), &self.seen) {
            (Some(record), _) => {
                let released = record.holder.is_empty() && record.duration <= RELEASED;
                let ends = released || record.holder == self.identity || record.duration >= FOR_GOOD;
                (!ends).then(|| self.duration(&record))
            }
            // Somebody deleted it. Its holder, whoever that was by then, does not know yet.
            (None, Some(seen)) => {
                (!self.holds(now)).then(|| self.duration(&seen.lease.record()).max(self.timings.lease_duration))
            }
            (None, None) => None,
        };
        if let Some(outlives) = outlives {
            let before = self.seizure.map_or(Duration::ZERO, |seizure| seizure.outlives);
            self.seizure = Some(Seizure { outlives: before.max(outlives), confirmed: None });
        }
        match found {
            Some(lease) => self.replace(&lease, now),
            None => Write::Create(Lease::new(&self.name, &self.record(None, now))),
        }
    }

    /// Gives the leadership up. Returns what to write so that others need not wait; `None` where it is not ours, or where they
    /// have to, as whoever it was seized from may still go on.
    pub fn release(&mut self, now: Now) -> Option<Write> {
        if self.outlived_in(now).is_some() {
            self.renewed = None;
            return None;
        }
        self.leave(|record| {
            let time = micro_time(now.wall);
            Record { holder: String::new(), duration: RELEASED, acquire_time: time.clone(), renew_time: time, ..record }
        })
    }

    /// Gives the leadership up, and leaves it to none of those who wait for it now. Returns what to write for that; `None` where
    /// the Lease is not ours.
    pub fn retire(&mut self, now: Now) -> Option<Write> {
        self.leave(|record| Record { duration: FOR_GOOD, renew_time: micro_time(now.wall), ..record })
    }

    fn leave(&mut self, last: impl FnOnce(Record) -> Record) -> Option<Write> {
        self.renewed = None;
        let seen = self.seen.as_ref().filter(|seen| seen.lease.holder() == self.identity)?;
        Some(Write::Replace(seen.lease.clone().with(&last(seen.lease.record()))))
    }

    /// Whether the Lease is kept from this candidate for good, as it was seen last.
    pub fn is_retired(&self) -> bool {
        !self.found_retired && self.seen.as_ref().is_some_and(|seen| seen.lease.record().duration >= FOR_GOOD)
    }

    /// The holder as last seen; `""` where there was none.
    pub fn holder(&self) -> &str {
        self.seen.as_ref().map_or("", |seen| seen.lease.holder())
    }

    fn missing_at(&self, now: Now) -> Missing {
        let now = now.monotonic;
        let lately = |missing: &Missing| now.saturating_duration_since(missing.last) <= self.timings.retry_period * 2;
        self.missing.filter(lately).unwrap_or(Missing { since: now, last: now })
    }

    /// When the Lease can be taken, if nobody gives a sign of life until then; `None` where nobody else is known to hold it.
    pub fn expires_in(&self, now: Now) -> Option<Duration> {
        let seen = self.seen.as_ref()?;
        let record = seen.lease.record();
        let (since, duration) = match self.missing {
            Some(Missing { since, .. }) => (since, self.duration(&record).max(self.timings.lease_duration)),
            None if record.holder == self.identity || record.holder.is_empty() => return None,
            None => (seen.since, self.duration(&record)),
        };
        Some(duration.saturating_sub(now.monotonic.saturating_duration_since(since)))
    }

    /// Whether somebody else took or renewed the Lease while we looked on.
    pub fn rival_is_alive(&self) -> bool {
        self.rival_is_alive
    }

    fn replace(&self, lease: &Lease, now: Now) -> Write {
        let record = self.record(Some(&lease.record()), now);
        Write::Replace(lease.clone().with(&record))
    }

    /// What we write where the Lease says `before`.
    fn record(&self, before: Option<&Record>, now: Now) -> Record {
        let time = micro_time(now.wall);
        let (acquire_time, transitions) = match before {
            Some(before) if before.holder == self.identity => (before.acquire_time.clone(), before.transitions),
            Some(before) => (time.clone(), (before.transitions + 1).min(MOST_TRANSITIONS)),
            None => (time.clone(), 0),
        };
        // Whoever comes after us must wait for whoever came before us, too.
        let duration = self.timings.lease_duration.max(self.seizure.map_or(Duration::ZERO, |seizure| seizure.outlives));
        Record { holder: self.identity.clone(), duration, acquire_time, renew_time: time, transitions }
    }

    /// How long this record protects its holder. One that does not say is given what we would be given; so is one that was kept
    /// for good before this candidate began, which may have begun just a moment too late to know.
    fn duration(&self, record: &Record) -> Duration {
        let for_good = self.found_retired && record.duration >= FOR_GOOD;
        if record.duration.is_zero() || for_good { self.timings.lease_duration } else { record.duration }
    }
}

/// Whether the duration has passed for a leader: by the clock that says more. The monotonic one stands still while the
/// machine sleeps, the other may be set back.
pub(super) fn has_passed(duration: Duration, from: Now, now: Now) -> bool {
    now.monotonic.saturating_duration_since(from.monotonic) >= duration
        || now.wall.duration_since(from.wall).unwrap_or_default() >= duration
}
