//! Orphans: Apps of this owner that no Service asks for, and objects of such Apps. Somebody took our finalizer away while no operator
//! ran, say. They are billed, so people are told; they are deleted only where the user said so. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sweep::Sweep;
use crate::report::Orphan;
use crate::telemetry::cost::Cents;
use crate::tunnel::names::Owner;

/// An App is an orphan once so many sweeps in a row showed it as one: Fly's lists lag.
const SWEEPS: u32 = 2;

/// It is deleted no sooner than this after it was first seen.
const GRACE: Duration = Duration::from_secs(600);

/// The orphans, as sweeps showed them.
#[derive(Default)]
pub struct Orphans {
    known: BTreeMap<String, Known>,
}

struct Known {
    since: Duration,
    sweeps: u32,
    cost: Cents,
}

/// Orphans that something is to be done about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// People are to be told of these.
    pub found: Vec<Orphan>,
    /// They are old enough to be deleted.
    pub due: Vec<Orphan>,
}

impl Orphans {
    /// Takes in a sweep whose lists of Apps and of objects came in. `is_claimed` says whether somebody asks for an App.
    pub fn swept(&mut self, sweep: &Sweep, owner: &Owner, is_claimed: impl Fn(&str) -> bool, now: Duration) -> News {
        let (Ok(fly), Ok(objects)) = (&sweep.fly, &sweep.objects) else { return News::default() };
        let mut seen: BTreeMap<&str, Cents> = BTreeMap::new();
        seen.extend(objects.keys().map(|app| (app.as_str(), 0)));
        let ours = fly.apps.iter().filter(|(name, app)| app.network == owner.network(name));
        seen.extend(ours.map(|(name, app)| (name.as_str(), app.cost)));
        seen.retain(|app, _| !is_claimed(app));
        // A list that is not whole may lack what is there.
        self.known.retain(|app, _| seen.contains_key(app.as_str()) || !fly.complete && !is_claimed(app));
        let mut news = News::default();
        for (app, cost) in seen {
            let known = self.known.entry(app.to_owned()).or_insert(Known { since: now, sweeps: 0, cost });
            (known.sweeps, known.cost) = (known.sweeps.saturating_add(1), cost);
            let labelled = objects.get(app).and_then(|objects| objects.tunnel.clone());
            let tunnel = labelled.or_else(|| owner.tunnel_of(app)).filter(|tunnel| owner.app(tunnel) == app);
            let orphan = Orphan { app: app.to_owned(), cost, tunnel };
            if known.sweeps == SWEEPS {
                news.found.push(orphan.clone());
            }
            if known.sweeps >= SWEEPS && now - known.since >= GRACE {
                news.due.push(orphan);
            }
        }
        news
    }

    /// Those that people were told of, with an estimate of the bill of each for a month.
    pub fn told(&self) -> impl Iterator<Item = (&str, Cents)> {
        self.known.iter().filter(|(_, known)| known.sweeps >= SWEEPS).map(|(app, known)| (app.as_str(), known.cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::sweep::{SweptApp, SweptApps};
    use crate::examples;
    use crate::render::objects::read::SweptObjects;
    use crate::tunnel::TunnelId;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A sweep that shows these Apps, with their networks, and objects of these.
    fn sweep(apps: &[(&str, &str)], objects: &[(&str, TunnelId)], complete: bool) -> Sweep {
        let app = |(name, network): &(&str, &str)| {
            ((*name).to_owned(), SweptApp { network: (*network).to_owned(), cost: 402, ..SweptApp::default() })
        };
        let object = |(app, tunnel): &(&str, TunnelId)| {
            ((*app).to_owned(), SweptObjects { tunnel: Some(tunnel.clone()), ..SweptObjects::default() })
        };
        Sweep {
            began: Duration::ZERO,
            permit: None,
            fly: Ok(SweptApps { apps: apps.iter().map(app).collect(), complete }),
            objects: Ok(objects.iter().map(object).collect()),
        }
    }

    #[test]
    fn an_app_that_no_service_asks_for_is_told_once_and_due_after_ten_minutes() {
        let owner = examples::owner();
        let (web, shop) = (examples::id("web"), examples::id("shop"));
        let (ours, claimed) = (owner.app(&web), owner.app(&shop));
        let networks = (owner.network(&ours), owner.network(&claimed));
        let apps = [
            (ours.as_str(), networks.0.as_str()),
            (claimed.as_str(), networks.1.as_str()),
            ("lb-default-web-0123", "another owner's"),
            ("somebody-elses", "default"),
        ];
        let orphan = Orphan { app: ours.clone(), cost: 402, tunnel: Some(web) };
        let mut orphans = Orphans::default();
        let mut swept =
            |minute: u32| orphans.swept(&sweep(&apps, &[], true), &owner, |app| app == claimed, minute * MINUTE);
        assert_eq!(swept(0), News::default(), "one list is not believed");
        assert_eq!(swept(1), News { found: vec![orphan.clone()], due: Vec::new() });
        assert_eq!(swept(2), News::default(), "told once");
        assert_eq!(swept(10), News { found: Vec::new(), due: vec![orphan] });
        assert_eq!(orphans.told().collect::<Vec<_>>(), [(ours.as_str(), 402)]);
        orphans.swept(&sweep(&[], &[], false), &owner, |_| false, 11 * MINUTE);
        assert_eq!(orphans.told().count(), 1, "the list is not whole");
        orphans.swept(&sweep(&[], &[], true), &owner, |_| false, 12 * MINUTE);
        assert_eq!(orphans.told().count(), 0);
    }

    #[test]
    fn an_app_that_is_asked_for_again_is_none_any_more() {
        let owner = examples::owner();
        let app = owner.app(&examples::id("web"));
        let network = owner.network(&app);
        let apps = [(app.as_str(), network.as_str())];
        let mut orphans = Orphans::default();
        for (minute, claimed) in [(0, false), (5, false), (6, true), (20, false)] {
            let news = orphans.swept(&sweep(&apps, &[], true), &owner, |_| claimed, minute * MINUTE);
            assert_eq!(news.due, [], "after {minute} minutes");
        }
    }

    #[test]
    fn objects_of_an_app_that_is_not_computed_are_told_and_are_nobodys_to_delete() {
        let owner = examples::owner();
        let objects = [("lb-default-web-0123", examples::id("web"))];
        let mut orphans = Orphans::default();
        let mut swept = |minute: u32| orphans.swept(&sweep(&[], &objects, true), &owner, |_| false, minute * MINUTE);
        swept(0);
        let expected = Orphan { app: "lb-default-web-0123".into(), cost: 0, tunnel: None };
        assert_eq!(swept(1).found, [expected]);
    }
}
