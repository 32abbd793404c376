//! How far a process is that ends by itself.

use std::collections::BTreeMap;

use crate::tunnel::TunnelId;

/// How a pass over a tunnel ended, as far as a goal cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Nothing is left to do. `failure` is what the Service shows, if it shows a failure.
    Settled { failure: Verdict, of_the_go_operator: bool },
    /// It is another owner's, for this reason.
    LeftAlone(String),
    /// It failed so often in a row, with this text.
    Failed { times: u32, text: String },
    /// It waits for something that was waited for in vain so far, as this text tells.
    InVain(String),
    /// It is still to be worked on.
    Unfinished,
}

/// The text says what is not as it should be; `None` means that all is well.
pub type Verdict = Option<String>;

impl Passed {
    pub(super) fn settled_well() -> Passed {
        Passed::Settled { failure: None, of_the_go_operator: false }
    }

    pub(super) fn is_left_to_the_go_operator(&self) -> bool {
        matches!(self, Passed::Settled { of_the_go_operator: true, .. })
    }
}

/// The tunnels for which nothing is left to do or to wait for.
pub struct Progress {
    tries: u32,
    at_rest: BTreeMap<TunnelId, Verdict>,
}

impl Progress {
    /// Nothing is done yet. What fails is tried so often.
    pub(super) fn new(tries: u32) -> Progress {
        Progress { tries, at_rest: BTreeMap::new() }
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn forget(&mut self, id: &TunnelId) {
        self.at_rest.remove(id);
    }

    pub(super) fn passed(&mut self, id: &TunnelId, passed: Passed) {
        let verdict = match passed {
            Passed::Settled { failure, .. } => failure,
            Passed::LeftAlone(text) | Passed::InVain(text) => Some(text),
            Passed::Failed { times, text } if times >= self.tries => Some(text),
            Passed::Failed { .. } | Passed::Unfinished => return,
        };
        self.at_rest.insert(id.clone(), verdict);
    }

    pub(super) fn verdict<'a>(&self, tunnels: impl Iterator<Item = &'a TunnelId>) -> Option<Vec<String>> {
        let verdicts: Option<Vec<_>> = tunnels.map(|id| Some((id, self.at_rest.get(id)?))).collect();
        Some(verdicts?.into_iter().filter_map(|(id, why)| Some(format!("{id}: {}", why.as_ref()?))).collect())
    }

    pub(super) fn unfinished<'a>(&self, tunnels: impl Iterator<Item = &'a TunnelId>) -> Vec<String> {
        let left = tunnels.filter_map(|id| match self.at_rest.get(id) {
            Some(verdict) => Some(format!("{id}: {}", verdict.as_ref()?)),
            None => Some(format!("{id}: not done yet")),
        });
        ["it was told to end before all was done".into()].into_iter().chain(left).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::id;

    #[test]
    fn a_verdict_waits_for_every_tunnel() {
        let (web, shop) = (id("web"), id("shop"));
        let mut progress = Progress::new(2);
        let failed = |times| Passed::Failed { times, text: "down".into() };
        progress.passed(&web, Passed::settled_well());
        for (passed, verdict) in [
            (Passed::Unfinished, None),
            (failed(1), None),
            (failed(2), Some(vec!["default/shop: down".to_owned()])),
            (Passed::LeftAlone("theirs".into()), Some(vec!["default/shop: theirs".to_owned()])),
            (Passed::settled_well(), Some(Vec::new())),
        ] {
            progress.passed(&shop, passed.clone());
            assert_eq!(progress.verdict([&web, &shop].into_iter()), verdict, "{passed:?}");
        }
        progress.forget(&web);
        assert_eq!(progress.verdict([&web, &shop].into_iter()), None);
        assert_eq!(progress.unfinished([&web, &shop].into_iter())[1..], ["default/web: not done yet"]);
    }
}
