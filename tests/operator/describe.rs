//! Texts that kubectl shows a person about a Service. They are in `snapshots/describe/`.

use lab::fly::Account;
use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};
use lab::service::ServiceHandle;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::conditions::{condition, wait_for_reason};
use crate::support::events::{posted, wait_for_event};
use crate::support::inventory::{apps, delete_at_fly, ready};
use crate::support::snapshot::{assert_shows, steady};
use crate::support::{DEADLINE, binary, serving, start, wait_until};

/// The Service as the two commands show it that the README names.
fn shown(lab: &Homelab, web: &ServiceHandle) -> String {
    let describe = run(lab, "kubectl describe service web");
    let condition = run(lab, "kubectl get service web -o jsonpath-as-json={.status.conditions[*]}");
    steady(lab, &format!("{}\n{condition}", with_events(lab, web, &describe)))
}

/// Runs the command line. Gives it and its output.
fn run(lab: &Homelab, command: &str) -> String {
    let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--namespace", lab.namespace()]).collect();
    let output = lab.cluster().kubectl(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("$ {command}\n{}", String::from_utf8_lossy(&output.stdout))
}

/// The description and the operator's events. The events of other controllers are left out, and so are the ages,
/// because kubectl makes its columns as wide as they need.
fn with_events(lab: &Homelab, web: &ServiceHandle, describe: &str) -> String {
    let (head, table) = describe.split_once("Events:").expect("kubectl shows events");
    let gaps = Regex::new(" {2,}").expect("a regular expression");
    let row = |line: &str| {
        let [kind, reason, age, _, message] = gaps.splitn(line.trim(), 5).collect::<Vec<_>>()[..] else {
            panic!("{line:?} is no event");
        };
        // An age is "3s", or "3s (x4 over 10m)" if one event counts for several.
        let often = age.split_once(' ').map(|(_, often)| format!("{often}  ")).unwrap_or_default();
        format!("  {kind:7}  {reason:22}  {often}{message}\n")
    };
    let ours: String = table.lines().filter(|line| line.contains("  fly-tunnel-operator  ")).map(row).collect();
    format!("{head}Events:\n{}", in_order(lab, web, &ours))
}

/// The text with the lines of events in the order in which these were written, after all other lines. This is needed
/// because kubectl orders events of one second at random.
fn in_order(lab: &Homelab, web: &ServiceHandle, text: &str) -> String {
    let posted = posted(lab, web);
    let place = |line: &&str| {
        let is_told =
            |event: &Value| ["reason", "message"].iter().all(|f| line.contains(event[f].as_str().unwrap_or("?")));
        posted.iter().position(is_told).map(|place| place + 1)
    };
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(place);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn answer(status: u16, error: &str) -> Fault {
    Fault::Answer(Answer { status, headers: Default::default(), body: json!({ "error": error }).to_string() })
}

#[test]
fn a_service_that_serves_and_gets_another_port() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    wait_for_event(&lab, &web, "EnsuredLoadBalancer");
    assert_shows("describe/serving", &shown(&lab, &web));
    web.set_ports(&[8080, 9090]);
    wait_for_event(&lab, &web, "UpdatedLoadBalancer");
    wait_for_reason(&web, "Serving");
    assert_shows("describe/another-port", &shown(&lab, &web));
}

#[test]
fn a_service_with_a_bad_annotation() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/fly-machine-size", "huge").create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/bad-annotation", &shown(&lab, &web));
}

/// The refusal is Fly's own, because only Fly knows its regions.
#[test]
fn a_region_that_does_not_exist() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/fly-region", "xyz").create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/no-such-region", &shown(&lab, &web));
}

#[test]
fn a_token_that_fly_refuses() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("FLY_API_TOKEN", "fo1_wrong").start();
    let web = lab.service("web").port(8080).create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/token-refused", &shown(&lab, &web));
}

#[test]
fn a_region_without_capacity() {
    let lab = Homelab::new();
    lab.fly().set_capacity([("ord".to_owned(), 0)]);
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/no-capacity", &shown(&lab, &web));
}

/// The other lane serves on, and so the status is True.
#[test]
fn one_of_two_lanes_is_lost_and_the_region_has_no_room() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let replicas = json!({ "metadata": { "annotations": { "fly-tunnel-operator.dev/replicas": "2" } } });
    lab.cluster().kube().merge_patch(&web.path(), &replicas).expect("a second lane is asked for");
    wait_until("two lanes serve", DEADLINE, || condition(&web.object()).1.contains("by 2 lanes"));
    lab.fly().set_capacity([("ord".to_owned(), 0)]);
    let app = apps(&lab)[0].clone();
    let machines = app["machines"].as_array().expect("Machines");
    let lost = machines.iter().find(|machine| machine["metadata"]["fto_lane"] == "1").expect("it has two");
    let id = lost["id"].as_str().expect("an ID");
    delete_at_fly(&lab, &format!("/apps/{}/machines/{id}", app["name"].as_str().expect("a name")));
    wait_until("the Service says why", DEADLINE, || condition(&web.object()).1.contains("no capacity"));
    wait_until("an event says why", DEADLINE, || {
        posted(&lab, &web)
            .iter()
            .any(|event| event["message"].as_str().is_some_and(|text| text.contains("no capacity")))
    });
    assert_shows("describe/a-lane-lost", &shown(&lab, &web));
}

#[test]
fn an_account_on_trial() {
    let lab = Homelab::new();
    lab.fly().set_account(Account { dedicated_v4: false, ..Account::default() });
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/trial", &shown(&lab, &web));
}

#[test]
fn an_organisation_over_its_quota() {
    let lab = Homelab::new();
    lab.fly().set_account(Account { memory_quota: Some(0), ..Account::default() });
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/quota", &shown(&lab, &web));
}

#[test]
fn a_fly_that_is_down() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    lab.faults([Rule::new(answer(503, "upstream unavailable")).to(Target::Fly).times(u32::MAX)]);
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/fly-down", &shown(&lab, &web));
}

#[test]
fn a_service_that_goes_while_fly_refuses_to_delete_its_app() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    let refused = answer(422, "App is locked by an operation that is under way");
    lab.faults([Rule::new(refused).to(Target::Fly).method("DELETE").path("/apps/[^/]+$").times(u32::MAX)]);
    web.delete();
    wait_for_event(&lab, &web, "SyncLoadBalancerFailed");
    assert_shows("describe/going", &shown(&lab, &web));
    lab.faults([]);
    web.wait_gone(DEADLINE);
    wait_for_event(&lab, &web, "DeletedLoadBalancer");
    // The Service is gone and cannot be described any more, so its events are listed.
    let columns = "custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message";
    let selector = "involvedObject.kind=Service,source=fly-tunnel-operator";
    let events = run(&lab, &format!("kubectl get events --field-selector {selector} -o {columns}"));
    assert_shows("describe/gone", &steady(&lab, &in_order(&lab, &web, &events)));
}
