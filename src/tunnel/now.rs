//! The time, as a plan is told of it.

use std::time::{Duration, SystemTime};

/// The clocks, passed in so that a plan is pure.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started: never jumps.
    pub monotonic: Duration,
    /// Compared only with times that were written for everybody to read.
    pub wall: SystemTime,
}

impl Now {
    /// How long ago that was.
    pub fn since(self, then: Duration) -> Duration {
        self.monotonic.saturating_sub(then)
    }
}
