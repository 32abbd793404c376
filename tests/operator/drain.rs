//! `--drain`, before an uninstall: with the operator up, down, and frozen in the middle of its work.

use std::time::{Duration, SystemTime};

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::operator::{Operator, RunningOperator};
use lab::recorder::{Answer, Fault, Gate, Request, Rule, Target};
use lab::service::ServiceHandle;
use serde_json::{Map, Value, json};

use crate::client::assert_answers;
use crate::election::{LEASE, candidate, holder, is_lease, leader, lease, reigns, steps, time};
use crate::metrics::{ask, status};
use crate::{
    DEADLINE, LONG_DEADLINE, apps, assert_nothing_left, assert_one_of_everything, objects, serving, start,
    wait_for_reason, wait_until,
};

/// Runs `--drain` to its end.
fn drain(lab: &Homelab) -> (Option<i32>, String) {
    let drain = candidate(lab, "drain").arg("--drain").env("RUST_LOG", "info").start();
    ended(drain)
}

/// Waits until it ends. Gives its exit code and what it said.
pub fn ended(mut drain: RunningOperator) -> (Option<i32>, String) {
    let status = drain.wait(LONG_DEADLINE).unwrap_or_else(|| panic!("it does not end: {}", drain.log()));
    (status.code(), drain.log())
}

/// The Service is there as if nobody had ever served it.
fn assert_untouched(service: &ServiceHandle) {
    let object = service.object();
    assert_eq!(object["status"], json!({ "loadBalancer": {} }), "{object:#}");
    assert!(object["metadata"]["finalizers"].is_null() && !object["spec"].is_null(), "{object:#}");
}

/// Takes away what the tunnel of the Service has in the cluster.
fn delete_objects(lab: &Homelab, service: &str) {
    let of_it = format!("--selector=fly-tunnel-operator.dev/service-name={service}");
    let namespace = format!("--namespace={}", lab.operator_namespace());
    let deleted = lab.cluster().kubectl(&["delete", "deployments,configmaps,secrets", &of_it, &namespace]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
}

#[test]
fn it_takes_every_tunnel_down_and_no_operator_that_runs_makes_them_again() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    let other = lab.service("other").port(8081).create();
    other.address(DEADLINE);
    wait_for_reason(&other, "Serving");
    let bad = lab.service("bad").port(8082).annotation("fly-tunnel-operator.dev/replicas", "9").create();
    wait_for_reason(&bad, "InvalidService");

    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    [&web, &other, &bad].into_iter().for_each(assert_untouched);
    for said in [
        "draining: 3 tunnels of the class",
        "until whoever led before must have stopped",
        "delete the App",
        "is down; no operator that runs now makes them again",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }

    // It began nothing before the operator must have stopped, and that one nothing afterwards.
    let taken = reigns(&lab).into_iter().find(|(from, ..)| from == "drain").expect("it took the Lease").1;
    let first = time(&steps(&lab, "drain")[0]);
    assert!(first.duration_since(taken).expect("later") >= LEASE);
    assert!(steps(&lab, "a").iter().all(|step| time(step) < first));

    // Whoever ran before stands by for good, and says why.
    wait_until("the operator says so", DEADLINE, || operator.log().contains("(--drain), and they stay down"));
    let (unready, _, text) = ask(&operator, "/readyz").expect("an answer");
    assert!(unready == 503 && text.contains("start this operator again"), "{unready} {text}");
    let since = SystemTime::now();
    wait_until("it had time to take an expired Lease", DEADLINE, || {
        let looks = lab.requests().into_iter().filter(|r| r.from == "a" && is_lease(r) && time(r) > since).count();
        since.elapsed().is_ok_and(|passed| passed > LEASE * 2) && looks > 8
    });
    assert!(!holder(&lab).is_empty() && reigns(&lab).last().is_some_and(|(from, ..)| from == "drain"));
    assert_nothing_left(&lab);
    [&web, &other, &bad].into_iter().for_each(assert_untouched);

    // Whoever begins now is wanted: an operator that is installed again.
    let again = leader(&lab, "b");
    wait_until("it is ready", DEADLINE, || status(&again, "/readyz") == Some(200));
    wait_until("the other stands by for it", DEADLINE, || status(&operator, "/readyz") == Some(200));
    web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
}

