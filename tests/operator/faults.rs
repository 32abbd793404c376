//! A few of the trials of `scripts/bench faults`, so that its machinery is used each time: one fault at one request of a creation, a
//! change and a deletion. The whole of it takes hours.

use std::path::Path;
use std::time::Duration;

use lab::trials::{self, Outcome, STORIES, Trial};

use crate::support::binary;

/// The trials that are run, by parts of their names. None of them is about silence, which takes half a minute.
const TRIALS: [&str; 8] = [
    "creation: POST Fly /v1/apps/*/ip_assignments #2: lost",
    "creation: POST Fly /v1/apps/*/machines #1: cut",
    "size: POST Fly /v1/apps/*/machines #1: 429 with Retry-After",
    "size: DELETE Fly /v1/apps/*/machines/*?force #1: killed afterwards",
    "deletion: DELETE Fly /v1/apps/*?force #1: a page of a proxy",
    "deletion: DELETE Fly /v1/apps/*/ip_assignments/* #1: refused",
    "deletion: DELETE Kubernetes /api/v1/namespaces/*/secrets/* #1: 403 three times",
    "deletion: PATCH Kubernetes /api/v1/namespaces/*/services/web/status #1: 500",
];

#[test]
fn after_one_fault_at_one_request_all_is_well() {
    let wanted = |story: &str| TRIALS.iter().any(|name| name.starts_with(&format!("{story}:")));
    let all = trials::all(binary(), STORIES.iter().filter(|story| wanted(story.name)));
    let chosen: Vec<Trial> = all.into_iter().filter(|trial| TRIALS.contains(&trial.to_string().as_str())).collect();
    assert_eq!(chosen.len(), TRIALS.len(), "each names a request that is made: {TRIALS:#?}");
    trials::run(binary(), &chosen, chosen.len(), |trial, verdict| {
        assert!(matches!(verdict.outcome, Outcome::Well), "{trial}: {:?}", verdict.outcome);
    });

    // An operator that ends at once does not bring a story to its end, and that shows.
    let mut story = *chosen[0].story;
    story.bound = Duration::from_secs(3);
    let verdict = Trial { story: Box::leak(Box::new(story)), ..chosen[0].clone() }.run(Path::new("/bin/true"));
    let Outcome::Failed(why) = &verdict.outcome else { panic!("{:?}", verdict.outcome) };
    assert!(why.starts_with("after 3s: ") && why.contains("0 Apps") && verdict.ended > 0, "{why}");
}
