//! The judgement of the operator: what to do next about one tunnel, and what its Service shows meanwhile.
//!
//! A plan is made of steps in a fixed order. Each either finds its part as it should be and goes on, or halts the plan
//! with what to do about it. So the first thing that is missing is what happens next, at creation, change, repair and
//! after a crash alike.

mod foreign;
mod lanes;
mod remove;
mod serve;
mod show;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use std::{fmt, vec};

use super::lane::Lane;
use super::memory::{Memory, Now};
use super::observed::{App, Observed, Unlisted};
use super::{Tunnel, Wanted};
use crate::config::LaneConfig;
pub use foreign::another_owner;
pub use show::{Reason, Shown};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Look first: nothing can be decided without it.
    Look(Look),
    /// Carry these out, in order, then plan again.
    Act(Vec<Step>),
    /// Nothing to do until something happens elsewhere.
    Wait(Wait),
    /// Nothing to do, and nothing to wait for.
    Settled,
    /// A drain leaves it to another owner, who may serve it, and tells why. The Service is that owner's to write to.
    Left(String),
    /// The tunnel and all that it was made of are gone.
    Gone,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The App and all in it, and our objects in the cluster.
    Everything,
    /// The App alone: whether it is there.
    App,
    /// These Machines and no more.
    Machines(Vec<String>),
    /// Our objects in the cluster.
    Objects,
    /// The organisation's list of Apps.
    AppList,
}

/// What is waited for, how it is looked at, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub what: Waiting,
    pub look: Look,
    /// A time that is known beforehand; `None`: soon, and later each time.
    pub after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    MachineStart,
    /// Fly's checks on the Service's ports, or frpc's availability where there are none.
    Traffic,
    /// Fly's edges to learn that a new lane is there, or that an old one is cordoned.
    Settling,
    /// The established connections of a replaced lane.
    Draining,
    /// A second look at what one look alone says.
    SecondLook,
    AppGone,
}

/// One idempotent call.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    AddFinalizer,
    ShowStatus(Shown),
    CreateApp,
    CreateKeys,
    AllocateAddress,
    CreateMachine(Box<Lane>),
    StartMachine(String),
    Uncordon(String),
    StopDraining(String),
    CreateConfigMap(Box<Frpc>),
    ApplyDeployment(Box<Frpc>),
    Cordon(String),
    StartDraining(String, SystemTime),
    DestroyMachine(String),
    DeleteDeployment(String),
    DeleteConfigMap(String),
    DeleteSecret(String),
    ReleaseAddress(IpAddr),
    DeleteApp,
    RemoveFinalizer,
}

/// The frpc of a lane whose Machine exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Frpc {
    pub lane: Lane,
    pub machine: String,
    pub secret: String,
}

/// What to do next, and what the Service is to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub next: Next,
    /// `None`: leave it as it is.
    pub shown: Option<Shown>,
}

/// Settings that hold for every tunnel.
pub struct Settings {
    pub lanes: LaneConfig,
    pub finalizer: String,
}

/// How long an absence must have been seen before it is believed, where acting on it would cost or break something:
/// Fly's lists are eventually consistent (facts: reads come from a replicated store).
const BELIEVED: Duration = Duration::from_secs(5);

/// How long Fly may say "not found" of an App that was just made (fly-go's `WaitForApp` retries for a minute).
const READS_LAG: Duration = Duration::from_secs(60);

/// Why a step did not let the plan go on.
struct Halt(Next);

type Go<T> = Result<T, Halt>;

/// All that a plan is made from.
struct Context<'a> {
    tunnel: &'a Tunnel,
    settings: &'a Settings,
    seen: &'a Observed,
    memory: &'a Memory,
    now: Now,
}

/// Decides what to do next. Never waits, never remembers, never asks.
pub fn plan(tunnel: &Tunnel, settings: &Settings, seen: &Observed, memory: &Memory, now: Now) -> Plan {
    let context = Context { tunnel, settings, seen, memory, now };
    let plan = match &tunnel.wanted {
        Wanted::Served(ask) => serve::plan(&context, ask),
        Wanted::Refused { message, close } => serve::refuse(&context, message, *close),
        Wanted::Removed | Wanted::Drained => remove::plan(&context),
    };
    context.show_first(plan)
}

