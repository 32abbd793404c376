//! Elects one leader among several processes, by a Lease, as client-go does: its candidates and ours may be rivals.
//!
//! - [`Candidate`] takes part in an election: one call for each round. `examples/election.rs` is a whole program.
//! - [`Leadership`] tells every thread whether this process leads, at the moment when it asks.
//! - [`Election`] judges what a candidate is to do. It is a pure state machine: the clock is passed in, and so are the
//!   replies of the API server. It serves whoever sends requests in another way.
//!
//! ```text
//!            nobody holds the Lease, or its holder did not renew it for the lease duration
//!  following ─────────────────────────────────────────────────────────────────────────────► leading
//!            ◄─────────────────────────────────────────────────────────────────────────────
//!            not renewed for the renew deadline, or the Lease has another holder
//! ```
//!
//! # Why there are never two leaders
//!
//! A leader counts its deadline from the moment *before* it sent the renewal. Everybody else counts the lease duration,
//! which is longer, from the moment when they *saw* that renewal, by their own clock. Of two writes one fails, as each
//! names the version that it saw.
//!
//! The clocks of two machines are never compared, but they must not run at very different speeds. client-go has the same
//! limit.
//!
//! A leader that ceased to lead may have sent a request just before, and it may still arrive. So no request should take
//! longer than the lease duration less the renew deadline.
//!
//! A person may delete the Lease or erase its holder. Candidates that had seen the Lease leave it alone until the holder
//! must have noticed. A process that starts just then cannot know.
//!
//! # Seizing and retiring
//!
//! client-go has neither. They are for a process that puts an end to what leaders did. [`Candidate::seize`] takes the Lease
//! whoever holds it, and leads once that holder must have noticed. [`Candidate::retire`] ends the leadership so that no
//! candidate that waits for the Lease at that time ever gets it.
//!
//! # Example
//!
//! Two candidates, and a server that holds one Lease. No request is lost here, and nobody is faster than anybody else.
//!
//! ```
//! use std::time::Duration;
//! use kube_client_lite::lease::{Election, Lease, Move, Now, Timings, Write};
//!
//! fn round(election: &mut Election, server: &mut Option<Lease>, now: Now) {
//!     let mut next = election.first(now);
//!     if next == Move::Read {
//!         next = election.read(server.clone(), now);
//!     }
//!     if let Move::Write(Write::Create(lease) | Write::Replace(lease)) = next {
//!         *server = Some(lease.clone());
//!         election.wrote(lease, now, now);
//!     }
//! }
//!
//! let start = Now::read();
//! let at = |seconds| {
//!     let passed = Duration::from_secs(seconds);
//!     Now { monotonic: start.monotonic + passed, wall: start.wall + passed }
//! };
//! let timings = Timings::default(); // a lease of 15 s, a deadline of 10 s, a round every 2 s
//! let mut a = Election::new("example", "a", timings);
//! let mut b = Election::new("example", "b", timings);
//! let mut server = None;
//!
//! // The first one to come leads for as long as it renews the Lease.
//! for seconds in (0..=20).step_by(2) {
//!     round(&mut a, &mut server, at(seconds));
//!     round(&mut b, &mut server, at(seconds));
//!     assert!(a.is_leading(at(seconds)) && !b.is_leading(at(seconds)));
//! }
//!
//! // At 20 s it hangs. Its leadership ends by itself at 30 s; b takes the Lease in its first round after 35 s.
//! for seconds in (22..=36).step_by(2) {
//!     round(&mut b, &mut server, at(seconds));
//!     assert_eq!(a.is_leading(at(seconds)), seconds < 30);
//!     assert_eq!(b.is_leading(at(seconds)), seconds >= 35);
//! }
//!
//! // When it wakes up it finds that b leads. Once b gives the Lease up, it need not wait.
//! round(&mut a, &mut server, at(37));
//! assert!(!a.is_leading(at(37)));
//! let Some(Write::Replace(released)) = b.release(at(38)) else { panic!("b held it") };
//! assert_eq!(released.holder(), "");
//! server = Some(released);
//! round(&mut a, &mut server, at(39));
//! assert!(a.is_leading(at(39)) && !b.is_leading(at(39)));
//! ```

mod candidate;
mod clock;
mod election;
mod leadership;
mod record;
mod sight;
mod takeover;
#[cfg(test)]
mod tests;

pub use candidate::{Candidate, Standing};
pub use clock::Now;
pub use election::{Election, Move, Timings, Write};
pub use leadership::{Leadership, Permit};
pub use record::Lease;
