//! The state of each tunnel, for metrics. A thousand tunnels are to fit beside everything else, so only a few dozen bytes
//! are kept of each, and text is made when somebody asks.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::text::{Exposition, Kind};
use crate::telemetry::cost::{self, Cents, PRICES_OF};
use crate::tunnel::condition::{Read, Reason};
use crate::tunnel::machines;
use crate::tunnel::names::Owner;
use crate::tunnel::observed::{App, Observed};
use crate::tunnel::{Tunnel, TunnelId};

/// How a tunnel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelState {
    /// The reason of the condition that its Service shows.
    pub reason: Reason,
    /// How many lanes the Service asks for. A Service that is refused or goes asks for none.
    pub wanted: u8,
    /// `None` means that Fly was not looked at: the tunnel then has what it had.
    pub holdings: Option<Holdings>,
}

/// The things of a tunnel that exist at Fly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub lanes: Lanes,
    /// An estimate of the bill for a month.
    pub cost: Cents,
}

/// Numbers of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Users who reach these reach the backend.
    pub serving: u8,
    /// These take no new connections: they are being replaced, or their door is closed.
    pub cordoned: u8,
    /// These are on their way, or broken.
    pub unready: u8,
}

impl TunnelState {
    /// How the tunnel is doing, as far as it was looked at.
    pub fn of(tunnel: &Tunnel, seen: &Observed) -> TunnelState {
        // The Service may show nothing yet, or may be gone.
        let going = tunnel.is_to_go() || seen.services.is_empty();
        let unshown = if going { Reason::Deleting } else { Reason::Provisioning };
        let reason = seen.service().and_then(Read::of).map_or(unshown, |read| read.reason);
        TunnelState { reason, wanted: tunnel.lanes(), holdings: holdings(seen) }
    }
}

fn holdings(seen: &Observed) -> Option<Holdings> {
    let app = match seen.app.as_ref()? {
        App::Ours(app) => app,
        App::Absent | App::Foreign(_) => return Some(Holdings::default()),
    };
    let machines = machines::machines(seen);
    let all = machines.ours.iter().map(|lane| lane.machine).chain(machines.strangers.iter().copied());
    let cost = cost::addresses(&app.addresses) + all.map(cost::machine).sum::<Cents>();
    let mut lanes = Lanes::default();
    for lane in &machines.ours {
        let count = if lane.machine.cordoned {
            &mut lanes.cordoned
        } else if lane.serves {
            &mut lanes.serving
        } else {
            &mut lanes.unready
        };
        *count = count.saturating_add(1);
    }
    Some(Holdings { lanes, cost })
}

/// All tunnels that this process leads. A copy costs next to nothing, and the first change after it copies the tunnels.
#[derive(Clone, Default)]
pub(super) struct Tunnels {
    /// The key is `namespace/name`.
    known: Arc<BTreeMap<Box<str>, Known>>,
    pub(super) leading: bool,
    pub(super) transitions: u64,
}

#[derive(Clone, Copy)]
struct Known {
    reason: Reason,
    wanted: u8,
    holdings: Holdings,
}

/// The sums over all tunnels.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) by_reason: [u32; Reason::COUNT],
    pub(super) wanted: u32,
    pub(super) serving: u32,
    pub(super) cordoned: u32,
    pub(super) unready: u32,
}

impl Tunnels {
    /// Writes the metrics of leadership, of tunnels and of lanes. Names of Apps follow from their owner.
    pub(super) fn render(&self, text: &mut Exposition, owner: Option<&Owner>) -> io::Result<()> {
        let totals = self.totals();
        let help = "Whether this process leads (1) or stands by (0).";
        text.single(Kind::Gauge, "fly_tunnel_operator_leader", help, u8::from(self.leading))?;
        let help = "How often this process began to lead or ceased to.";
        text.single(Kind::Counter, "fly_tunnel_operator_leader_transitions_total", help, self.transitions)?;
        let help = "Tunnels by what their Services show: the reason of the condition fly-tunnel-operator.dev/Ready.";
        text.family(Kind::Gauge, "fly_tunnel_operator_tunnels", help)?;
        for (reason, number) in Reason::ALL.iter().zip(totals.by_reason) {
            text.sample(&[("state", &reason.to_string())], number)?;
        }
        let help = "Lanes (a Fly Machine and its frpc each). serving: users reach the backend. cordoned: takes no new \
                    connections. unready: on its way, or broken.";
        text.family(Kind::Gauge, "fly_tunnel_operator_lanes", help)?;
        text.sample(&[("state", "serving")], totals.serving)?;
        text.sample(&[("state", "cordoned")], totals.cordoned)?;
        text.sample(&[("state", "unready")], totals.unready)?;
        let help = "Lanes that Services ask for. Those that are refused or deleted ask for none.";
        text.single(Kind::Gauge, "fly_tunnel_operator_lanes_wanted", help, totals.wanted)?;
        self.render_missing(text)?;
        self.render_costs(text, owner)
    }