impl Context<'_> {
    /// What the Service shows is written before the next thing is begun, but after the finalizer, and after all that has
    /// to be looked at first. A failure stays in the condition until what failed is done: it may fail again.
    fn show_first(&self, plan: Plan) -> Plan {
        let (Some(service), Some(shown)) = (&self.seen.service, &plan.shown) else { return plan };
        let later = match &plan.next {
            Next::Look(_) => true,
            Next::Act(steps) => steps.first() == Some(&Step::AddFinalizer) || shown.may_wait(service),
            Next::Wait(_) | Next::Settled | Next::Left(_) | Next::Gone => false,
        };
        if later || shown.is_shown_by(service) {
            return plan;
        }
        let show = act(Step::ShowStatus(shown.clone()));
        Plan { next: show, ..plan }
    }

    /// The App, once it was looked at.
    fn app(&self) -> Go<&App> {
        self.seen.app.as_ref().ok_or(Halt(Next::Look(Look::Everything)))
    }

    /// The last look before the absence of the App is believed.
    fn unlisted(&self) -> Go<&Unlisted> {
        self.seen.unlisted.as_ref().ok_or(Halt(Next::Look(Look::AppList)))
    }
}

/// Halts with these steps, if there are any.
fn all(steps: impl Iterator<Item = Step>) -> Go<()> {
    let steps: Vec<Step> = steps.collect();
    if steps.is_empty() { Ok(()) } else { Err(Halt(Next::Act(steps))) }
}

fn act(step: Step) -> Next {
    Next::Act(vec![step])
}

fn wait(what: Waiting, look: Look) -> Next {
    Next::Wait(Wait { what, look, after: None })
}

fn wait_for(what: Waiting, look: Look, after: Duration) -> Next {
    Next::Wait(Wait { what, look, after: Some(after) })
}

/// As people read it in logs and snapshots.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::AddFinalizer => write!(f, "add the finalizer"),
            Step::ShowStatus(shown) => write!(f, "show {shown}"),
            Step::CreateApp => write!(f, "create the App and its network"),
            Step::CreateKeys => write!(f, "create the Secret with new keys"),
            Step::AllocateAddress => write!(f, "allocate an IPv4 address"),
            Step::CreateMachine(lane) => write!(
                f,
                "create Machine {} in {} ({}), ports {:?}, control port {}",
                lane.name, lane.recipe.region, lane.recipe.size, lane.recipe.ports, lane.control_port
            ),
            Step::StartMachine(id) => write!(f, "start Machine {id}"),
            Step::Uncordon(id) => write!(f, "uncordon Machine {id}"),
            Step::StopDraining(id) => write!(f, "take the draining mark off Machine {id}"),
            Step::CreateConfigMap(frpc) => write!(f, "create the ConfigMap of frpc for Machine {}", frpc.machine),
            Step::ApplyDeployment(frpc) => write!(f, "apply the Deployment of frpc for Machine {}", frpc.machine),
            Step::Cordon(id) => write!(f, "cordon Machine {id}"),
            Step::StartDraining(id, _) => write!(f, "mark Machine {id} as draining"),
            Step::DestroyMachine(id) => write!(f, "destroy Machine {id}"),
            Step::DeleteDeployment(name) => write!(f, "delete Deployment {name}"),
            Step::DeleteConfigMap(name) => write!(f, "delete ConfigMap {name}"),
            Step::DeleteSecret(name) => write!(f, "delete Secret {name}"),
            Step::ReleaseAddress(ip) => write!(f, "release {ip}"),
            Step::DeleteApp => write!(f, "delete the App"),
            Step::RemoveFinalizer => write!(f, "remove the finalizer and our condition"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiting::MachineStart => "the Machine to start",
            Waiting::Traffic => "traffic to pass",
            Waiting::Settling => "Fly's edges to learn of the change",
            Waiting::Draining => "the connections of a replaced lane to end",
            Waiting::SecondLook => "a second look",
            Waiting::AppGone => "Fly to say that the App is gone",
        })
    }
}
