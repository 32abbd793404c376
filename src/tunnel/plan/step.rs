//! The words of a plan: what to look at, what to do, what to wait for.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::service::ServiceId;
use crate::tunnel::condition::Shown;
use crate::tunnel::lane::{Frpc, Lane, SlotId};
use crate::tunnel::observed::Family;

/// A thing to look at.
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
    /// Whether the cluster says that an frpc is connected to its Machine, whatever Fly says.
    Frpc,
    /// The organisation's list of Apps.
    AppList,
    /// When the App may be deleted: Fly deletes only so many in a minute, so each gets a time of its own.
    TimeOfDeletion,
}

/// A thing to wait for, how it is looked at, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub what: Waiting,
    pub look: Look,
    /// A time that is known beforehand; `None`: soon, and later each time.
    pub after: Option<Duration>,
    /// It was waited for in vain so far. A process that is to end does not wait for it any longer.
    pub in_vain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    MachineStart,
    /// Fly's checks on the Service's ports, or frpc's availability where there are none.
    Traffic,
    /// Fly's edges to learn that a new lane is there, or that an old one is cordoned.
    Settling,
    /// The established connections of a lane that retires.
    Retiring,
    /// Other tunnels to be done with replacing their lanes.
    Turn,
    /// A second look at what one look alone says.
    SecondLook,
    /// The API server to take what the Service is to show.
    Write,
    AppGone,
    /// The Apps that are deleted before this one, since Fly takes only so many in a minute.
    Deletions,
}

/// One idempotent call.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A step for one member of the tunnel.
    For(ServiceId, ServiceStep),
    CreateApp,
    /// The namespace that our objects live in.
    CreateNamespace,
    CreateKeys,
    /// Somebody took the labels off the Secret of this name.
    LabelKeys(String),
    AllocateAddress(Family),
    CreateMachine(Box<Lane>),
    StartMachine(String),
    Uncordon(String),
    StopRetiring(String),
    /// Fly itself wrote the Machine otherwise than it was asked for: a process that starts later is not to take that for an edit.
    NoteSpelling(String, String),
    CreateConfigMap(Box<Frpc>),
    ApplyDeployment(Box<Frpc>),
    Cordon(String),
    StartRetiring(String, SystemTime),
    DestroyMachine(String),
    GiveUpMachine(Box<GivenUp>),
    DeleteDeployment(String),
    DeleteConfigMap(String),
    DeleteSecret(String),
    ReleaseAddress(IpAddr),
    DeleteApp,
}

/// A Machine that runs and through which nobody is reached, while another lane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub slot: SlotId,
    pub generation: String,
    /// Its ID.
    pub machine: String,
    /// Why the cluster does not run its frpc, as far as that is known.
    pub why: Option<String>,
}

/// A step that changes a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceStep {
    AddFinalizer,
    Show(Shown),
    /// Takes our condition away, too.
    RemoveFinalizer,
}

/// As people read it in logs and snapshots.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::For(_, step) => write!(f, "{step}"),
            Step::CreateApp => write!(f, "create the App and its network"),
            Step::CreateNamespace => write!(f, "create the namespace"),
            Step::CreateKeys => write!(f, "create the Secret with new keys"),
            Step::LabelKeys(name) => write!(f, "label the Secret {name} again"),
            Step::AllocateAddress(family) => write!(f, "allocate an {family} address"),
            Step::CreateMachine(lane) => {
                let ports: Vec<String> = lane.recipe.forwards.iter().map(|forward| forward.port.to_string()).collect();
                write!(
                    f,
                    "create Machine {} in {} ({}), ports [{}], control port {}",
                    lane.name,
                    lane.recipe.lane.region,
                    lane.recipe.lane.size,
                    ports.join(", "),
                    lane.control_port
                )
            }
            Step::StartMachine(id) => write!(f, "start Machine {id}"),
            Step::Uncordon(id) => write!(f, "uncordon Machine {id}"),
            Step::NoteSpelling(id, _) => write!(f, "note on Machine {id} that Fly itself made it so"),
            Step::StopRetiring(id) => write!(f, "take the retiring mark off Machine {id}"),
            Step::CreateConfigMap(frpc) => write!(f, "create the ConfigMap of frpc for Machine {}", frpc.machine),
            Step::ApplyDeployment(frpc) => write!(f, "apply the Deployment of frpc for Machine {}", frpc.machine),
            Step::Cordon(id) => write!(f, "cordon Machine {id}"),
            Step::StartRetiring(id, _) => write!(f, "mark Machine {id} as retiring"),
            Step::DestroyMachine(id) => write!(f, "destroy Machine {id}"),
            Step::GiveUpMachine(given_up) => {
                write!(f, "destroy Machine {}, since no traffic passes through it", given_up.machine)
            }
            Step::DeleteDeployment(name) => write!(f, "delete Deployment {name}"),
            Step::DeleteConfigMap(name) => write!(f, "delete ConfigMap {name}"),
            Step::DeleteSecret(name) => write!(f, "delete Secret {name}"),
            Step::ReleaseAddress(ip) => write!(f, "release {ip}"),
            Step::DeleteApp => write!(f, "delete the App"),
        }
    }
}

impl fmt::Display for ServiceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceStep::AddFinalizer => write!(f, "add the finalizer"),
            ServiceStep::Show(shown) => write!(f, "show {shown}"),
            ServiceStep::RemoveFinalizer => write!(f, "remove the finalizer and our condition"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiting::MachineStart => "the Machine to start",
            Waiting::Traffic => "traffic to pass",
            Waiting::Settling => "Fly's edges to learn of the change",
            Waiting::Retiring => "the connections of a replaced lane to end",
            Waiting::Turn => "other tunnels to be done with replacing their lanes",
            Waiting::SecondLook => "a second look",
            Waiting::Write => "the API server to take what the Service is to show",
            Waiting::Deletions => "other Apps to be deleted first",
            Waiting::AppGone => "Fly to say that the App is gone",
        })
    }
}
