//! Events are written beside the work, one after the other, by a thread of their own: one that cannot be written, or
//! takes its time, holds up nobody. Best effort, so none is tried twice: a namespace that is being deleted refuses them
//! all.

pub mod limits;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::lease::Permit;
use kube_client_lite::{EventType, ObjectReference};

use crate::cluster::error::ErrorKind;
use crate::cluster::{Cluster, NewEvent};
use crate::service::Service;
use limits::Limits;

/// So many may wait. A thousand Services that are made at once have two each, and some of these are written meanwhile.
const MOST_WAITING: usize = 1_000;

/// Those that wait when the process is to end are given so long.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// The way to the thread that writes them. It ends when this is dropped.
pub struct Events {
    queue: SyncSender<Message>,
}

/// Events that nobody writes.
#[cfg(test)]
pub struct Counted(Receiver<Message>);

#[cfg(test)]
impl Counted {
    /// Those that were to be written since the last call.
    pub fn take(&self) -> impl Iterator<Item = NewEvent> {
        self.0.try_iter().filter_map(|message| match message {
            Message::Write(event, _) => Some(event),
            Message::Reached(_) => None,
        })
    }
}

enum Message {
    Write(NewEvent, Permit),
    /// Answers once all that came before are done with.
    Reached(SyncSender<()>),
}

impl Events {
    /// Starts the thread.
    pub fn new(cluster: Arc<dyn Cluster>) -> Events {
        let (queue, messages) = mpsc::sync_channel(MOST_WAITING);
        thread::spawn(move || write(&*cluster, &messages));
        Events { queue }
    }

    /// Nobody writes them, and they are counted.
    #[cfg(test)]
    pub fn counted() -> (Events, Counted) {
        let (queue, messages) = mpsc::sync_channel(MOST_WAITING);
        (Events { queue }, Counted(messages))
    }

    /// Writes one soon, if the permit still holds then.
    pub fn post(&self, service: &Service, kind: EventType, reason: &'static str, message: &str, permit: &Permit) {
        let about = ObjectReference::new("v1", "Service", &service.metadata);
        self.write(NewEvent { about, kind, reason, message: message.to_owned() }, permit);
    }

    /// Writes this one soon, if the permit still holds then.
    pub fn write(&self, event: NewEvent, permit: &Permit) {
        if self.queue.try_send(Message::Write(event, permit.clone())).is_err() {
            log::debug!("an event was not written: too many wait");
        }
    }

    /// Waits until those so far are written, but not for long.
    pub fn finish(&self) {
        let (reached, wait) = mpsc::sync_channel(1);
        if self.queue.try_send(Message::Reached(reached)).is_ok() {
            let _ = wait.recv_timeout(LAST_EVENTS); // those that are left are lost
        }
    }
}

fn write(cluster: &dyn Cluster, messages: &Receiver<Message>) {
    let (mut said, mut limits, started) = (false, Limits::default(), Instant::now());
    for message in messages {
        match message {
            Message::Write(_, permit) if !permit.holds() => {}
            Message::Write(event, _) if !limits.admit(&event, started.elapsed()) => {
                log::debug!("an event is left out, to keep their number small: {}: {}", event.reason, event.message);
            }
            Message::Write(event, _) => match cluster.create_event(&event) {
                Err(error) if error.kind == ErrorKind::Forbidden && !said => {
                    said = true;
                    log::warn!("events cannot be written: {error}; give the operator that right");
                }
                Err(error) => log::debug!("an event was not written: {error}"),
                Ok(()) => {}
            },
            Message::Reached(reached) => {
                let _ = reached.send(()); // the one who waited may have gone
            }
        }
    }
}
