//! Trying again: later each time, never all at once, and said once.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::random::{Random, System};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// How long to wait before the next try after this many failures: 1 s, 2 s, 4 s and so on up to a minute, a quarter
/// more or less.
pub fn delay(failures: u32, random: &dyn Random) -> Duration {
    jittered(LONGEST.min(FIRST * 2u32.pow(failures.saturating_sub(1).min(10))), random)
}

/// The wish of a server (`Retry-After`), as far as it is reasonable.
pub fn wished(duration: Duration) -> Duration {
    duration.min(LONGEST_WISH)
}

/// The duration, a quarter more or less.
pub fn jittered(duration: Duration, random: &dyn Random) -> Duration {
    duration.mul_f64(0.75 + f64::from(random.byte()) / 512.0)
}

/// Tries until it works out, or so often, later each time. A failure is said once, as `say` has it, and again when it changes.
///
/// # Errors
/// The last failure.
pub fn until_answered<T, E: fmt::Display>(
    tries: Option<u32>,
    say: impl Fn(&E) -> String,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut failures = Repeating::default();
    loop {
        let error = match attempt() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (delay, new) = failures.failed(&error.to_string());
        if tries.is_some_and(|tries| failures.count() >= tries) {
            return Err(error);
        }
        if new {
            log::warn!("{}; trying again", say(&error));
        }
        thread::sleep(delay);
    }
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
        (delay(self.failures, &System), new)
    }

    /// How often it failed since it last worked.
    pub fn count(&self) -> u32 {
        self.failures
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
            let delay = delay(failures, &System).as_secs_f64();
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
