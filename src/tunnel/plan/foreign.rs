//! Some things are somebody else's: people are told, and they are left alone.

use super::Context;
use crate::tunnel::condition::{Condition, OtherOwner};
use crate::tunnel::observed::App;

impl Context<'_> {
    /// Why no tunnel is made for the Service, if somebody else's is in the way. `None` as well where an App of ours exists, or
    /// nobody looked yet.
    pub(super) fn in_the_way(&self) -> Option<Condition> {
        match (self.tunnel.legacy(), self.seen.app.as_ref()?) {
            (_, App::Ours(_)) => None,
            (Some(annotation), _) => Some(Condition::legacy_tunnel(annotation)),
            (None, App::Foreign(who)) => Some(Condition::name_taken(&self.tunnel.app, who)),
            (None, App::Absent) => self.other_owner().map(|other| Condition::other_owner(&other)),
        }
    }

    /// Objects in the cluster say that another owner serves the Service, or Fly does. Whoever gives the operator another
    /// cluster name would otherwise get a second address and a second bill for each Service, and the first would never end.
    pub(super) fn other_owner(&self) -> Option<OtherOwner> {
        let other_app = self.seen.objects.iter().flat_map(|objects| &objects.other_apps).next();
        let holder = || self.seen.absence.as_ref()?.holder.clone().map(|app| OtherOwner::Holder { app });
        other_app.map(|app| OtherOwner::Objects { app: app.clone() }).or_else(holder)
    }

    /// Another owner's App that our finalizer may guard: whoever changed the cluster name would never hear of it again.
    pub(super) fn guarded(&self) -> Option<OtherOwner> {
        self.other_owner().filter(|_| self.has_finalizer())
    }
}
