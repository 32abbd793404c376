//! Rate limits. There is a bucket of tokens for each pair of an action and the Machine or App that it is done to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How fast one kind of request may come.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    /// How many tokens come back in a second.
    per_second: f64,
    /// How many tokens a rested bucket holds.
    burst: f64,
}

/// The rate of most actions: "1 request per second, per action, per identifier, with a burst of 3" (Fly docs, working
/// with the Machines API).
pub(crate) const ACTION: Rate = Rate { per_second: 1.0, burst: 3.0 };
/// The rate of reading a Machine: "Get Machine: 5 per second, burst of 10" (ibid.).
pub(crate) const GET_MACHINE: Rate = Rate { per_second: 5.0, burst: 10.0 };
/// The rate of deleting Apps, which counts for an organisation: "App deletions: 100 per minute" (ibid.).
pub(crate) const DELETE_APP: Rate = Rate { per_second: 100.0 / 60.0, burst: 100.0 };

/// The buckets of one Fly.
#[derive(Default)]
pub(crate) struct Limits {
    buckets: HashMap<(String, String), Bucket>,
}

struct Bucket {
    tokens: f64,
    refilled: Instant,
}

impl Limits {
    /// Takes a token for `action` on `identifier`; `false` when there is none left.
    pub(crate) fn take(&mut self, action: &str, identifier: &str, rate: Rate, now: Instant) -> bool {
        self.forget_rested(now);
        let bucket = self
            .buckets
            .entry((action.to_owned(), identifier.to_owned()))
            .or_insert(Bucket { tokens: rate.burst, refilled: now });
        let elapsed = now.duration_since(bucket.refilled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate.per_second).min(rate.burst);
        bucket.refilled = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Drops buckets that were not used for longer than they take to fill: they are like new ones.
    fn forget_rested(&mut self, now: Instant) {
        if self.buckets.len() >= 10_000 {
            self.buckets.retain(|_, bucket| now.duration_since(bucket.refilled) < Duration::from_secs(60));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_three_then_one_a_second() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        let mut ask = |machine: &str, after| limits.take("stop", machine, ACTION, start + Duration::from_millis(after));
        assert!(ask("a", 0) && ask("a", 0) && ask("a", 0));
        assert!(!ask("a", 500));
        assert!(ask("b", 500), "another Machine has a bucket of its own");
        assert!(ask("a", 1100) && !ask("a", 1200));
    }
}
