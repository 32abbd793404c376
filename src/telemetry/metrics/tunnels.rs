//! What is told of tunnels. A thousand of them are to fit beside everything else, so of each only a few dozen bytes are
//! kept, and text is made when somebody asks.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::telemetry::cost::{self, Cents};
use crate::tunnel::observed::{App, Observed};
use crate::tunnel::plan::Reason;
use crate::tunnel::{Tunnel, TunnelId, Wanted};

/// How a tunnel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelState {
    /// What its Service shows.
    pub reason: Reason,
    /// What it has at Fly; `None`: Fly was not looked at, and it has what it had.
    pub holdings: Option<Holdings>,
}

/// What a tunnel has at Fly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub lanes: Lanes,
    /// An estimate, for a month.
    pub cost: Cents,
}

/// Numbers of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Users who reach them reach the backend.
    pub serving: u8,
    /// They take no new connections: they are being replaced, or their door is closed.
    pub cordoned: u8,
    /// On their way, or broken.
    pub unready: u8,
}

impl TunnelState {
    /// How the tunnel is doing, as far as it was looked at.
    pub fn of(tunnel: &Tunnel, seen: &Observed) -> TunnelState {
        let shown = seen.service.as_ref().and_then(|service| service.condition());
        let reason = shown.and_then(|condition| Reason::named(&condition.reason));
        // Nothing is shown yet, or nobody is there any more to show it.
        let reason = reason.unwrap_or(match (&tunnel.wanted, &seen.service) {
            (Wanted::Removed | Wanted::Drained, _) | (_, None) => Reason::Deleting,
            (Wanted::Served(_) | Wanted::Refused { .. }, Some(_)) => Reason::Provisioning,
        });
        TunnelState { reason, holdings: holdings(seen) }
    }
}

fn holdings(seen: &Observed) -> Option<Holdings> {
    let app = match seen.app.as_ref()? {
        App::Ours(app) => app,
        App::Absent | App::Foreign(_) => return Some(Holdings::default()),
    };
    let mut holdings = Holdings { lanes: Lanes::default(), cost: cost::addresses(&app.addresses) };
    for machine in app.machines.iter().filter(|machine| machine.exists()) {
        holdings.cost += cost::machine(machine);
        let lanes = &mut holdings.lanes;
        let count = match () {
            () if machine.ours.is_none() => continue,
            () if machine.cordoned => &mut lanes.cordoned,
            () if seen.serves(machine) => &mut lanes.serving,
            () => &mut lanes.unready,
        };
        *count = count.saturating_add(1);
    }
    Some(holdings)
}

/// All tunnels that this process leads.
#[derive(Default)]
pub(super) struct Tunnels {
    /// By `namespace/name`.
    known: BTreeMap<Box<str>, Known>,
    leading: bool,
    transitions: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) reason: Reason,
    pub(super) holdings: Holdings,
}

/// What all tunnels together are.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) leading: bool,
    pub(super) transitions: u64,
    pub(super) by_reason: [u32; Reason::ALL.len()],
    pub(super) serving: u32,
    pub(super) cordoned: u32,
    pub(super) unready: u32,
}

impl Tunnels {
    /// Nothing is told of tunnels that another replica leads.
    pub(super) fn lead(&mut self, leading: bool) {
        if self.leading != leading {
            self.leading = leading;
            self.transitions += 1;
        }
        if !leading {
            self.known.clear();
        }
    }

    pub(super) fn note(&mut self, id: &TunnelId, state: TunnelState) {
        if !self.leading {
            return; // the end of a pass that began before
        }
        let key = key(id);
        let TunnelState { reason, holdings } = state;
        match self.known.get_mut(&key) {
            Some(known) => *known = Known { reason, holdings: holdings.unwrap_or(known.holdings) },
            None => drop(self.known.insert(key, Known { reason, holdings: holdings.unwrap_or_default() })),
        }
    }

    pub(super) fn gone(&mut self, id: &TunnelId) {
        self.known.remove(&key(id));
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals { leading: self.leading, transitions: self.transitions, ..Totals::default() };
        for Known { reason, holdings } in self.known.values() {
            totals.by_reason[*reason as usize] += 1;
            totals.serving += u32::from(holdings.lanes.serving);
            totals.cordoned += u32::from(holdings.lanes.cordoned);
            totals.unready += u32::from(holdings.lanes.unready);
        }
        totals
    }

    /// At most `number` tunnels after that key, in order.
    pub(super) fn after(&self, key: Option<&str>, number: usize) -> Vec<(Box<str>, Known)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.known.range::<str, _>((from, Bound::Unbounded)).take(number);
        page.map(|(key, known)| (key.clone(), *known)).collect()
    }
}

