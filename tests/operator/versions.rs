//! The versions of Kubernetes that are served. Only one can be run here, so a fault makes it call itself an older one.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};
use serde_json::json;

use crate::support::{DEADLINE, binary, serving, start};

fn tells(version: serde_json::Value) -> Rule {
    let answer = Answer { status: 200, headers: Default::default(), body: version.to_string() };
    Rule::new(Fault::Answer(answer)).to(Target::Kubernetes).path("^/version").times(u32::MAX)
}

#[test]
fn an_older_server_is_named_as_such_at_the_start() {
    let lab = Homelab::new();
    lab.faults([tells(json!({ "major": "1", "minor": "30", "gitVersion": "v1.30.4+k3s1" }))]);
    let mut operator = lab.operator(binary()).start();
    assert_eq!(operator.wait(DEADLINE).and_then(|status| status.code()), Some(1), "{}", operator.log());
    let log = operator.log();
    assert!(log.contains("Kubernetes v1.30.4+k3s1, and 1.31 or newer is needed"), "{log}");
    assert!(lab.requests().iter().all(|request| request.method == "GET"), "nothing was changed");
}

#[test]
fn a_server_whose_version_is_not_understood_or_not_told_is_given_a_try() {
    let forbidden = Answer { status: 403, headers: Default::default(), body: String::new() };
    for rule in [
        tells(json!({ "major": "", "minor": "", "gitVersion": "custom" })),
        Rule::new(Fault::Answer(forbidden)).to(Target::Kubernetes).path("^/version"),
    ] {
        let lab = Homelab::new();
        lab.faults([rule]);
        let _operator = start(&lab);
        serving(&lab);
    }
}