    fn render_missing(&self, text: &mut Exposition) -> io::Result<()> {
        let help = "Lanes of a Service that do not serve, of those that it asks for, and the reason that it shows. A Service \
                    all of whose lanes serve is left out.";
        text.family(Kind::Gauge, "fly_tunnel_operator_tunnel_lanes_missing", help)?;
        for (id, known) in self.by_id() {
            let missing = known.wanted.saturating_sub(known.holdings.lanes.serving);
            let (reason, labels) = (known.reason.to_string(), [("namespace", &id.namespace), ("name", &id.name)]);
            if missing > 0 {
                let [namespace, name] = labels.map(|(label, value)| (label, value.as_str()));
                text.sample(&[namespace, name, ("reason", &reason)], missing)?;
            }
        }
        Ok(())
    }

    fn render_costs(&self, text: &mut Exposition, owner: Option<&Owner>) -> io::Result<()> {
        let help = format!(
            "Estimate of what Fly bills for the tunnel in a month as it is now: Machines and address, prices of \
             {PRICES_OF}, regions taken as equal, without egress."
        );
        text.family(Kind::Gauge, "fly_tunnel_operator_tunnel_estimated_cost_dollars_per_month", &help)?;
        for (id, cents) in self.costs() {
            let app = owner.map(|owner| owner.app(&id)).unwrap_or_default();
            let dollars = format_args!("{}.{:02}", cents / 100, cents % 100);
            text.sample(&[("namespace", &id.namespace), ("name", &id.name), ("app", &app)], dollars)?;
        }
        Ok(())
    }

    /// This process leads from now on, or does not. Another replica tells of the tunnels that it leads.
    pub(super) fn lead(&mut self, leading: bool) {
        if self.leading != leading {
            self.leading = leading;
            self.transitions += 1;
        }
        if !leading {
            self.known = Arc::default();
        }
    }

    pub(super) fn note(&mut self, id: &TunnelId, state: TunnelState) {
        if !self.leading {
            return; // a pass that began before has ended
        }
        let TunnelState { reason, wanted, holdings } = state;
        let unknown = Known { reason, wanted, holdings: Holdings::default() };
        let known = Arc::make_mut(&mut self.known).entry(key(id)).or_insert(unknown);
        *known = Known { reason, wanted, holdings: holdings.unwrap_or(known.holdings) };
    }

    pub(super) fn gone(&mut self, id: &TunnelId) {
        Arc::make_mut(&mut self.known).remove(&key(id));
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for Known { reason, wanted, holdings } in self.known.values() {
            totals.by_reason[*reason as usize] += 1;
            totals.wanted += u32::from(*wanted);
            totals.serving += u32::from(holdings.lanes.serving);
            totals.cordoned += u32::from(holdings.lanes.cordoned);
            totals.unready += u32::from(holdings.lanes.unready);
        }
        totals
    }

    /// Each tunnel with the estimate of its bill.
    pub(super) fn costs(&self) -> impl Iterator<Item = (TunnelId, Cents)> {
        self.by_id().map(|(id, known)| (id, known.holdings.cost))
    }

    fn by_id(&self) -> impl Iterator<Item = (TunnelId, &Known)> {
        self.known.iter().map(|(key, known)| {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            (TunnelId { namespace: namespace.into(), name: name.into() }, known)
        })
    }
}

