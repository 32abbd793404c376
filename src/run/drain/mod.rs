//! `--drain`: takes down every tunnel of this owner, before an uninstall.
//!
//! The way down of one tunnel is `tunnel/plan/drain.rs`; `check.rs` judges whether all of it may begin, and this file whether it came
//! to its end.

mod check;
mod found;

use std::thread;
use std::time::Duration;

use super::process::{Exit, Process};
use crate::backoff::until_answered;
use crate::cluster::LoadBalancers;
use crate::cluster::find::NotBegun;
use crate::goal::{Goal, TRIES, made_again};
use crate::leader::Leave;
use crate::tunnel::failure::Failure;
use crate::tunnel::names::Owner;
use crate::world::World;
use check::check;
use found::Found;

/// The last words of a drain that did not come to its end, once it has the Lease.
const UNFINISHED: &str = "what is left is billed until a drain comes to its end; meanwhile an operator that still runs leads again once \
                         the Lease has expired, and makes again what is down";

/// Looks first, then takes the Lease by force, waits until whoever led must have stopped, and takes everything down. Where all
/// is down the Lease is kept for good from all operators that run now; where something is left, it expires by itself.
///
/// # Errors
/// It was not begun, or something is left.
pub fn drain(mut process: Process) -> Result<(), Exit> {
    check(&process.world, TRIES)?;
    if let Some(elector) = &mut process.elector {
        elector.seize(TRIES)?;
    }
    let election = process.start_election();
    let found = find(&process.world, TRIES).map_err(|NotBegun(why)| Exit::work([why, UNFINISHED.into()]))?;
    let left: Vec<String> = found.left().collect();
    let tunnels = found.tunnels;
    let (world, poll_interval) = (process.world.clone(), process.pace.poll_interval);
    let mut failures = process.work(Goal::drain(&world.namespace), found.orphans).failures;
    failures.extend(left);
    if failures.is_empty() {
        let kept = election.end(Leave::Retire);
        failures.extend(verdict(&world, tunnels, kept, poll_interval).err());
    } else {
        election.end(Leave::Expire);
        failures.push(UNFINISHED.into());
    }
    Exit::unless_empty(failures)
}

impl Found {
    /// Things that only a person can do.
    fn left(&self) -> impl Iterator<Item = String> {
        self.unnamed.iter().map(|app| {
            format!("the Fly App {app} is this owner's, and its name does not tell of which Service: `fly apps destroy {app}`")
        })
    }
}

/// Finds out what there is to take down.
///
/// # Errors
/// Fly or the cluster cannot be asked, as often as `tries` says.
fn find(world: &World, tries: u32) -> Result<Found, NotBegun> {
    until_answered(Some(tries), Failure::to_string, || found::look(world))
        .map_err(|failure| NotBegun(format!("what there is to take down cannot be found out: {failure}")))
}

/// Judges a drain that took everything down. It is in vain where the Lease is not kept from other operators (`kept`), or where
/// one that does not know of the Lease makes tunnels again. That is looked for twice, a `poll_interval` apart. `tunnels` is how many
/// there were: whoever mistook the class or the cluster must not believe that theirs are down.
fn verdict(world: &World, tunnels: usize, kept: bool, poll_interval: Duration) -> Result<(), String> {
    if !kept {
        return Err("every tunnel was taken down, but the Lease could not be kept: an operator that still runs makes them again. End all operators, \
                    and drain again".into());
    }
    for _ in 0..2 {
        thread::sleep(poll_interval);
        let LoadBalancers { services, .. } = world.cluster.load_balancers().map_err(|error| {
            format!("every tunnel is down; whether no operator makes them again cannot be seen: {error}")
        })?;
        let mut tunnels = services.iter().filter_map(|service| world.tunnel(service));
        // The Go operator's stay.
        if let Some(again) = tunnels.find(|tunnel| tunnel.legacy().is_none()) {
            return Err(made_again(&again.id, &world.namespace));
        }
    }
    let Owner { cluster_name, class } = &world.owner;
    let of = format!("tunnel of the class {class} in the cluster {cluster_name}");
    if tunnels == 0 {
        log::info!("there was no {of}, and nothing was taken down; no operator that runs now makes one");
    } else {
        log::info!("every {of} is down; no operator that runs now makes them again");
    }
    Ok(())
}
