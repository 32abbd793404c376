//! What is somebody else's: people are told, and it is left alone.

use super::{Context, Next, Plan, Reason, Shown};
use crate::tunnel::Wanted;
use crate::tunnel::observed::App;

impl Context<'_> {
    /// Why no tunnel is made for the Service, if somebody else's is in the way. `None` as well where an App of ours exists, or
    /// nobody looked yet.
    pub(super) fn in_the_way(&self) -> Option<(Reason, String)> {
        let app = self.seen.app.as_ref().filter(|app| !matches!(app, App::Ours(_)))?;
        match (&self.tunnel.legacy, app) {
            (Some(annotation), _) => Some((Reason::LegacyTunnel, legacy(annotation))),
            (None, App::Foreign(who)) => Some((Reason::NameConflict, name_conflict(&self.tunnel.app, who))),
            (None, _) => self.other_owner().map(|message| (Reason::NameConflict, message)),
        }
    }

    /// Objects in the cluster say that another owner serves the Service, or Fly does. Whoever gives the operator another
    /// cluster name would otherwise get a second address and a second bill for each Service, and the first would never end.
    pub(super) fn other_owner(&self) -> Option<String> {
        let draining = self.tunnel.wanted == Wanted::Drained;
        let objects = self.seen.objects.iter().flat_map(|objects| &objects.other_apps);
        let objects = objects.map(|app| another_owner(app, draining));
        let holder = self.seen.unlisted.iter().filter_map(|list| list.holder.as_deref());
        let holder = holder.map(|app| self::holder(app, draining));
        objects.chain(holder).next()
    }

    /// Nothing to do until a person or Fly changes something. The addresses that the Service shows stay.
    pub(super) fn halted(&self, reason: Reason, message: String) -> Plan {
        let shown = Shown { addresses: self.seen.shown(), reason, message };
        Plan { next: Next::Settled, shown: Some(shown) }
    }
}

fn legacy(annotation: &str) -> String {
    format!(
        "annotation {annotation} is of the Go operator, whose App may still be there: nothing is touched. \
         Delete that App and remove its annotations, and a tunnel is made"
    )
}

fn name_conflict(app: &str, who: &str) -> String {
    format!(
        "the Fly App {app} exists and is not of this owner ({who}): rename the Service, or delete the App if it is yours"
    )
}

/// Why a Service is left to the owner of this App, of whom there are objects, and what to do.
pub fn another_owner(app: &str, draining: bool) -> String {
    let give = match draining {
        true => "Give --drain the --cluster-name of the operator that made it",
        false => "Was --cluster-name changed? Give the old one back",
    };
    format!(
        "objects of another owner in the operator's namespace are for this Service: their Fly App {app} may serve it and be \
         billed, and is left alone. {give}. Only if `fly apps list` has no such App, or it serves another cluster, \
         delete the Deployments, ConfigMaps and Secrets with the label fly-tunnel-operator.dev/app={app}"
    )
}

fn holder(app: &str, draining: bool) -> String {
    let give = match draining {
        true => "Give --drain the --cluster-name and --namespace of the operator that made it",
        false => "Were --cluster-name and --namespace changed? Give the old ones back",
    };
    format!(
        "the Fly App {app} of another owner has the address that the Service shows, may serve it and is billed; it is left \
         alone. {give}. If it is not wanted any more, `fly apps destroy {app}`"
    )
}
