//! The log of all requests, in the order in which they arrived.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The backend that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Fly,
    Kubernetes,
}

/// One request. Headers are left out on purpose: they carry the token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    pub to: Target,
    /// The client that it came from, or empty if that is not known: see [`super::Recorder::before_fly`].
    #[serde(skip)]
    pub from: String,
    /// Whether a fault struck it.
    #[serde(skip)]
    pub struck: bool,
    /// The time at which it had arrived, in RFC 3339 with microseconds.
    pub time: String,
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The status of the answer. It is `None` while the request is under way, and stays so if the connection was closed
    /// instead.
    pub status: Option<u16>,
    pub body: String,
    pub user_agent: String,
}

/// A log that can be waited on.
#[derive(Default)]
pub(super) struct Log {
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
}

impl Log {
    /// Adds a request; returns its number.
    pub(super) fn add(&self, request: Request) -> usize {
        let mut requests = self.requests.lock().expect("no one panics while holding it");
        requests.push(request);
        self.changed.notify_all();
        requests.len() - 1
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        self.requests.lock().expect("no one panics while holding it")[number].status = Some(status);
        self.changed.notify_all();
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.requests.lock().expect("no one panics while holding it").clone()
    }

    /// Waits until `found` finds something; `None` after `deadline`.
    pub(super) fn wait<T>(&self, deadline: Duration, mut found: impl FnMut(&[Request]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut requests = self.requests.lock().expect("no one panics while holding it");
        loop {
            if let Some(found) = found(&requests) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            requests = self.changed.wait_timeout(requests, left).expect("no one panics while holding it").0;
        }
    }
}
