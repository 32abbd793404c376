//! The Machines of an App, sorted by whose they are, and whether ours do their work.

use super::observed::{Machine, Observed, Ours, State};

/// The Machines of the App that exist, by whose they are.
pub struct Machines<'a> {
    pub ours: Vec<LaneMachine<'a>>,
    pub strangers: Vec<&'a Machine>,
}

/// A Machine of ours that exists, and whether it does its work.
#[derive(Clone, Copy)]
pub struct LaneMachine<'a> {
    pub machine: &'a Machine,
    pub ours: &'a Ours,
    /// Users who reach this Machine reach the backend: it runs, and Fly's check passes on each port of the Service.
    /// Without checks: it runs, and its frpc is available.
    pub serves: bool,
}

impl Machines<'_> {
    /// Whether users are served; `None` where Fly checks nothing and the cluster did not tell.
    pub fn users_served(&self, seen: &Observed) -> Option<bool> {
        let is_known = seen.objects.is_some() || self.ours.iter().all(|lane| lane.machine.is_checked());
        is_known.then(|| self.ours.iter().any(LaneMachine::takes_users))
    }
}

impl LaneMachine<'_> {
    /// Whether users who come now are served by it.
    pub fn takes_users(&self) -> bool {
        self.serves && !self.machine.cordoned
    }

    /// Whether it runs, and no traffic passes through it.
    pub fn is_unreached(&self) -> bool {
        !self.serves && !self.machine.cordoned && self.machine.state == State::Started && self.machine.host_ok
    }

    /// Whether users may have connections through it. Without a passing check no frpc is connected, and nobody has.
    pub fn may_have_connections(&self) -> bool {
        let reached = !self.machine.is_checked() || !self.machine.passing.is_empty();
        self.machine.state == State::Started && self.machine.host_ok && reached
    }
}

/// Sorts the Machines that were seen.
pub fn machines(seen: &Observed) -> Machines<'_> {
    let mut machines = Machines { ours: Vec::new(), strangers: Vec::new() };
    let existing = seen.our_app().into_iter().flat_map(|app| &app.machines).filter(|machine| machine.exists());
    for machine in existing {
        match &machine.ours {
            Some(ours) => machines.ours.push(LaneMachine { machine, ours, serves: serves(machine, seen) }),
            None => machines.strangers.push(machine),
        }
    }
    machines
}

fn serves(machine: &Machine, seen: &Observed) -> bool {
    let reached = if machine.is_checked() {
        machine.user_ports().all(|port| machine.passing.contains(&port)) && machine.probe_passes != Some(false)
    } else {
        seen.deployment(&machine.id).is_some_and(|deployment| deployment.available)
    };
    let exposed = machine.user_ports().next().is_some();
    machine.state == State::Started && machine.host_ok && exposed && reached
}
