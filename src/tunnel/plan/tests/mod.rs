//! The plan, tried in a pure world by the thousand.

mod chaos;
mod reality;
mod stories;

use super::{Next, Plan, Settings, Shown, Step};
use crate::service::Service;
use crate::tunnel::names::Owner;
use crate::tunnel::observed::App;
use reality::Reality;

/// A Service `default/web`, whose it is, and the settings for it.
pub(crate) fn a_service() -> (Service, Owner, Settings) {
    let Reality { service, owner, settings, .. } = reality::reality();
    (service, owner, settings)
}

/// What must hold for every plan that any test makes.
fn lint(reality: &Reality, plan: &Plan) {
    let Next::Act(steps) = &plan.next else { return };
    let complain = |what: &str| panic!("{what}: {steps:?}\n{}", reality.story);
    let finalized = reality.service.has_finalizer(&reality.settings.finalizer);
    for step in steps {
        match step {
            Step::AddFinalizer => {}
            Step::ShowStatus(_) => {}
            _ if !finalized => complain("something is done before the finalizer is there"),
            Step::RemoveFinalizer if matches!(reality.app, App::Ours(_)) => {
                complain("the finalizer goes while the App is there")
            }
            Step::CreateApp if matches!(reality.app, App::Foreign(_)) => {
                complain("an App of somebody else's is touched")
            }
            Step::AllocateAddress if reality.addresses() > 0 => complain("a second address is bought"),
            _ => {}
        }
        let vanishes = |shown: &Shown| shown.addresses.is_empty() && !reality.service.addresses().is_empty();
        if reality.addresses() > 0 && matches!(step, Step::ShowStatus(shown) if vanishes(shown)) {
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
