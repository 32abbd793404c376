//! Time as an election needs it: two clocks, since each of them may say too little.

use std::time::{Duration, Instant, SystemTime};

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// This clock is never set, but it stands still while the machine sleeps.
    pub monotonic: Instant,
    /// This clock goes on while the machine sleeps, but somebody may set it.
    pub wall: SystemTime,
}

impl Now {
    /// Reads the clocks of this machine.
    pub fn read() -> Now {
        Now { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether a leader must take it that `duration` has passed since `from`. The clock that says more counts: the
    /// monotonic one stands still while the machine sleeps, and the other one may be set back.
    pub(super) fn is_after(self, duration: Duration, from: Now) -> bool {
        self.monotonic_since(from.monotonic) >= duration
            || self.wall.duration_since(from.wall).unwrap_or_default() >= duration
    }

    /// How long ago something was seen. A candidate that waits for another one counts by this clock alone: a wall clock that
    /// is set forward must not make the other one's Lease expire.
    pub(super) fn monotonic_since(self, from: Instant) -> Duration {
        self.monotonic.saturating_duration_since(from)
    }
}