#[test]
fn it_needs_no_operator() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    operator.kill();
    // Of a Service that is deleted meanwhile nobody else takes the finalizer away.
    let going = lab.service("going").port(8081).create();
    let finalizer = web.object()["metadata"]["finalizers"].clone();
    let kube = lab.cluster().kube();
    kube.merge_patch(&going.path(), &json!({ "metadata": { "finalizers": finalizer } })).expect("a finalizer");
    going.delete();
    // An address that somebody else wrote, as a restored backup has it, goes too.
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "127.66.0.99" }] } } });
    kube.merge_patch(&format!("{}/status", web.path()), &status).expect("an address");

    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
    assert!(going.object().is_null());
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "once more, there is nothing to do: {log}");
}

/// Fly answers 404 for a while: what was just made is not forgotten.
#[test]
fn an_app_that_fly_does_not_show_yet_is_waited_for() {
    let late = Settings { app_appears_after: Duration::from_secs(20), ..Settings::default() };
    let lab = Homelab::builder().fly(late).start();
    let operator = leader(&lab, "a");
    let web = lab.service("web").port(8080).create();
    let made = |r: &Request| r.to == Target::Fly && r.method == "POST" && r.path == "/v1/apps" && r.status == Some(201);
    lab.wait_requests(DEADLINE, |requests| requests.iter().any(made));
    operator.kill();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// Its namespace is often the first thing that people delete, and frpc with it.
#[test]
fn it_works_where_the_namespace_is_gone() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let namespace = format!("/api/v1/namespaces/{}", lab.operator_namespace());
    let kube = lab.cluster().kube();
    kube.delete(&namespace).expect("it is deleted");
    kube.wait_until(&namespace, DEADLINE, |namespace| namespace.is_none());
    let drain = lab.operator(crate::binary()).as_admin().env("LEADER_ELECT", "true").arg("--drain").start();
    let (code, log) = ended(drain);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("WARN") && log.contains("was missing, and is made: if an operator"), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// Whoever has the Lease goes on, and what it serves shows nothing of it.
#[test]
fn what_is_known_to_fail_or_to_hit_another_operator_is_not_begun() {
    let lab = Homelab::new();
    let _operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    let before = web.object();
    let of_namespace = format!("its frpc is in the namespace {}", lab.operator_namespace());
    let refused = |drain: Operator, said: &str| {
        let (code, log) = ended(drain.start());
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(said), "{log}");
        assert!(reigns(&lab).iter().all(|(from, ..)| from == "a") && steps(&lab, "drain").is_empty(), "{log}");
        assert_eq!(web.object(), before);
    };
    refused(by_administrator(&lab).env("FLY_API_TOKEN", "not-a-token"), "Fly does not take the token");
    refused(by_administrator(&lab).env("CLUSTER_NAME", "renamed"), "Give --drain the --cluster-name");
    refused(astray(&lab), &of_namespace);
    refused(astray(&lab).env("CLUSTER_NAME", "renamed"), &of_namespace);
    // The operator was there before, and left some of its objects.
    left_over(&lab, None);
    refused(astray(&lab), &format!("leads by the Lease in the namespace {}", lab.operator_namespace()));
}

/// A copy of an object of the tunnel, in a namespace that is not the operator's: for that App, or the same.
fn left_over(lab: &Homelab, app: Option<&str>) {
    let kube = lab.cluster().kube();
    let config_maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let ours = kube.list(&config_maps(lab.operator_namespace())).expect("a list");
    let ours = ours.into_iter().find(is_labelled).expect("frpc's");
    let mut labels = ours["metadata"]["labels"].clone();
    if let Some(app) = app {
        labels["fly-tunnel-operator.dev/app"] = json!(app);
    }
    let copy = json!({ "metadata": { "name": "left-over", "labels": labels } });
    kube.create(&config_maps(lab.namespace()), &copy).expect("a ConfigMap");
}

fn is_labelled(object: &Value) -> bool {
    object["metadata"]["labels"]["fly-tunnel-operator.dev/owner"].is_string()
}

/// A user who may see all namespaces gave another than the operator's: the Lease there is nobody's.
fn astray(lab: &Homelab) -> Operator<'_> {
    by_administrator(lab).env("OPERATOR_NAMESPACE", lab.namespace())
}

/// Through a recorder of its own again, as the kubeconfig is another.
fn by_administrator(lab: &Homelab) -> Operator<'_> {
    candidate(lab, "drain").arg("--drain").as_admin().named("drain")
}

