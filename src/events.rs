//! Events are written beside the work, one after the other, by a thread of their own: one that cannot be written, or
//! takes its time, holds up nobody. Best effort, so none is tried twice: a namespace that is being deleted refuses them
//! all.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::Permit;
use kube_client_lite::{Client, Event, EventType, ObjectReference};

use crate::service::Service;

/// Who says so.
const COMPONENT: &str = "fly-tunnel-operator";

/// How many may wait. A thousand Services that are made at once have two each, and some of these are written meanwhile.
const MOST_WAITING: usize = 1_000;

/// What those that wait are given when the process is to end.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// The way to the thread that writes them. It ends when this is dropped.
pub struct Events {
    queue: SyncSender<Message>,
}

enum Message {
    Write {
        about: ObjectReference,
        kind: EventType,
        reason: &'static str,
        message: String,
        permit: Permit,
    },
    /// All that came before are done with.
    Reached(SyncSender<()>),
}

impl Events {
    /// Starts the thread.
    pub fn new(kube: Client) -> Events {
        let (queue, messages) = mpsc::sync_channel(MOST_WAITING);
        thread::spawn(move || write(&kube, &messages));
        Events { queue }
    }

    /// Writes one soon, if the permit still holds then.
    pub fn post(&self, service: &Service, kind: EventType, reason: &'static str, message: &str, permit: &Permit) {
        let about = ObjectReference::new("v1", "Service", &service.metadata);
        let message = Message::Write { about, kind, reason, message: message.to_owned(), permit: permit.clone() };
        if self.queue.try_send(message).is_err() {
            log::debug!("an event was not written: too many wait");
        }
    }

    /// Waits until those so far are written, but not for long.
    pub fn finish(&self) {
        let (reached, wait) = mpsc::sync_channel(1);
        if self.queue.try_send(Message::Reached(reached)).is_ok() {
            let _ = wait.recv_timeout(LAST_EVENTS); // what is left is lost
        }
    }
}

fn write(kube: &Client, messages: &Receiver<Message>) {
    let mut said = false;
    for message in messages {
        match message {
            Message::Write { permit, .. } if !permit.holds() => {}
            Message::Write { about, kind, reason, message, .. } => {
                let event =
                    Event { involved_object: &about, r#type: kind, reason, message: &message, component: COMPONENT };
                match kube.create_event(&event) {
                    // Not where the namespace is going, which forbids them too.
                    Err(error) if error.to_string().contains("cannot create resource") && !said => {
                        said = true;
                        log::warn!("events cannot be written: {error}; give the operator that right");
                    }
                    Err(error) => log::debug!("an event was not written: {error}"),
                    Ok(()) => {}
                }
            }
            Message::Reached(reached) => drop(reached.send(())), // who waited may have gone
        }
    }
}
