//! Trying again: later each time, never all at once, and said once.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// How long to wait before the next try after this many failures: 1 s, 2 s, 4 s and so on up to a minute, a quarter
/// more or less.
pub fn delay(failures: u32) -> Duration {
    jittered(LONGEST.min(FIRST * 2u32.pow(failures.saturating_sub(1).min(10))))
}

/// What a server wishes (`Retry-After`), as far as it is reasonable.
pub fn wished(duration: Duration) -> Duration {
    duration.min(LONGEST_WISH)
}

/// The duration, a quarter more or less.
pub fn jittered(duration: Duration) -> Duration {
    let mut random = [128];
    let _ = SystemRandom::new().fill(&mut random); // without randomness: no jitter
    duration.mul_f64(0.75 + f64::from(random[0]) / 512.0)
}

/// A failure that repeats, to be logged once and again when it changes.
#[derive(Default)]
pub struct Repeating {
    failures: u32,
    last: String,
}

impl Repeating {
    /// Takes note of a failure. Returns how long to wait, and whether it is another one than before.
    pub fn failed(&mut self, message: &str) -> (Duration, bool) {
        self.failures += 1;
        let new = self.last != message;
        if new {
            message.clone_into(&mut self.last);
        }
        (delay(self.failures), new)
    }

    /// How often it failed since it last worked.
    pub fn count(&self) -> u32 {
        self.failures
    }

    /// The last failure; empty if there was none.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Takes note of a success. Returns whether it is the first after a failure.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (1000, 60.0)] {
            let delay = delay(failures).as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&delay), "{failures}: {delay}");
        }
    }

    #[test]
    fn wishes_are_granted_within_reason() {
        assert_eq!(wished(Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(wished(Duration::MAX), LONGEST_WISH);
    }

    #[test]
    fn a_failure_is_said_once_and_again_when_it_changes() {
        let mut repeating = Repeating::default();
        assert!(!repeating.succeeded());
        assert!(repeating.failed("down").1);
        assert!(!repeating.failed("down").1);
        assert!(repeating.failed("still down, otherwise").1);
        assert!(repeating.succeeded());
        assert!(repeating.failed("down").1);
    }
}