/// Who sees no other namespace than the one that was given takes down what there is.
fn shortsighted(lab: &Homelab) -> Operator<'_> {
    let forbidden = Answer { status: 403, headers: Map::new(), body: "{}".into() };
    let all = r"^/(api|apis/apps|apis/coordination.k8s.io)/v1/(deployments|configmaps|secrets|leases)\?";
    lab.faults([Rule::new(Fault::Answer(forbidden)).from("drain").path(all).times(u32::MAX)]);
    astray(lab)
}

/// Nothing in its namespace tells whose the tunnel is; Fly does.
#[test]
fn of_another_name_and_namespace_it_leaves_what_is_served_as_it_is() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let before = web.object();
    let (code, log) = ended(shortsighted(&lab).env("CLUSTER_NAME", "renamed").start());
    assert_eq!(code, Some(1), "{log}");
    for said in ["Give --drain the --cluster-name and --namespace", "what is left is billed"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(web.object(), before);
    assert_answers(ip, 8080, "web");
}

/// Of an earlier install, whose App is gone.
#[test]
fn objects_that_another_namespace_has_beside_ours_are_in_nobodys_way() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    left_over(&lab, Some("lb-of-an-earlier-install"));
    let (code, log) = ended(by_administrator(&lab).start());
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
    let config_maps = format!("/api/v1/namespaces/{}/configmaps", lab.namespace());
    assert!(lab.cluster().kube().list(&config_maps).expect("a list").iter().any(is_labelled));
}

/// The cluster name was changed by an uninstall and an install: each owner's tunnels are taken down by its own name.
#[test]
fn where_two_owners_have_tunnels_each_is_drained_by_its_name() {
    let lab = Homelab::new();
    let first = leader(&lab, "a");
    let (web, _) = serving(&lab);
    first.kill();
    let second = candidate(&lab, "b").env("CLUSTER_NAME", "renamed").start();
    let other = lab.service("other").port(8081).create();
    wait_for_reason(&other, "Serving");
    second.kill();
    let status = other.object()["status"].clone();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    let told = log.lines().find(|line| line.contains("/other: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("Give --drain the --cluster-name"), "{told}");
    assert_untouched(&web);
    assert_eq!(other.object()["status"], status);
    let (code, log) = ended(candidate(&lab, "drain").arg("--drain").env("CLUSTER_NAME", "renamed").start());
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&other);
}

/// It gave up, and tells whose operator to end.
#[track_caller]
fn assert_told_of_another(drain: RunningOperator, lab: &Homelab) {
    let (code, log) = ended(drain);
    assert_eq!(code, Some(1), "{log}");
    for said in ["--namespace", &format!("Service {}/web", lab.namespace())] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn an_operator_of_another_namespace_that_makes_tunnels_again_is_told_of() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.pause();
    let drain = shortsighted(&lab).env("POLL_INTERVAL", "10s").start();
    wait_until("all is down", LONG_DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    operator.resume();
    assert_told_of_another(drain, &lab);
}

/// Nobody was there to make them again: what it did not see is found by a drain of the right namespace.
#[test]
fn what_a_drain_of_another_namespace_left_is_taken_down_by_one_of_the_right_one() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let (code, log) = ended(shortsighted(&lab).start());
    assert_eq!(code, Some(0), "{log}");
    assert_eq!((apps(&lab).len(), objects(&lab).len()), (0, 3), "frpc is left");
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// Each round of such a fight is an address that is billed.
#[test]
fn an_operator_of_another_namespace_is_not_fought_without_end() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let services = [8080, 8081, 8082].map(|port| lab.service(&format!("web-{port}")).port(port).create());
    for service in &services {
        service.address(DEADLINE);
        wait_for_reason(service, "Serving");
    }
    assert_told_of_another(shortsighted(&lab).start(), &lab);
    let allocated = |r: &Request| r.to == Target::Fly && r.method == "POST" && r.path.ends_with("/ip_assignments");
    let addresses = lab.requests().iter().filter(|r| allocated(r)).count();
    assert!(addresses <= 4 * services.len(), "{addresses} addresses");
    for service in &services {
        wait_for_reason(service, "Serving");
    }
}

/// Frozen with a step in hand, and woken when all is down.
#[test]
fn an_operator_that_was_frozen_makes_nothing_after_waking() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::HoldReply(gate.clone())).from("a").method("POST").path("/v1/apps$")]);
    let web = lab.service("web").port(8080).create();
    gate.wait(DEADLINE).expect("the App is asked for");
    operator.pause();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    operator.resume();
    gate.open();
    wait_until("it stands by", DEADLINE, || operator.log().contains("standing by"));
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

