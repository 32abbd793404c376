//! The log at its default level: a line for each thing that changed, and none for its repetition.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};
use regex::Regex;
use serde_json::Value;

use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{assert_one_of_everything, ready};
use crate::support::snapshot::{assert_shows, steady};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, wait_until};

/// A Service is made, gets another port, lives through an outage of Fly's, and is deleted. Gives the operator's log.
fn story(lab: &Homelab, format: &str) -> String {
    let mut operator = lab.operator(binary()).without("RUST_LOG").env("LOG_FORMAT", format).start();
    let (web, _) = serving(lab);
    web.set_ports(&[8080, 9090]);
    wait_for_reason(&web, "Updating");
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(lab); // so that the old lane is gone before Fly is
    let down = Answer { status: 503, headers: Default::default(), body: "{\"error\":\"down\"}".into() };
    // So that the log tells that users are served while Fly is down.
    wait_until("frpc's pod is ready", DEADLINE, || ready(lab) == 1);
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(u32::MAX)]);
    wait_until("Fly is down", LONG_DEADLINE, || condition(&web.object()).0 == "FlyUnavailable");
    lab.faults([]);
    wait_until("it serves again", LONG_DEADLINE, || condition(&web.object()).0 == "Serving");
    web.delete();
    web.wait_gone(DEADLINE);
    wait_until("the last step is told", DEADLINE, || operator.log().contains("remove the finalizer"));
    operator.terminate();
    operator.wait(DEADLINE).expect("it ends");
    operator.log()
}

#[test]
fn the_log_tells_what_changed() {
    let lab = Homelab::new();
    let log = story(&lab, "text");
    for line in log.lines() {
        let time = line.split(' ').next().unwrap_or_default();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    }
    assert_shows("log", &steady(&lab, &log));
}

/// The JSON log tells line for line the same as the text log, so both have one snapshot.
#[test]
fn as_json_it_tells_the_same() {
    let lab = Homelab::new();
    let log = story(&lab, "json");
    let as_text = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let subject = ["namespace", "name", "app"].map(|name| format!("{name}={} ", field(name))).concat();
        // A line that is about no tunnel has none of the three fields.
        let subject = if subject == "namespace= name= app= " { String::new() } else { subject };
        format!("{} {:5} {subject}{}\n", field("time"), field("level").to_uppercase(), field("message"))
    };
    assert_shows("log", &steady(&lab, &log.lines().map(as_text).collect::<String>()));
}

/// By this ID Fly's support finds the request. The condition does not have it, as it differs each time.
#[test]
fn a_failures_line_has_flys_id_of_the_request() {
    let lab = Homelab::new();
    lab.fly().set_capacity([("ord".to_owned(), 0)]);
    let operator = lab.operator(binary()).env("RUST_LOG", "info").start();
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "FlyCapacity");
    let log = operator.log();
    let line = log.lines().find(|line| line.contains("FlyCapacity: ")).expect("it is told");
    let id = Regex::new(" fly_request=([^ ]+) ").expect("a pattern").captures(line).map(|found| found[1].to_owned());
    assert!(id.is_some_and(|id| !id.is_empty() && !message.contains(&id)), "{line}");
}
