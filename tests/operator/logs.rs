//! The log at its default level: a line for each thing that changed, and none for its repetition.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Request, Rule, Target};
use serde_json::Value;

use crate::snapshot::{assert_shows, steady};
use crate::{
    DEADLINE, LONG_DEADLINE, assert_one_of_everything, binary, condition, serving, wait_for_reason, wait_until,
};

/// A Service is made, gets another port, lives through an outage of Fly's, and goes.
fn story(lab: &Homelab, format: &str) -> String {
    let mut operator = lab.operator(binary()).without("RUST_LOG").env("LOG_FORMAT", format).start();
    let (web, _) = serving(lab);
    web.set_ports(&[8080, 9090]);
    wait_for_reason(&web, "Updating");
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(lab); // so that the old lane is gone before Fly is
    let down = Answer { status: 503, headers: Default::default(), body: "{\"error\":\"down\"}".into() };
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(4)]);
    let failed = |requests: &[Request]| requests.iter().filter(|r| r.status == Some(503)).count();
    lab.wait_requests(LONG_DEADLINE, |requests| failed(requests) == 4);
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

/// Line for line the same.
#[test]
fn as_json_it_tells_the_same() {
    let lab = Homelab::new();
    let log = story(&lab, "json");
    let as_text = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let subject = ["namespace", "name", "app"].map(|name| format!("{name}={} ", field(name))).concat();
        // What is about no tunnel has none of the three.
        let subject = if subject == "namespace= name= app= " { String::new() } else { subject };
        format!("{} {:5} {subject}{}\n", field("time"), field("level").to_uppercase(), field("message"))
    };
    assert_shows("log", &steady(&lab, &log.lines().map(as_text).collect::<String>()));
}