#[test]
fn killed_at_any_step_it_is_run_again_and_leaves_nothing() {
    let points = [
        (Target::Kubernetes, "PATCH", "/status"),
        (Target::Kubernetes, "DELETE", "/deployments/"),
        (Target::Fly, "DELETE", "/ip_assignments/"),
        (Target::Fly, "DELETE", "/machines/"),
        (Target::Fly, "DELETE", "force=true"),
        (Target::Kubernetes, "PATCH", "/web/status$"),
    ];
    let cases = points.into_iter().flat_map(|point| [false, true].map(|counted| (point, counted)));
    crate::side_by_side(6, cases, |((to, method, path), counted)| {
        let lab = Homelab::new();
        let operator = leader(&lab, "a");
        let (web, _) = serving(&lab);
        operator.kill();
        let gate = Gate::default();
        let fault = if counted { Fault::HoldReply(gate.clone()) } else { Fault::Hold(gate.clone()) };
        lab.faults([Rule::new(fault).from("drain").to(to).method(method).path(path)]);
        let drain_once = candidate(&lab, "drain").arg("--drain").start();
        gate.wait(DEADLINE).unwrap_or_else(|| panic!("{method} {path} is not sent: {}", drain_once.log()));
        drain_once.kill();
        gate.drop_held();
        lab.faults([]);
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(0), "{log}");
        assert_nothing_left(&lab);
        assert_untouched(&web);
    });
}

#[test]
fn interrupted_in_the_middle_it_says_what_to_do() {
    crate::side_by_side(2, ["/ip_assignments/", "/machines/"], |path| {
        let lab = Homelab::new();
        let operator = leader(&lab, "a");
        let (web, _) = serving(&lab);
        operator.kill();
        let gate = Gate::default();
        lab.faults([Rule::new(Fault::Hold(gate.clone())).from("drain").to(Target::Fly).method("DELETE").path(path)]);
        let interrupted = candidate(&lab, "drain").arg("--drain").start();
        gate.wait(DEADLINE).unwrap_or_else(|| panic!("{path} is not deleted: {}", interrupted.log()));
        interrupted.interrupt();
        wait_until("it has heard", DEADLINE, || interrupted.log().contains("ending; what is under way"));
        gate.open();
        let (code, log) = ended(interrupted);
        assert_eq!(code, Some(1), "{log}");
        for said in ["before all was done", "/web: not done yet", "what is left is billed"] {
            assert!(log.contains(said), "{said}: {log}");
        }
        let object = web.object();
        assert_eq!(object["status"]["loadBalancer"], json!({}), "somebody else may get the address: {object:#}");
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(0), "{log}");
        assert_nothing_left(&lab);
        assert_untouched(&web);
    });
}

/// An operator that still runs must not make anew what is down, as long as somebody may try again.
#[test]
fn where_fly_is_down_it_fails_and_nothing_is_given_up() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, ip) = serving(&lab);
    let down =
        || Rule::new(Fault::Answer(Answer { status: 503, headers: Map::new(), body: "down".into() })).to(Target::Fly);
    lab.faults([down().from("drain").method("DELETE").times(u32::MAX)]);
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    for said in ["/web: Fly cannot be asked: down", "what is left is billed"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(web.address(DEADLINE), ip, "it is billed, so it is shown");
    assert!(!steps(&lab, "drain").iter().any(|step| step.path.contains("/deployments/")), "and serves");
    assert!(!web.object()["metadata"]["finalizers"].is_null());
    assert_eq!(apps(&lab).len(), 1);
    assert_ne!(holder(&lab), "", "not released");
    assert_eq!(lease(&lab).expect("a Lease")["spec"]["leaseDurationSeconds"], LEASE.as_secs(), "nor kept for good");

    let taken = || reigns(&lab).iter().filter(|(from, ..)| from == "drain").count();
    for skip in [0, 1] {
        let before = taken();
        lab.faults([down().from("drain").method("GET").path("/v1/apps\\?").skip(skip).times(u32::MAX)]);
        let (code, log) = drain(&lab);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("what there is to take down cannot be found out"), "{log}");
        assert_eq!(log.contains("what is left is billed"), skip == 1, "{log}");
        assert_eq!(taken() > before, skip == 1, "{log}");
    }

    // Nobody tries again: who is left serves.
    lab.faults([]);
    wait_until("the operator leads again", DEADLINE, || operator.log().matches("leading, as").count() > 1);
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

