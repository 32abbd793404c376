//! A few threads for any number of connections, where the newest always finds its place: when all are taken, the oldest
//! goes. So clients that connect and say nothing never keep out one that asks.
//!
//! Whoever waits was accepted already: the kernel's own queue is short, and a connection that does not get into it comes
//! again only after a second.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Connections that wait for a place. Of more, the oldest is closed.
const LONGEST_QUEUE: usize = 128;

/// The places of one server.
pub(super) struct Places {
    number: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// The oldest first, as in `served`.
    waiting: VecDeque<(TcpStream, Instant)>,
    served: VecDeque<Arc<TcpStream>>,
}

/// A connection that has its place until this is dropped. It may be shut down at any time.
pub(super) struct Place<'a> {
    places: &'a Places,
    pub(super) stream: Arc<TcpStream>,
    /// When its time is over.
    pub(super) end: Instant,
}

impl Places {
    pub(super) fn new(number: usize) -> Places {
        Places { number, state: Mutex::default() }
    }

    /// Takes in a connection. Returns whether a thread more is to call [`Places::next`] until there is none.
    pub(super) fn offer(&self, stream: TcpStream, end: Instant) -> bool {
        let mut state = self.state();
        state.waiting.push_back((stream, end));
        if state.waiting.len() > LONGEST_QUEUE {
            state.waiting.pop_front();
        }
        if state.threads < self.number {
            state.threads += 1;
            return true;
        }
        state.shut_down_oldest();
        false
    }

    /// The next connection to be served by this thread. `None`: none waits, and the thread is to end.
    pub(super) fn next(&self) -> Option<Place<'_>> {
        let mut state = self.state();
        let Some((stream, end)) = state.waiting.pop_front() else {
            state.threads -= 1;
            return None;
        };
        let stream = Arc::new(stream);
        state.served.push_back(Arc::clone(&stream));
        if !state.waiting.is_empty() && state.threads == self.number {
            state.shut_down_oldest();
        }
        Some(Place { places: self, stream, end })
    }

    /// The thread that was asked for cannot be had.
    pub(super) fn no_thread(&self) {
        self.state().threads -= 1;
    }

    /// Ends the oldest connection, if there is one.
    pub(super) fn free_one(&self) {
        self.state().shut_down_oldest();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whoever serves it leaves at the next read or write, and serves who waits.
    fn shut_down_oldest(&self) {
        if let Some(oldest) = self.served.front() {
            let _ = oldest.shutdown(Shutdown::Both); // fails where the client has gone already
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.state().served.retain(|served| !Arc::ptr_eq(served, &self.stream));
    }
}
