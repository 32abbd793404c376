//! A few places for any number of connections: when all are taken, the newest takes that of the oldest. So clients that
//! connect and say nothing never keep out one that asks.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at once. Each has a thread for as long as it lasts.
pub(super) const PLACES: usize = 16;

/// The connections that have a place, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<VecDeque<Arc<TcpStream>>>>);

/// The place of a connection, until this is dropped. The connection may be shut down at any time.
pub(super) struct Place {
    places: Places,
    pub(super) stream: Arc<TcpStream>,
}

impl Places {
    /// Gives a place to a connection.
    pub(super) fn take(&self, stream: TcpStream) -> Place {
        if self.locked().len() >= PLACES {
            self.free_oldest();
        }
        let stream = Arc::new(stream);
        self.locked().push_back(Arc::clone(&stream));
        Place { places: self.clone(), stream }
    }

    /// Ends the oldest connection, if there is one. Its thread leaves at the next read or write.
    pub(super) fn free_oldest(&self) {
        if let Some(oldest) = self.locked().pop_front() {
            let _ = oldest.shutdown(Shutdown::Both); // fails where the client has gone already
        }
    }

    /// Whether as many threads as there are places have lost theirs, and have not left yet.
    pub(super) fn are_crowded(&self) -> bool {
        // Each place refers to this, and so does the thread that accepts.
        Arc::strong_count(&self.0) > 2 * PLACES
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.locked().retain(|stream| !Arc::ptr_eq(stream, &self.stream));
    }
}
