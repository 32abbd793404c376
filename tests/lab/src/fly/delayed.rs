//! A value as somebody far away knows it: as it was some time ago.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A boolean with its recent past.
#[derive(Default)]
pub(crate) struct Delayed {
    /// The values and since when they hold, oldest first. Two neighbours always differ.
    history: VecDeque<(Instant, bool)>,
}

/// How long the past is remembered. It is longer than any delay that an edge is given.
const MEMORY: Duration = Duration::from_secs(300);

impl Delayed {
    /// Sets the value from `now` on.
    pub(crate) fn set(&mut self, now: Instant, value: bool) {
        if self.current() != value {
            self.history.push_back((now, value));
        }
        while self.history.get(1).is_some_and(|(since, _)| now.duration_since(*since) > MEMORY) {
            self.history.pop_front();
        }
    }

    /// The value now.
    pub(crate) fn current(&self) -> bool {
        self.history.back().is_some_and(|(_, value)| *value)
    }

    /// The value as it was `delay` before `now`; `false` for a time before it was first set.
    pub(crate) fn as_of(&self, now: Instant, delay: Duration) -> bool {
        let known = |since: &Instant| now.duration_since(*since) >= delay;
        self.history.iter().rev().find(|(since, _)| known(since)).is_some_and(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_seen_and_not_the_present() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut value = Delayed::default();
        value.set(start, true);
        value.set(start + second, false);
        assert!(!value.as_of(start, second));
        assert!(value.as_of(start + second, second));
        assert!(!value.as_of(start + second, Duration::ZERO));
        assert!(!value.as_of(start + 2 * second, second));
    }
}
