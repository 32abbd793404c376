//! The things that hold of every step that the operator takes. There is one checker: `plan()` gives it each plan that any test makes,
//! with what the plan saw, and the worlds of tests (`plan/tests/reality.rs`, `model/`) give it each step that is carried out, with
//! what is true at that moment.

use std::net::IpAddr;

use super::lane::{Recipe, SlotId};
use super::machines::{Machines, machines};
use super::names;
use super::observed::{App, Observed, State};
use super::plan::step::{ServiceStep, Step};
use super::plan::{Next, Plan};
use super::settings::Settings;
use super::{Tunnel, Wanted};

/// A step, as far as it can do harm.
#[derive(Clone, Copy, Debug)]
pub enum Deed<'a> {
    /// An object in the cluster is made.
    MakeObject,
    CreateApp,
    BuyAddress,
    MakeMachine {
        generation: &'a str,
        slot: SlotId,
    },
    /// The ConfigMap or the Deployment of a lane's frpc.
    DeleteLaneObject(&'a str),
    /// Something is changed at Fly that harms nobody.
    Touch,
    /// A Machine takes no new users any more.
    TakeOut(&'a str),
    Release(IpAddr),
    DeleteApp,
    /// The Service shows these addresses and no other.
    Show(&'a [IpAddr]),
    RemoveFinalizer,
}

/// The owner of the App that has the tunnel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Nobodys,
    Ours,
    SomebodyElses,
}

/// Everything that tells whether a step does harm.
pub trait Known {
    /// Users are to be served through the tunnel: its Service asks for it, and does not want its door closed.
    fn is_wanted(&self) -> bool;
    /// The Service has our finalizer. Also true where it is gone.
    fn has_finalizer(&self) -> bool;
    fn app(&self) -> Whose;
    /// The addresses of our App.
    fn addresses(&self) -> Vec<IpAddr>;
    /// The addresses that the Service shows.
    fn shown(&self) -> Vec<IpAddr>;
    /// The Machines of ours through which users who come now are served.
    fn in_service(&self) -> Vec<&str>;
    /// Those of them that have been long enough for Fly's edges to have learned it.
    fn established(&self) -> Vec<&str> {
        self.in_service()
    }
    /// The ConfigMap or Deployment is of a Machine that exists.
    fn has_machine_of(&self, object: &str) -> bool;
    /// The Service asks for the very port on which this Machine is controlled.
    fn is_controlled_on_a_wanted_port(&self, machine: &str) -> bool;
    /// A Machine that is this lane already, and is as it was made.
    fn lane(&self, generation: &str, slot: SlotId) -> Option<&str>;
}

/// Says how a deed is wrong, if it is. `others` are the deeds that the same plan does beside it.
pub fn wrong(deed: Deed, others: &[Deed], known: &impl Known) -> Option<String> {
    use Deed::*;
    let at_fly = !matches!(deed, MakeObject | DeleteLaneObject(_) | Show(_) | RemoveFinalizer);
    if at_fly && known.app() == Whose::SomebodyElses {
        return Some("an App of somebody else's is touched".into());
    }
    let makes = matches!(deed, Deed::MakeObject | Deed::CreateApp | Deed::BuyAddress | Deed::MakeMachine { .. });
    if makes && !known.has_finalizer() {
        return Some("something is made before the finalizer is there".into());
    }
    match deed {
        Deed::MakeObject | Deed::CreateApp | Deed::Touch => None,
        Deed::DeleteLaneObject(name) => {
            let used = known.is_wanted() && known.has_machine_of(name);
            used.then(|| format!("{name} is deleted, and its Machine is there"))
        }
        Deed::BuyAddress => (!known.addresses().is_empty()).then(|| "a second address is bought".into()),
        Deed::MakeMachine { generation, slot } => {
            let twin = known.lane(generation, slot)?;
            Some(format!("a second Machine is made for a lane that has {twin}"))
        }
        Deed::TakeOut(machine) => {
            let in_service = known.in_service();
            let goes = |id: &str| others.iter().any(|other| matches!(other, Deed::TakeOut(other) if *other == id));
            let another_stays = known.established().iter().any(|id| *id != machine && !goes(id));
            let breaks = known.is_wanted() && in_service.contains(&machine) && !another_stays;
            (breaks && !known.is_controlled_on_a_wanted_port(machine))
                .then(|| format!("{machine} is taken from users who no other lane serves"))
        }
        Deed::Release(ip) => {
            let used = known.is_wanted() && known.shown().contains(&ip);
            used.then(|| format!("{ip} is released, and the Service shows it"))
        }
        Deed::DeleteApp => {
            // Somebody may have deleted it before, and the Service is another one since.
            let takes = known.is_wanted() && known.app() == Whose::Ours;
            takes.then(|| "the App is deleted, and the Service asks for it".into())
        }
        Deed::Show(addresses) => {
            let (listed, shown) = (known.addresses(), known.shown());
            let vanishes = shown.iter().find(|ip| listed.contains(ip) && !addresses.contains(ip));
            let appears = addresses.iter().find(|ip| !listed.contains(ip) && !shown.contains(ip));
            let vanishes = vanishes.map(|ip| format!("{ip} vanishes from the status while Fly lists it"));
            vanishes.or_else(|| appears.map(|ip| format!("{ip} is shown, and Fly does not list it")))
        }
        Deed::RemoveFinalizer => {
            (known.app() == Whose::Ours).then(|| "the finalizer goes while the App is there".into())
        }
    }
}

impl<'a> Deed<'a> {
    /// `None` for a step that never does harm.
    pub fn of(step: &'a Step) -> Option<Deed<'a>> {
        Some(match step {
            Step::For(_, ServiceStep::AddFinalizer) | Step::CreateNamespace => return None,
            Step::DeleteSecret(_) => return None,
            Step::DeleteDeployment(name) | Step::DeleteConfigMap(name) => Deed::DeleteLaneObject(name),
            Step::For(_, ServiceStep::Show(shown)) if shown.condition_alone => return None,
            Step::For(_, ServiceStep::Show(shown)) => Deed::Show(&shown.addresses),
            Step::For(_, ServiceStep::RemoveFinalizer) => Deed::RemoveFinalizer,
            Step::CreateKeys | Step::LabelKeys(_) => Deed::MakeObject,
            Step::CreateConfigMap(_) | Step::ApplyDeployment(_) => Deed::MakeObject,
            Step::CreateApp => Deed::CreateApp,
            Step::DeleteApp => Deed::DeleteApp,
            Step::AllocateAddress(_) => Deed::BuyAddress,
            Step::ReleaseAddress(ip) => Deed::Release(*ip),
            Step::CreateMachine(lane) => Deed::MakeMachine { generation: &lane.generation, slot: lane.slot },
            Step::StartMachine(_) | Step::Uncordon(_) | Step::StartRetiring(..) | Step::StopRetiring(_) => Deed::Touch,
            Step::NoteSpelling(..) => Deed::Touch,
            Step::Cordon(id) | Step::DestroyMachine(id) => Deed::TakeOut(id),
            Step::GiveUpMachine(given_up) => Deed::TakeOut(&given_up.machine),
        })
    }
}

/// Makes sure of all that holds of a plan.
pub fn check(plan: &Plan, tunnel: &Tunnel, settings: &Settings, seen: &Observed) {
    let Next::Act(steps) = &plan.next else { return };
    let seen = Seen { tunnel, settings, seen };
    let deeds: Vec<Deed> = steps.iter().filter_map(Deed::of).collect();
    for deed in &deeds {
        if let Some(what) = wrong(*deed, &deeds, &seen) {
            panic!("the plan for {} is wrong: {what}: {steps:?}", tunnel.id);
        }
    }
}

/// A tunnel, as it was seen or as it is.
pub struct Seen<'a> {
    pub tunnel: &'a Tunnel,
    pub settings: &'a Settings,
    pub seen: &'a Observed,
}

impl Known for Seen<'_> {
    fn is_wanted(&self) -> bool {
        matches!(self.tunnel.wanted(), Wanted::Served(_) | Wanted::Refused { close: false, .. })
    }

    fn has_finalizer(&self) -> bool {
        self.seen.service().is_none_or(|service| service.has_finalizer(&self.settings.finalizer))
    }

    fn app(&self) -> Whose {
        match &self.seen.app {
            Some(App::Ours(_)) => Whose::Ours,
            Some(App::Foreign(_)) => Whose::SomebodyElses,
            Some(App::Absent) | None => Whose::Nobodys,
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.seen.our_app().iter().flat_map(|app| &app.addresses).map(|address| address.ip).collect()
    }

    fn shown(&self) -> Vec<IpAddr> {
        self.seen.shown_addresses()
    }

    fn in_service(&self) -> Vec<&str> {
        let lanes = machines(self.seen).ours.into_iter();
        lanes.filter(|lane| lane.takes_users()).map(|lane| lane.machine.id.as_str()).collect()
    }

    fn has_machine_of(&self, object: &str) -> bool {
        let Machines { ours, strangers } = machines(self.seen);
        let mut all = ours.iter().map(|lane| lane.machine).chain(strangers);
        all.any(|machine| object == names::lane_object(&self.tunnel.app, &machine.id))
    }

    fn is_controlled_on_a_wanted_port(&self, machine: &str) -> bool {
        let lanes = machines(self.seen).ours;
        let control = lanes.iter().find(|lane| lane.machine.id == machine).map(|lane| lane.ours.control_port);
        let is_control = |port: u16| Some(port) == control;
        match self.tunnel.wanted() {
            Wanted::Served(wish) => wish.ports.iter().any(|port| is_control(port.number)),
            // It is kept as another lane has it.
            _ => lanes.iter().any(|lane| lane.machine.user_ports().any(|port| is_control(port.number))),
        }
    }

    fn lane(&self, generation: &str, slot: SlotId) -> Option<&str> {
        let lanes = machines(self.seen).ours.into_iter();
        let mut twins = lanes.filter(|lane| {
            let as_made = || {
                let recipe = lane.ours.recipe.as_deref().and_then(Recipe::read);
                recipe.is_some_and(|recipe| recipe.deviations(lane.machine).is_empty())
            };
            let is_it = lane.ours.generation == generation && lane.ours.slot == slot;
            is_it && lane.machine.state == State::Started && lane.machine.host_ok && as_made()
        });
        twins.next().map(|lane| lane.machine.id.as_str())
    }
}
