//! Health answers two questions: is this process alive, and is it of use (at work, or able to be)?
//!
//! Each thread that has to come back has a [`Pulse`] and promises when it will be back. A stuck thread breaks its promise,
//! and `/healthz` fails: the kubelet restarts the container. A slow Fly or an absent cluster does not break it, since
//! threads know how long their requests may take.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread may be so late. A node that swaps, or that was paused, is no reason to restart the container.
const GRACE: Duration = Duration::from_secs(30);

/// The health of a process.
pub struct Health {
    promises: Arc<Promises>,
    listed: AtomicBool,
    retired: AtomicBool,
}

/// A thread's sign of life. When it is dropped, the thread has ended and owes nothing any more.
pub struct Pulse {
    promises: Arc<Promises>,
    number: u64,
}

struct Promises {
    /// All times are counted from then.
    started: Instant,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    next_number: u64,
    by_number: BTreeMap<u64, Promise>,
}

/// A thread, and the time by which it will be back.
struct Promise {
    name: Cow<'static, str>,
    due: Duration,
}

/// A thread that did not come back.
#[derive(Debug, PartialEq, Eq)]
pub struct Overdue {
    pub name: String,
    /// The time since it was to be back.
    pub by: Duration,
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is overdue by {} s", self.name, self.by.as_secs())
    }
}

impl Health {
    /// The health of a process that just started.
    pub fn new() -> Health {
        let promises = Promises { started: Instant::now(), pending: Mutex::default() };
        Health { promises: Arc::new(promises), listed: AtomicBool::new(false), retired: AtomicBool::new(false) }
    }

    /// A pulse for a thread. People read this name when the thread is stuck. Until it promises something else, it is to be
    /// back at once.
    pub fn pulse(&self, name: impl Into<Cow<'static, str>>) -> Pulse {
        let due = self.promises.started.elapsed();
        let mut pending = self.promises.pending();
        let number = pending.next_number;
        pending.next_number += 1;
        pending.by_number.insert(number, Promise { name: name.into(), due });
        Pulse { promises: Arc::clone(&self.promises), number }
    }

    /// The threads that are more than [`GRACE`] late, the latest first.
    pub fn overdue(&self) -> Vec<Overdue> {
        overdue(self.promises.pending().by_number.values(), self.promises.started.elapsed())
    }

    /// The cluster has been listed.
    pub fn listed(&self) {
        self.listed.store(true, Ordering::Relaxed);
    }

    /// Notes whether this process may never lead: all tunnels were taken down (`--drain`), and it ran before that.
    pub fn retired(&self, retired: bool) {
        self.retired.store(retired, Ordering::Relaxed);
    }

    /// The reason why this process is of no use, if it is of none.
    pub fn unready(&self) -> Option<&'static str> {
        if self.retired.load(Ordering::Relaxed) {
            return Some(
                "all tunnels were taken down (--drain), and stay down: start this operator again to make them anew",
            );
        }
        (!self.listed.load(Ordering::Relaxed)).then_some("the cluster has not been listed yet")
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

impl Pulse {
    /// The thread is alive, and will say so again within this time.
    pub fn back_within(&self, time: Duration) {
        let due = self.promises.started.elapsed().saturating_add(time);
        if let Some(promise) = self.promises.pending().by_number.get_mut(&self.number) {
            promise.due = due;
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.promises.pending().by_number.remove(&self.number);
    }
}

impl Promises {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overdue<'a>(promises: impl Iterator<Item = &'a Promise>, now: Duration) -> Vec<Overdue> {
    let late = promises.filter(|promise| now > promise.due.saturating_add(GRACE));
    let mut overdue: Vec<Overdue> =
        late.map(|promise| Overdue { name: promise.name.clone().into_owned(), by: now - promise.due }).collect();
    overdue.sort_by(|a, b| b.by.cmp(&a.by).then_with(|| a.name.cmp(&b.name)));
    overdue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_late_by_more_than_the_grace_is_overdue() {
        for (promises, now, expected) in [
            (&[][..], 1000, &[][..]),
            (&[("poll", 0)], 30, &[]),
            (&[("poll", 0)], 31, &["poll is overdue by 31 s"]),
            (&[("poll", 100)], 31, &[]),
            (&[("poll", 100), ("loop", 900)], 131, &["poll is overdue by 31 s"]),
            (
                &[("poll", 100), ("loop", 60), ("a", 100)],
                200,
                &["loop is overdue by 140 s", "a is overdue by 100 s", "poll is overdue by 100 s"],
            ),
            (&[("never", u64::MAX)], u64::MAX, &[]),
        ] {
            let promises: Vec<Promise> = promises
                .iter()
                .map(|&(name, due)| Promise { name: name.into(), due: Duration::from_secs(due) })
                .collect();
            let overdue = overdue(promises.iter(), Duration::from_secs(now));
            let lines: Vec<String> = overdue.iter().map(Overdue::to_string).collect();
            assert_eq!(lines, expected, "at {now}");
        }
    }

    /// The health of a process that started so long ago.
    fn health(age: Duration) -> Health {
        let started = Instant::now().checked_sub(age).expect("this machine runs for longer");
        let promises = Arc::new(Promises { started, pending: Mutex::default() });
        Health { promises, ..Health::new() }
    }

    fn age(health: &mut Health, by: Duration) {
        let mut pending = health.promises.pending();
        for promise in pending.by_number.values_mut() {
            promise.due = promise.due.saturating_sub(by);
        }
    }

    #[test]
    fn a_promise_holds_until_the_next_and_goes_with_its_thread() {
        let mut health = health(Duration::from_secs(600));
        let (poll, pass) = (health.pulse("poll"), health.pulse(String::from("pass over default/web")));
        assert_eq!(health.overdue(), []);
        age(&mut health, Duration::from_secs(40));
        assert_eq!(
            health.overdue().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
            ["poll", "pass over default/web"]
        );
        poll.back_within(Duration::from_secs(5));
        assert_eq!(health.overdue().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["pass over default/web"]);
        drop(pass);
        assert_eq!(health.overdue(), []);
        poll.back_within(Duration::MAX);
        age(&mut health, Duration::from_secs(500));
        assert_eq!(health.overdue(), []);
    }

    #[test]
    fn it_is_ready_when_told() {
        let health = Health::new();
        assert_eq!(health.unready(), Some("the cluster has not been listed yet"));
        health.listed();
        assert_eq!(health.unready(), None);
        health.retired(true);
        assert!(health.unready().is_some_and(|why| why.contains("--drain")));
        health.retired(false);
        assert_eq!(health.unready(), None);
    }
}
