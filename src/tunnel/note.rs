//! Things that people have to know beside the condition.

use std::fmt;

use super::condition::Condition;
use super::lane::SlotId;
use crate::service::request::Warning;

/// A note on a Service, behind the message of its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Warning(Warning),
    /// Fly cannot be asked, and the pods of frpc tell that users are served.
    FrpcConnected,
    /// The Service is refused, and keeping its tunnel as it was fails, too.
    Failure(Condition),
    /// Another owner has something to do with the Service.
    OtherOwner(OtherOwner),
    /// Both lanes would be lost with one host.
    SharedHost(SlotId, SlotId),
    /// Somebody else put this Machine into the App.
    Stranger {
        app: String,
        machine: String,
    },
}

/// Another owner's App that has something to do with a Service of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherOwner {
    /// Objects in the operator's namespace say that this App serves it.
    Objects { app: String },
    /// This App has an address that the Service shows.
    Holder { app: String },
}

impl OtherOwner {
    /// Why the Service is left to that owner, and what to do while this operator is installed.
    pub fn advice(&self) -> String {
        match self {
            OtherOwner::Objects { .. } => self.text("Was --cluster-name changed? Give the old one back"),
            OtherOwner::Holder { .. } => {
                self.text("Were --cluster-name and --namespace changed? Give the old ones back")
            }
        }
    }

    /// Why the Service is left to that owner, and what to do for `--drain`.
    pub fn advice_to_drain(&self) -> String {
        match self {
            OtherOwner::Objects { .. } => self.text("Give --drain the --cluster-name of the operator that made it"),
            OtherOwner::Holder { .. } => {
                self.text("Give --drain the --cluster-name and --namespace of the operator that made it")
            }
        }
    }

    fn text(&self, what_to_do: &str) -> String {
        match self {
            OtherOwner::Objects { app } => format!(
                "objects of another owner in the operator's namespace are for this Service: their Fly App {app} may serve it \
                 and be billed, and is left alone. {what_to_do}. Only if `fly apps list` has no such App, or it serves another \
                 cluster, delete the Deployments, ConfigMaps and Secrets with the label fly-tunnel-operator.dev/app={app}"
            ),
            OtherOwner::Holder { app } => format!(
                "the Fly App {app} of another owner has the address that the Service shows, may serve it and is billed; it is \
                 left alone. {what_to_do}. If it is not wanted any more, `fly apps destroy {app}`"
            ),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Warning(warning) => f.write_str(warning.text()),
            Note::FrpcConnected => f.write_str("users are served all the same: frpc is connected to its Machine"),
            Note::Failure(condition) => f.write_str(condition.message()),
            Note::SharedHost(one, other) => write!(
                f,
                "lanes {one} and {other} run on one host of Fly's, and would be lost together: several regions \
                 (the annotation fly-region or --fly-region) keep them apart"
            ),
            Note::OtherOwner(other) => f.write_str(&other.advice()),
            Note::Stranger { app, machine } => write!(
                f,
                "somebody put the Machine {machine} into the App: it is left alone, is billed, and may get traffic. If nobody wants \
                 it, `fly machine destroy --app {app} --force {machine}`"
            ),
        }
    }
}
