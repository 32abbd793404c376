//! The plan of a tunnel that goes while its Service stays, before an uninstall. The address goes first: if Fly does not let it
//! go, frpc is still there and traffic goes on. What may be another owner's is left alone, the Service included.

use super::remove::release;
use super::{Context, Draft, Go, Halt, Next};
use crate::tunnel::condition::{Condition, Shown};

/// A drain gives up when it found this often that what it took down was made again. Once may be Fly's reads, which lag.
const ROUNDS: u32 = 2;

pub(super) fn plan(context: &Context) -> Draft {
    if context.memory.deeds.refills >= ROUNDS {
        return Draft::new(Next::MadeAgain, None);
    }
    if context.is_only_legacy() {
        return Draft::new(Next::Settled, None);
    }
    let Halt(next, why) = context.drain().err().unwrap_or(Halt(Next::Gone, None));
    if next == Next::Settled
        && let Some(other) = context.guarded()
    {
        return Draft::new(Next::LeftAlone(other.advice_to_drain()), None);
    }
    // A Service of which nothing else is left may show an address that nobody has.
    let last = context.is_last(&next) && (next != Next::Gone || context.seen.shown_addresses().is_empty());
    let writes = !last && !context.may_be_another_owners();
    let shown = writes.then(|| Shown::new(context.addresses_left(), Condition::deleting()));
    Draft { next, why, shown }
}

impl Context<'_> {
    fn drain(&self) -> Go<()> {
        let app = self.app()?;
        self.seen.objects.as_ref().ok_or(super::look(super::step::Look::Objects))?;
        release(app)?;
        self.remove_objects()?;
        self.remove_the_rest(app)
    }
}
