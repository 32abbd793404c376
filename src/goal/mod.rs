//! The goal of the process, as one value that the loop asks. Pure.

mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::tunnel::TunnelId;
pub use progress::Passed;
use progress::Progress;

/// `--once` and `--drain` try what fails so often.
pub const TRIES: u32 = 4;

/// The purpose of the process.
pub enum Goal {
    /// It serves until it is told to end.
    Serve,
    /// It serves until nothing is left to do or to wait for.
    Once(Progress),
    /// It takes down every tunnel of this owner.
    Drain {
        progress: Progress,
        /// Where the operator's frpc and Lease are.
        namespace: String,
        /// The tunnels that are down, and since when.
        down: BTreeMap<TunnelId, Duration>,
    },
}

impl Goal {
    /// Serve until nothing is left to do or to wait for.
    pub fn once() -> Goal {
        Goal::Once(Progress::new(TRIES))
    }

    /// Take down every tunnel of this owner, whose operator is in that namespace.
    pub fn drain(namespace: &str) -> Goal {
        Goal::Drain { progress: Progress::new(TRIES), namespace: namespace.to_owned(), down: BTreeMap::new() }
    }

    /// Takes note that a pass over this tunnel begins.
    pub fn begun(&mut self, id: &TunnelId) {
        if let Some(progress) = self.progress_mut() {
            progress.forget(id);
        }
    }

    /// Takes note of how a pass over this tunnel ended, where nobody changed the Service meanwhile.
    pub fn passed(&mut self, id: &TunnelId, passed: Passed) {
        let drains = matches!(self, Goal::Drain { .. });
        if let Some(progress) = self.progress_mut() {
            // A drain leaves the Go operator's tunnels as they are, and that is well.
            let passed = if drains && passed.is_left_to_the_go_operator() { Passed::settled_well() } else { passed };
            progress.passed(id, passed);
        }
    }

    /// Takes note that nothing is left of this tunnel at that time.
    pub fn gone(&mut self, id: &TunnelId, now: Duration) {
        if let Goal::Drain { down, .. } = self {
            down.insert(id.clone(), now);
        }
    }

    /// A list of the Services that began at that time shows a tunnel that is not the Go operator's: what to say at the end, if
    /// it was taken down before, and so is made again. Each round of such a fight would be an address that is billed.
    pub fn listed(&self, id: &TunnelId, began: Duration) -> Option<Vec<String>> {
        match self {
            Goal::Drain { down, .. } if down.get(id).is_some_and(|down| *down < began) => Some(self.made_again(id)),
            Goal::Serve | Goal::Once(_) | Goal::Drain { .. } => None,
        }
    }

    /// Somebody makes this tunnel again, which was taken down: what to say at the end.
    pub fn made_again(&self, id: &TunnelId) -> Vec<String> {
        match self {
            Goal::Serve | Goal::Once(_) => Vec::new(),
            Goal::Drain { namespace, .. } => vec![made_again(id, namespace)],
        }
    }

    /// The cluster could not be asked, so often in a row: what to say at the end, if it is one.
    pub fn poll_failed(&self, times: u32, error: &str) -> Option<Vec<String>> {
        self.progress().filter(|progress| times >= progress.tries())?;
        Some(vec![format!("the cluster cannot be asked: {error}")])
    }

    /// This process does not lead any more: what to say at the end, if it is one.
    pub fn lost_the_lease(&self) -> Option<Vec<String>> {
        self.progress().map(|_| vec!["the Lease was lost before all was done".into()])
    }

    /// No pass is under way: what is not as it should be, where no tunnel is left to be worked on.
    pub fn verdict<'a>(&self, tunnels: impl Iterator<Item = &'a TunnelId>) -> Option<Vec<String>> {
        self.progress()?.verdict(tunnels)
    }

    /// The process was told to end: what is not done.
    pub fn stopped<'a>(&self, tunnels: impl Iterator<Item = &'a TunnelId>) -> Vec<String> {
        self.progress().map(|progress| progress.unfinished(tunnels)).unwrap_or_default()
    }

    fn progress(&self) -> Option<&Progress> {
        match self {
            Goal::Serve => None,
            Goal::Once(progress) | Goal::Drain { progress, .. } => Some(progress),
        }
    }

    fn progress_mut(&mut self) -> Option<&mut Progress> {
        match self {
            Goal::Serve => None,
            Goal::Once(progress) | Goal::Drain { progress, .. } => Some(progress),
        }
    }
}

/// Tells a drain's user who makes again what was taken down.
pub fn made_again(id: &TunnelId, namespace: &str) -> String {
    format!(
        "the tunnel of the Service {id} was taken down, and is made again: another operator of this class runs, whose \
         --namespace is not {namespace}, or which has --leader-elect=false. Give --drain the same --namespace, or end that \
         operator, and drain again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::id;

    #[test]
    fn a_tunnel_of_the_go_operator_is_well_for_a_drain_alone() {
        let failure = "LegacyTunnel: nothing is touched";
        let told = vec![format!("default/web: {failure}")];
        for (mut goal, verdict) in [
            (Goal::Serve, None),
            (Goal::once(), Some(told)),
            (Goal::drain("fly-tunnel-operator-system"), Some(Vec::new())),
        ] {
            goal.passed(&id("web"), Passed::Settled { failure: Some(failure.into()), of_the_go_operator: true });
            assert_eq!(goal.verdict([&id("web")].into_iter()), verdict);
        }
    }

    #[test]
    fn a_drain_ends_where_a_later_list_shows_what_it_took_down() {
        let at = Duration::from_secs;
        let mut drain = Goal::drain("fly-tunnel-operator-system");
        assert_eq!(drain.listed(&id("web"), at(1)), None, "it was not taken down yet");
        drain.gone(&id("web"), at(10));
        assert_eq!(drain.listed(&id("web"), at(9)), None, "the list may be older");
        let end = drain.listed(&id("web"), at(11)).expect("it ends");
        assert!(end[0].contains("default/web") && end[0].contains("--namespace"), "{end:?}");
    }
}
