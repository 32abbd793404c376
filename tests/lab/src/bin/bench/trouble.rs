//! A tunnel that does not come to rest: its new lane does not start, or somebody scales its frpc to zero again and again. It is tried later
//! each time, and told once.

use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::{Value, json};

use crate::row::Row;
use crate::{log, progress, services};

const MINUTE: Duration = Duration::from_secs(60);

/// How many minutes each of the two is watched.
const MINUTES: usize = 4;

/// Each API, at most, in one minute: 12 polls, and what each of five attempts looks at and writes, later each time.
const MOST_REQUESTS: f64 = 60.0;

/// One of each kind, and not again for ten minutes.
const MOST_EVENTS: f64 = 4.0;

pub fn run(operator: &Path) {
    let lab = services::lab(Settings::default(), true);
    let running = services::operator(&lab, operator).start();
    lab.service("web").port(8080).create();
    log::wait_for(&lab, 0, 1, log::shows_address);
    wait_quiet(&lab);
    drop(running);

    let bad = "registry.example.com/none/no-such-image:bad";
    let running = services::operator(&lab, operator).arg("--frps-image").arg(bad).start();
    watch(&lab, "bad frps image", || ());
    drop(running);

    let from = lab.requests().len();
    let _running = services::operator(&lab, operator).start();
    log::wait_for(&lab, from, 1, log::shows_address);
    wait_quiet(&lab);
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", lab.operator_namespace());
    watch(&lab, "frpc scaled to zero", || {
        for deployment in lab.cluster().kube().list(&deployments).expect("a list") {
            let name = deployment["metadata"]["name"].as_str().expect("a name");
            let none = json!({ "spec": { "replicas": 0 } });
            lab.cluster().kube().merge_patch(&format!("{deployments}/{name}"), &none).expect("it is scaled");
        }
    });
}

fn wait_quiet(lab: &Homelab) {
    log::wait_quiet(lab, lab.requests().len());
}

/// Watches for some minutes, does something at the begin of each, and prints the rows.
fn watch(lab: &Homelab, what: &str, each_minute: impl Fn()) {
    progress(format_args!("{what}: watching for {MINUTES} minutes"));
    let mut minutes = Vec::new();
    for _ in 0..MINUTES {
        let from = lab.requests().len();
        each_minute();
        thread::sleep(MINUTE);
        minutes.push(lab.requests().split_off(from));
    }
    for to in [Target::Fly, Target::Kubernetes] {
        let counts: Vec<usize> = minutes.iter().map(|minute| log::count(minute, |request| request.to == to)).collect();
        let most = counts.iter().max().copied().unwrap_or_default();
        let note = format!("minute by minute {counts:?}");
        Row::new(format!("requests a minute to {to:?}, {what}"), most as f64, "")
            .bound(MOST_REQUESTS)
            .note(note)
            .print();
    }
    let events: Vec<String> = minutes.iter().flatten().filter(|request| log::is_event(request)).map(reason).collect();
    let note = events.join(", ");
    Row::new(format!("events in {MINUTES} minutes, {what}"), events.len() as f64, "")
        .bound(MOST_EVENTS)
        .note(note)
        .print();
}

fn reason(event: &Request) -> String {
    let event: Value = serde_json::from_str(&event.body).unwrap_or_default();
    event["reason"].as_str().unwrap_or_default().to_owned()
}
