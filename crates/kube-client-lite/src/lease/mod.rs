//! One leader among several processes, by a Lease, as client-go elects one: its candidates and ours may be rivals.
//!
//! - [`Election`] is the judgement: a pure state machine, with the clock passed in.
//! - [`Candidate`] sends what the election wants to send.
//! - [`Leadership`] tells every thread whether this process leads, at the moment that it asks.
//!
//! ```text
//!            nobody holds it, or its holder did not renew it for the lease's duration
//!  following ─────────────────────────────────────────────────────────────────────────► leading
//!            ◄─────────────────────────────────────────────────────────────────────────
//!            not renewed for the renew deadline, or the Lease has another holder
//! ```
//!
//! Never two leaders: a leader counts its deadline from the moment *before* it sent what renewed the Lease; everybody
//! else counts the (longer) lease duration from the moment when they *saw* that renewal, by their own clock. Two writes
//! cannot both win, as each names the version that it saw. Clocks of two machines are never compared; they only must not run at
//! very different speeds (client-go has the same limits). A Lease that a person deletes or empties is given to nobody else
//! until its holder must have noticed, by all who had seen it; a process that starts just then cannot know. What a leader had sent
//! before it stopped leading may still arrive: no request should outlast the lease duration less the renew deadline.
//!
//! Two things are ours alone, for a process that puts an end to what leaders did ([`Candidate::seize`],
//! [`Candidate::retire`]): it takes the Lease whoever holds it, leads once that holder must have noticed, and keeps the Lease for good
//! from all who wait for it then.
//!
//! ```no_run
//! use std::time::Duration;
//! use kube_client_lite::lease::{Candidate, Timings};
//! # use kube_client_lite::{Client, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::new(Config::load(None, None)?, "example/0.1")?;
//! let timings = Timings::default();
//! let mut candidate = Candidate::new(client.with_timeout(Duration::from_secs(5)), "default", "example", "pod-1", timings);
//! let leadership = candidate.leadership();
//! std::thread::spawn(move || loop {
//!     if let Err(error) = candidate.round() {
//!         eprintln!("{error}"); // the term lasts until the renew deadline all the same
//!     }
//!     std::thread::sleep(timings.retry_period);
//! });
//! loop {
//!     if let Some(permit) = leadership.wait(Duration::from_secs(60)) {
//!         while permit.holds() { /* one step, then ask again */ }
//!     }
//! }
//! # }
//! ```

mod candidate;
mod election;
mod leadership;
mod record;
#[cfg(test)]
mod tests;

pub use candidate::{Candidate, Standing};
pub use election::{Election, Move, Now, Timings, Write};
pub use leadership::{Leadership, Permit};
pub use record::Lease;
