//! The plan, tried in a pure world by the thousand.

mod chaos;
mod drift;
mod reality;
mod stories;

use super::step::{ServiceStep, Step};
use super::{Next, Plan};
use crate::tunnel::condition::Shown;
use crate::tunnel::observed::App;
use reality::Reality;

/// Checks what must hold for every plan that any test makes.
fn lint(reality: &Reality, plan: &Plan) {
    let Next::Act(steps) = &plan.next else { return };
    let complain = |what: &str| panic!("{what}: {steps:?}\n{}", reality.story);
    let finalized = reality.service.has_finalizer(&reality.settings.finalizer);
    for step in steps {
        match step {
            Step::For(_, ServiceStep::AddFinalizer | ServiceStep::Show(_)) => {}
            _ if !finalized => complain("something is done before the finalizer is there"),
            Step::For(_, ServiceStep::RemoveFinalizer) if matches!(reality.app, App::Ours(_)) => {
                complain("the finalizer goes while the App is there")
            }
            Step::CreateApp if matches!(reality.app, App::Foreign(_)) => {
                complain("an App of somebody else's is touched")
            }
            Step::AllocateAddress(_) if reality.addresses() > 0 => complain("a second address is bought"),
            _ => {}
        }
        let vanishes = |shown: &Shown| shown.addresses.is_empty() && !reality.service.addresses().is_empty();
        if reality.addresses() > 0 && matches!(step, Step::For(_, ServiceStep::Show(shown)) if vanishes(shown)) {
            complain("an address vanishes from the status while Fly lists it");
        }
    }
}

impl Reality {
    fn addresses(&self) -> usize {
        match &self.app {
            App::Ours(app) => app.addresses.len(),
            _ => 0,
        }
    }
}