fn key(id: &TunnelId) -> Box<str> {
    id.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{self, id, removed};
    use crate::service::machine_size::MachineSize;
    use crate::service::port::Port;
    use crate::service::{CONDITION, Service, StatusCondition};
    use crate::tunnel::lane::Exposed;
    use crate::tunnel::lane::SlotId;
    use crate::tunnel::observed::{Address, Machine, OurApp, Ours, State};

    fn service(reason: Option<&str>) -> Service {
        let mut service = examples::service();
        let condition = |reason: &str| StatusCondition {
            r#type: CONDITION.into(),
            reason: reason.into(),
            ..StatusCondition::default()
        };
        service.status.conditions = reason.map(condition).into_iter().collect();
        service
    }

    #[test]
    fn the_reason_is_what_the_service_shows() {
        for (tunnel, service, expected) in [
            (examples::tunnel(), Some(service(Some("Serving"))), Reason::Serving),
            (examples::tunnel(), Some(service(Some("FlyCapacity"))), Reason::FlyCapacity),
            (examples::tunnel(), Some(service(Some("SomebodyElses"))), Reason::Provisioning),
            (examples::tunnel(), Some(service(None)), Reason::Provisioning),
            (removed("web"), Some(service(Some("LegacyTunnel"))), Reason::LegacyTunnel),
            (removed("web"), Some(service(None)), Reason::Deleting),
            (removed("web"), None, Reason::Deleting),
        ] {
            let seen = Observed::members(service);
            let state = TunnelState::of(&tunnel, &seen);
            let wanted = u8::from(!tunnel.is_to_go());
            assert_eq!(state, TunnelState { reason: expected, wanted, holdings: None }, "{seen:?}");
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
            region: String::new(),
            host: None,
            ours: Some(Ours {
                generation: "a".into(),
                slot: SlotId::tcp(0),
                control_port: 7000,
                probe_port: None,
                pool: 50,
                retiring_since: None,
                spelling: None,
                recipe: None,
            }),
            version: String::new(),
            image: String::new(),
            guest: MachineSize::parse("shared-cpu-2x").ok().map(MachineSize::guest),
            edits: Vec::new(),
            exposed: [443, 7000]
                .map(|number| Exposed { port: Port::tcp(number), internal: number, checked: true })
                .into(),
            passing: vec![Port::tcp(443)],
            probe_passes: None,
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
                Machine { cordoned: true, ..machine("retires", State::Started) },
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
        let serving = TunnelState { reason: Reason::Serving, wanted: 2, holdings: Some(held) };
        tunnels.note(&id("web"), serving);
        assert_eq!(tunnels.costs().count(), 0, "it does not lead");

        tunnels.lead(true);
        tunnels.note(&id("web"), serving);
        tunnels.note(&id("web"), TunnelState { reason: Reason::FlyUnavailable, wanted: 2, holdings: None });
        let totals = tunnels.totals();
        assert_eq!((totals.serving, totals.wanted, totals.by_reason[Reason::FlyUnavailable as usize]), (2, 2, 1));
        assert_eq!(totals.by_reason.iter().sum::<u32>(), 1);

        tunnels.lead(true);
        tunnels.lead(false);
        tunnels.lead(false);
        assert_eq!((tunnels.totals().serving, tunnels.leading, tunnels.transitions), (0, false, 2));
    }

    #[test]
    fn a_copy_stays_as_it_is_while_others_write() {
        let mut tunnels = Tunnels::default();
        tunnels.lead(true);
        let state = TunnelState { reason: Reason::Serving, wanted: 1, holdings: None };
        tunnels.note(&id("old"), state);
        tunnels.note(&id("web"), state);
        let copy = tunnels.clone();
        tunnels.gone(&id("old"));
        tunnels.note(&id("shop"), TunnelState { holdings: Some(Holdings { cost: 1, ..Holdings::default() }), ..state });
        assert_eq!(copy.costs().collect::<Vec<_>>(), [(id("old"), 0), (id("web"), 0)]);
        assert_eq!(tunnels.costs().collect::<Vec<_>>(), [(id("shop"), 1), (id("web"), 0)]);
        tunnels.lead(false);
        assert_eq!((copy.totals().by_reason[Reason::Serving as usize], tunnels.costs().count()), (2, 0));
    }
}
