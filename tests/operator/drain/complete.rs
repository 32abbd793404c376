//! A drain takes down all tunnels of the class, however little is left of them.

use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::json;

use super::{assert_untouched, drain, drained};
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_nothing_left};
use crate::support::lease::{SHORT_LEASE, candidate, expendable, leader, reigns, steps, time};
use crate::support::{DEADLINE, binary, ended, serving, start};

#[test]
fn it_takes_every_tunnel_down() {
    let lab = Homelab::new();
    let _operator = leader(expendable(&lab, "a"));
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
}

#[test]
fn it_begins_nothing_before_the_operator_that_leads_must_have_stopped() {
    let lab = Homelab::new();
    let (_web, _operator) = drained(&lab);
    let taken = reigns(&lab).into_iter().find(|(from, ..)| from == "drain").expect("it took the Lease").1;
    let first = time(&steps(&lab, "drain")[0]);
    assert!(first.duration_since(taken).expect("later") >= SHORT_LEASE);
    assert!(steps(&lab, "a").iter().all(|step| time(step) < first), "the operator began nothing afterwards");
}

#[test]
fn it_needs_no_operator() {
    let lab = Homelab::new();
    let operator = leader(expendable(&lab, "a"));
    let (web, _) = serving(&lab);
    operator.kill();
    // A Service is deleted while no operator runs, so only the drain can take its finalizer away.
    let going = lab.service("going").port(8081).create();
    let finalizer = web.object()["metadata"]["finalizers"].clone();
    let kube = lab.cluster().kube();
    kube.merge_patch(&going.path(), &json!({ "metadata": { "finalizers": finalizer } })).expect("a finalizer");
    going.delete();
    // An address that somebody else wrote goes too. A backup that was restored has such an address.
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "127.66.0.99" }] } } });
    kube.merge_patch(&format!("{}/status", web.path()), &status).expect("an address");

    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
    assert!(going.object().is_null());
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "once more, there is nothing to do: {log}");
    assert!(log.contains("there was no tunnel of the class"), "{log}");
}

/// Fly answers 404 for a while about an App that was just made. The drain does not forget the App.
#[test]
fn an_app_that_fly_does_not_show_yet_is_waited_for() {
    let late = Settings { app_appears_after: Duration::from_secs(20), ..Settings::default() };
    let lab = Homelab::builder().fly(late).start();
    let operator = leader(expendable(&lab, "a"));
    let web = lab.service("web").port(8080).create();
    let made = |r: &Request| r.to == Target::Fly && r.method == "POST" && r.path == "/v1/apps" && r.status == Some(201);
    lab.wait_requests(DEADLINE, |requests| requests.iter().any(made));
    operator.kill();
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(0), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// The operator's namespace is often the first thing that people delete, and frpc goes with it.
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
    let drain = lab.operator(binary()).as_admin().env("LEADER_ELECT", "true").arg("--drain").start();
    let (code, log) = ended(drain);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("WARN") && log.contains("was missing, and is made: if an operator"), "{log}");
    assert_nothing_left(&lab);
    assert_untouched(&web);
}

/// Deletes the objects of the Service's tunnel from the cluster.
fn delete_objects(lab: &Homelab, service: &str) {
    let of_it = format!("--selector=fly-tunnel-operator.dev/service-name={service}");
    let namespace = format!("--namespace={}", lab.operator_namespace());
    let deleted = lab.cluster().kubectl(&["delete", "deployments,configmaps,secrets", &of_it, &namespace]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
}

/// Somebody took the Services' finalizers away while no operator ran, so only Fly's list of Apps still tells of them.
#[test]
fn apps_whose_service_is_gone_are_taken_down_too() {
    let lab = Homelab::new();
    let operator = leader(expendable(&lab, "a"));
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
    // Now nothing is left that names the Service of this App.
    delete_objects(&lab, long);
    let (code, log) = drain(&lab);
    assert_eq!(code, Some(1), "{log}");
    let left = apps(&lab);
    let [left] = &left[..] else { panic!("{left:#?}") };
    let destroy = format!("`fly apps destroy {}`", left["name"].as_str().expect("a name"));
    assert!(log.contains(&destroy), "{log}");
}

/// Somebody took the finalizer and the whole status away, so the Service looks as if nobody had ever served it.
#[test]
fn the_app_of_a_service_that_shows_nothing_of_it_is_taken_down_too() {
    let lab = Homelab::new();
    let operator = leader(expendable(&lab, "a"));
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

/// Two installs with two classes live side by side, and the drain of one leaves the other alone.
#[test]
fn what_another_class_serves_stays() {
    let lab = Homelab::new();
    let operator = leader(expendable(&lab, "a"));
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

/// Whoever makes a typo in the class must not believe that all is down.
#[test]
fn a_class_of_which_there_is_no_tunnel_is_told() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    serving(&lab);
    let class = "typo.example.com/lb";
    let (code, log) = ended(candidate(&lab, "drain").arg("--drain").env("LOAD_BALANCER_CLASS", class).start());
    assert_eq!(code, Some(0), "{log}");
    let cluster = lab.cluster_name();
    assert!(log.contains(&format!("there was no tunnel of the class {class} in the cluster {cluster}")), "{log}");
    // Labs of other tests are in this cluster, too.
    let told =
        |line: &str| line.contains("tunnels of other classes stay, and are billed: ") && line.contains(&lab.class());
    assert!(log.lines().any(told), "{log}");
    assert!(!log.contains("is down"), "{log}");
    assert_eq!(apps(&lab).len(), 1);
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
