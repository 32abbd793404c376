//! The plan of a tunnel whose Service cannot be served as it is: an annotation is bad, say.

use super::step::{Look, Step};
use super::{Context, Draft, Halt, Next, all, settled};
use crate::tunnel::condition::Condition;
use crate::tunnel::kept;

/// A Service that cannot be served. A door that is to be closed is closed; else what runs is kept as it was, and what is lost of it is made
/// again.
pub(super) fn plan(context: &Context, message: &str, close: bool) -> Draft {
    let refused = || {
        let draft = context.halted(Condition::invalid_service(message));
        Draft { shown: draft.shown.map(|shown| context.refused(message, shown)), ..draft }
    };
    if !context.has_finalizer() {
        // Where it shows an address, something was made for it, and somebody took our finalizer off.
        let has_nothing = context.seen.shown_addresses().is_empty() || context.tunnel.legacy().is_some();
        let Halt(next, why) = if has_nothing { settled() } else { context.add_finalizer().err().unwrap_or(settled()) };
        return Draft { next, why, ..refused() };
    }
    if context.seen.app.is_none() || context.seen.objects.is_none() {
        return Draft::new(Next::Look(Look::Everything), None);
    }
    if close {
        let open = context.situation.lanes().filter(|lane| !lane.machine.cordoned);
        let closed = all(open.map(|lane| Step::Cordon(lane.machine.id.clone())));
        let Halt(next, why) = closed.err().unwrap_or(settled());
        return Draft { next, why, ..refused() };
    }
    if !kept::is_known(context.seen) || context.in_the_way().is_some() {
        return refused();
    }
    let Halt(next, why) = context.serve().err().unwrap_or(settled());
    let shown = context.shown(&[]).map(|shown| context.refused(message, shown));
    Draft { next, why, shown }
}
