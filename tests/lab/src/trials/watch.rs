//! Things that must never happen on the way, whatever strikes.

use std::net::IpAddr;

use serde_json::Value;

use super::story::{self, Plot, Stage, Story};
use crate::homelab::Homelab;
use crate::recorder::{Request, Target};

/// A finalizer of ours begins so.
const FINALIZER: &str = "fly-tunnel-operator.dev/finalizer";

/// A witness of one story.
pub(super) struct Watch {
    plot: Plot,
    lanes: usize,
    /// The one address that the Service may show, once it is known.
    address: Option<IpAddr>,
    /// The Service has shown it in this story, and goes on to.
    is_shown: bool,
    /// Our finalizer is on the Service, as far as anybody saw.
    guarded: bool,
}

impl Watch {
    pub(super) fn new(story: &Story, stage: &Stage) -> Watch {
        // A Service that was made again shows nothing yet.
        let is_shown = stage.address.is_some() && story.plot != Plot::ClusterIp;
        Watch { plot: story.plot, lanes: story.lanes, address: stage.address, is_shown, guarded: is_shown }
    }

    /// The Service is to show its address in this story.
    pub(super) fn lacks(&self) -> Option<String> {
        (!self.is_shown && !self.plot.ends_with_nothing()).then(|| "no address was shown".to_owned())
    }

    /// Looks once. The Service was read before: an App that is there afterwards was there when the finalizer went.
    pub(super) fn look(&mut self, lab: &Homelab, service: &Value) -> Result<(), String> {
        let apps = apps(lab);
        self.addresses(&story::shown(service))?;
        let finalizers = service["metadata"]["finalizers"].as_array();
        let has_finalizer =
            finalizers.into_iter().flatten().any(|name| name.as_str().is_some_and(|n| n.starts_with(FINALIZER)));
        self.guarded |= has_finalizer;
        let unguarded = self.plot != Plot::ClusterIp && !has_finalizer;
        if unguarded && !apps.is_empty() {
            return Err(format!("an App is there, and the Service has no finalizer of ours: {apps:?}"));
        }
        if self.guarded && unguarded && !self.plot.ends_with_nothing() {
            return Err("the finalizer was taken away".to_owned());
        }
        let machines = if self.plot.moves() { 2 * self.lanes } else { self.lanes };
        let count = |app: &Value, what: &str| app[what].as_array().map_or(0, Vec::len);
        match &apps[..] {
            [] => Ok(()),
            [app] if count(app, "ips") > 1 => Err(format!("a second address is billed: {app}")),
            [app] if count(app, "machines") > machines => Err(format!("more Machines than lanes are billed: {app}")),
            [_] => Ok(()),
            _ => Err(format!("two Apps: {apps:?}")),
        }
    }

    fn addresses(&mut self, shown: &[IpAddr]) -> Result<(), String> {
        match (shown, self.address) {
            ([], _) if self.is_shown && !self.plot.ends_with_nothing() => {
                Err("the address is not shown any more".to_owned())
            }
            ([], _) => Ok(()),
            ([address], None) => {
                (self.address, self.is_shown) = (Some(*address), true);
                Ok(())
            }
            ([address], Some(known)) if *address == known => {
                self.is_shown = true;
                Ok(())
            }
            _ => Err(format!("the address changed: {shown:?} instead of {:?}", self.address)),
        }
    }

    /// Looks at all that was written to the status: a change may have been too short for a look.
    pub(super) fn verdict(&mut self, requests: &[Request]) -> Result<(), String> {
        let applies = |r: &&Request| {
            r.to == Target::Kubernetes && r.method == "PATCH" && r.path.contains("/status?fieldManager=")
        };
        let mut was_shown = self.plot != Plot::Creation && self.plot != Plot::ClusterIp;
        for request in requests.iter().filter(applies) {
            let Ok(body) = serde_json::from_str::<Value>(&request.body) else { continue };
            let shown = story::shown(&body);
            if was_shown && shown.is_empty() && !self.plot.ends_with_nothing() {
                return Err(format!("a write takes the address away: {}", request.body));
            }
            if shown.iter().any(|address| Some(*address) != self.address) {
                return Err(format!("a write shows another address than {:?}: {}", self.address, request.body));
            }
            was_shown |= !shown.is_empty();
        }
        Ok(())
    }
}

/// The Apps of the lab's organisation.
pub(super) fn apps(lab: &Homelab) -> Vec<Value> {
    let state = lab.fly().state();
    state["apps"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADDRESS: &str = "192.0.2.1";

    fn watch(plot: Plot) -> Watch {
        Watch { plot, lanes: 1, address: ADDRESS.parse().ok(), is_shown: true, guarded: true }
    }

    /// A write of a status that shows these addresses.
    fn write(addresses: &[&str]) -> Request {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        Request {
            to: Target::Kubernetes,
            from: String::new(),
            struck: false,
            time: String::new(),
            method: "PATCH".to_owned(),
            path: "/api/v1/namespaces/a/services/web/status?fieldManager=x&force=true".to_owned(),
            status: Some(200),
            body: json!({ "status": { "loadBalancer": { "ingress": ingress } } }).to_string(),
            user_agent: String::new(),
        }
    }

    #[test]
    fn an_address_that_changes_or_goes_is_seen() {
        const OTHER: &str = "192.0.2.2";
        for (plot, writes, well) in [
            (Plot::Rest, vec![vec![ADDRESS], vec![ADDRESS]], true),
            (Plot::Rest, vec![vec![], vec![ADDRESS]], false),
            (Plot::Rest, vec![vec![ADDRESS, OTHER]], false),
            (Plot::Creation, vec![vec![], vec![ADDRESS]], true),
            (Plot::Creation, vec![vec![ADDRESS], vec![], vec![ADDRESS]], false),
            (Plot::Deletion, vec![vec![ADDRESS], vec![]], true),
            (Plot::Deletion, vec![vec![OTHER]], false),
        ] {
            let requests: Vec<Request> = writes.iter().map(|shown| write(shown)).collect();
            assert_eq!(watch(plot).verdict(&requests).is_ok(), well, "{writes:?}");
        }
        let parsed = |ip: &str| vec![ip.parse().expect("an address")];
        for (plot, shown, well) in [
            (Plot::Rest, parsed(ADDRESS), true),
            (Plot::Rest, parsed(OTHER), false),
            (Plot::Rest, vec![], false),
            (Plot::Deletion, vec![], true),
        ] {
            assert_eq!(watch(plot).addresses(&shown).is_ok(), well, "{shown:?}");
        }
    }
}