fn key(id: &TunnelId) -> Box<str> {
    id.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_client_lite::Condition;

    use crate::service::machine_size::MachineSize;
    use crate::service::{CONDITION, Service};
    use crate::tunnel::desired;
    use crate::tunnel::names::Owner;
    use crate::tunnel::observed::{Address, Machine, OurApp, Ours, State};

    fn removed(name: &str) -> Tunnel {
        let owner = Owner { cluster_name: "home".into(), class: "a/lb".into() };
        desired::removed(id(name), &owner)
    }

    fn id(name: &str) -> TunnelId {
        TunnelId { namespace: "default".into(), name: name.into() }
    }

    fn refused() -> Tunnel {
        Tunnel { wanted: Wanted::Refused { message: "no".into(), close: false }, ..removed("web") }
    }

    fn service(reason: Option<&str>) -> Service {
        let mut service = Service::default();
        service.status.conditions = reason
            .map(|reason| Condition { r#type: CONDITION.into(), reason: reason.into(), ..Condition::default() })
            .into_iter()
            .collect();
        service
    }

    #[test]
    fn the_reason_is_what_the_service_shows() {
        for (tunnel, service, expected) in [
            (refused(), Some(service(Some("Serving"))), Reason::Serving),
            (refused(), Some(service(Some("FlyCapacity"))), Reason::FlyCapacity),
            (refused(), Some(service(Some("SomebodyElses"))), Reason::Provisioning),
            (refused(), Some(service(None)), Reason::Provisioning),
            (removed("web"), Some(service(Some("LegacyTunnel"))), Reason::LegacyTunnel),
            (removed("web"), Some(service(None)), Reason::Deleting),
            (removed("web"), None, Reason::Deleting),
        ] {
            let seen = Observed { service: service.map(Box::new), ..Observed::default() };
            let state = TunnelState::of(&tunnel, &seen);
            assert_eq!(state, TunnelState { reason: expected, holdings: None }, "{seen:?}");
        }
    }

    fn machine(id: &str, state: State) -> Machine {
        Machine {
            id: id.into(),
            name: String::new(),
            state,
            host_ok: true,
            cordoned: false,
            created_at: String::new(),
            ours: Some(Ours { generation: "a".into(), lane: 0, control_port: 7000, draining_since: None }),
            size: MachineSize::parse("shared-cpu-2x").ok(),
            ports: vec![443, 7000],
            checked: true,
            passing: vec![443],
        }
    }

    #[test]
    fn lanes_and_costs_are_those_that_exist_at_fly() {
        let address =
            |ip: &str, dedicated| Address { ip: ip.parse().expect("an address"), dedicated, created_at: String::new() };
        let app = OurApp {
            addresses: vec![address("192.0.2.1", true), address("2001:db8::1", false)],
            machines: vec![
                machine("serves", State::Started),
                Machine { passing: vec![], ..machine("starts", State::Pending) },
                Machine { cordoned: true, ..machine("drains", State::Started) },
                Machine { ours: None, ..machine("strange", State::Started) },
                machine("failed", State::Failed),
                machine("gone", State::Gone),
            ],
        };
        let seen = |app| Observed { app: Some(app), ..Observed::default() };
        let lanes = Lanes { serving: 1, cordoned: 1, unready: 2 };
        // $2 for the address, four times $4.04 for what runs or is about to.
        assert_eq!(holdings(&seen(App::Ours(app))), Some(Holdings { lanes, cost: 200 + 4 * 404 }));
        assert_eq!(holdings(&seen(App::Absent)), Some(Holdings::default()));
        assert_eq!(holdings(&seen(App::Foreign("theirs".into()))), Some(Holdings::default()));
    }

    #[test]
    fn a_failed_look_takes_nothing_away_and_a_standby_knows_nothing() {
        let mut tunnels = Tunnels::default();
        let held = Holdings { lanes: Lanes { serving: 2, ..Lanes::default() }, cost: 604 };
        let serving = TunnelState { reason: Reason::Serving, holdings: Some(held) };
        tunnels.note(&id("web"), serving);
        assert_eq!(tunnels.after(None, 9).len(), 0, "it does not lead");

        tunnels.lead(true);
        tunnels.note(&id("web"), serving);
        tunnels.note(&id("web"), TunnelState { reason: Reason::FlyUnavailable, holdings: None });
        let totals = tunnels.totals();
        assert_eq!((totals.serving, totals.by_reason[Reason::FlyUnavailable as usize]), (2, 1));
        assert_eq!(totals.by_reason.iter().sum::<u32>(), 1);

        tunnels.lead(true);
        tunnels.lead(false);
        tunnels.lead(false);
        let totals = tunnels.totals();
        assert_eq!((totals.serving, totals.leading, totals.transitions), (0, false, 2));
    }

    #[test]
    fn pages_show_each_tunnel_once_and_in_order() {
        let mut tunnels = Tunnels::default();
        tunnels.lead(true);
        for number in 0..10 {
            let state = TunnelState { reason: Reason::Serving, holdings: None };
            tunnels.note(&id(&format!("s{number}")), state);
        }
        tunnels.gone(&id("s4"));
        let mut names = Vec::new();
        let mut last: Option<Box<str>> = None;
        loop {
            let page = tunnels.after(last.as_deref(), 3);
            let Some((key, _)) = page.last() else { break };
            last = Some(key.clone());
            names.extend(page.into_iter().map(|(key, _)| key.into_string()));
        }
        assert_eq!(names, [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|number| format!("default/s{number}")));
    }
}