/// An operator that runs would take the Lease, and make all of it again.
#[test]
fn where_the_lease_cannot_be_kept_it_says_so() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    operator.kill();
    let gate = Gate::default();
    let last = Rule::new(Fault::Hold(gate.clone())).from("drain").method("PATCH").path("/web/status$");
    lab.faults([last]);
    let drain = candidate(&lab, "drain").arg("--drain").start();
    gate.wait(DEADLINE).expect("the finalizer is taken away last");
    let down = Fault::Answer(Answer { status: 503, headers: Map::new(), body: "down".into() });
    lab.faults([Rule::new(down).from("drain").method("PUT").path("/leases/").times(u32::MAX)]);
    gate.open();
    let (code, log) = ended(drain);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("the Lease could not be kept: end all operators"), "{log}");
    assert_untouched(&web);
}

/// Their finalizer was taken away by hand while no operator ran: only Fly's list still tells of them.
#[test]
fn apps_whose_service_is_gone_are_taken_down_too() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    let long = "a-name-as-long-as-that-leaves-no-room-for-it-in-the-name-of-app";
    let unnamed = lab.service(long).port(8081).create();
    unnamed.address(DEADLINE);
    operator.kill();
    for service in [&web, &unnamed] {
        service.delete();
        let none = json!({ "metadata": { "finalizers": null } });
        lab.cluster().kube().merge_patch(&service.path(), &none).expect("it is taken away");
        service.wait_gone(DEADLINE);
    }
    // Nothing is left that names its Service.
    delete_objects(&lab, long);
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    let left = apps(&lab);
    let [left] = &left[..] else { panic!("{left:#?}") };
    let destroy = format!("`fly apps destroy {}`", left["name"].as_str().expect("a name"));
    assert!(log.contains(&destroy), "{log}");
}

/// Somebody took the finalizer and the whole status away: the Service is there, and looks as if nobody ever served it.
#[test]
fn the_app_of_a_service_that_shows_nothing_of_it_is_taken_down_too() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    operator.kill();
    let kube = lab.cluster().kube();
    kube.merge_patch(&web.path(), &json!({ "metadata": { "finalizers": null } })).expect("it is taken away");
    let nothing = json!({ "status": { "loadBalancer": null, "conditions": null } });
    kube.merge_patch(&format!("{}/status", web.path()), &nothing).expect("it is taken away");
    assert_untouched(&web);
    delete_objects(&lab, &web.name);
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// Two installs with two classes live side by side, also when one goes.
#[test]
fn what_another_class_serves_stays() {
    let lab = Homelab::new();
    let operator = leader(&lab, "a");
    let (web, _) = serving(&lab);
    operator.kill();
    let class = "other.example.com/lb";
    let _other = candidate(&lab, "other").env("LOAD_BALANCER_CLASS", class).env("LEADER_ELECT", "false").start();
    let theirs = lab.service("theirs").class(Some(class)).port(8081).create();
    theirs.address(DEADLINE);
    wait_for_reason(&theirs, "Serving");
    let status = theirs.object()["status"].clone();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    let told = log.lines().find(|line| line.contains("tunnels of other classes stay, and are billed"));
    assert!(told.is_some_and(|told| told.contains(class)), "{log}");
    assert_eq!(log.matches("the tunnel is being taken down").count(), 1, "{log}");
    assert_untouched(&web);
    assert_eq!(theirs.object()["status"], status);
    let left = apps(&lab);
    let [left] = &left[..] else { panic!("{left:#?}") };
    assert!(left["name"].as_str().is_some_and(|name| name.contains("theirs")), "{left:#?}");
}

#[test]
fn what_it_cannot_go_with_is_refused() {
    let lab = Homelab::new();
    for (arguments, elects, said) in [
        (&["--drain"][..], "false", "--drain: leave --leader-elect at true"),
        (&["--drain", "--once"], "true", "--once and --drain: give one of them"),
        (&["--dry-run", "--drain"], "true", "--dry-run and --drain: give one of them"),
    ] {
        let operator = candidate(&lab, "drain").env("LEADER_ELECT", elects);
        let operator = arguments.iter().fold(operator, |operator, argument| operator.arg(argument)).start();
        let (code, log) = ended(operator);
        assert_eq!(code, Some(2), "{log}");
        assert!(log.contains(said), "{log}");
    }
    assert_eq!(lab.requests().len(), 0);
}
