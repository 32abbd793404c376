//! To serve: until the process is told to end, or until nothing is left to do.

use super::process::{Exit, Process};
use crate::goal::{Goal, TRIES};
use crate::leader::Leave;

/// Serves until it is told to end.
///
/// # Errors
/// There are none as yet.
pub fn serve(process: Process) -> Result<(), Exit> {
    work(process, Goal::Serve)
}

/// Leads first, and then serves until nothing is left to do or to wait for.
///
/// # Errors
/// Another operator leads, a tunnel failed or a Service was refused.
pub fn once(mut process: Process) -> Result<(), Exit> {
    if let Some(elector) = &mut process.elector {
        elector.win(TRIES)?;
    }
    work(process, Goal::once())
}

fn work(mut process: Process, goal: Goal) -> Result<(), Exit> {
    let election = process.start_election();
    let end = process.work(goal, Vec::new());
    // The reply to a request that is under way must not meet a second leader.
    let leave = if end.quiet { Leave::Release } else { Leave::Expire };
    election.end(leave);
    Exit::unless_empty(end.failures)
}
