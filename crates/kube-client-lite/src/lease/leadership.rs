//! Whether this process leads, for every thread that is about to do something.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::Now;

/// A handle on the result of the election. Clones speak of the same one.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Counts how often leadership began.
    term: u64,
    lasts: Lasts,
}

/// For how long the current term lasts.
#[derive(Clone, Copy, Debug, Default)]
enum Lasts {
    /// There is none.
    #[default]
    Over,
    /// It lasts from that moment for that long, unless it is renewed.
    From(Now, Duration),
    /// It has no end: there is no election.
    Forever,
}

/// The right of a leader to act. It ends with the term in which it was given. It does not come back when the process leads
/// again: another process may have led in between, and the world may not be any more as it was seen before.
#[derive(Clone, Debug)]
pub struct Permit {
    leadership: Leadership,
    term: u64,
}

impl Leadership {
    pub(super) fn new() -> Leadership {
        Leadership(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }))
    }

    /// The leadership of a process that has no rivals. It never ends.
    pub fn without_election() -> Leadership {
        let leadership = Leadership::new();
        *leadership.state() = State { term: 1, lasts: Lasts::Forever };
        leadership
    }

    /// The right to act, if this process leads now.
    pub fn permit(&self) -> Option<Permit> {
        let state = self.state();
        state.lasts.still().then(|| Permit { leadership: self.clone(), term: state.term })
    }

    /// The right to act, as soon as this process leads; `None` where it does not within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Permit> {
        let end = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if state.lasts.still() {
                return Some(Permit { leadership: self.clone(), term: state.term });
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// This process leads from that moment for that long. If the last term is over, another one begins.
    pub(super) fn renew(&self, from: Now, duration: Duration) {
        let mut state = self.state();
        if !state.lasts.still() {
            state.term += 1;
        }
        state.lasts = Lasts::From(from, duration);
        self.0.changed.notify_all();
    }

    /// Ends the term, for good. Another may begin later, if an election goes on.
    pub fn end(&self) {
        self.state().lasts = Lasts::Over;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Whether the term still lasts. It is to be asked right before each thing that only a leader may do.
    pub fn holds(&self) -> bool {
        let state = self.leadership.state();
        state.term == self.term && state.lasts.still()
    }
}

impl Lasts {
    fn still(self) -> bool {
        match self {
            Lasts::Over => false,
            Lasts::From(from, duration) => !Now::read().is_after(duration, from),
            Lasts::Forever => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_permit_ends_with_its_term() {
        let leadership = Leadership::new();
        assert!(leadership.permit().is_none());
        leadership.renew(Now::read(), HOUR);
        let first = leadership.permit().expect("it leads");
        leadership.renew(Now::read(), HOUR);
        assert!(first.holds(), "a renewal goes on with the term");
        leadership.end();
        assert!(!first.holds());
        leadership.renew(Now::read(), HOUR);
        assert!(!first.holds(), "another may have led in between");
        assert!(leadership.permit().expect("it leads again").holds());
    }

    #[test]
    fn leadership_that_is_not_renewed_ends_by_itself() {
        let leadership = Leadership::new();
        leadership.renew(Now::read(), Duration::ZERO);
        assert!(leadership.permit().is_none());
        assert!(leadership.wait(Duration::from_millis(1)).is_none());
    }

    #[test]
    fn who_waits_is_woken() {
        let leadership = Leadership::new();
        let waiting = {
            let leadership = leadership.clone();
            std::thread::spawn(move || leadership.wait(HOUR).is_some())
        };
        leadership.renew(Now::read(), HOUR);
        assert!(waiting.join().expect("no panic"));
        assert!(Leadership::without_election().permit().is_some_and(|permit| permit.holds()));
    }
}
