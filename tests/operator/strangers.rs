//! The operator never touches things that are not ours: Services, Apps, and the leftovers of the Go operator.

use lab::homelab::Homelab;
use lab::operator::Operator;
use lab::recorder::{Answer, Fault, Request, Rule, Target};
use serde_json::{Map, json};

use crate::support::client::{assert_answers, get};
use crate::support::conditions::wait_for_reason;
use crate::support::documents::commands;
use crate::support::inventory::{apps, assert_nothing_left, assert_one_of_everything, delete_at_fly, objects};
use crate::support::lease::candidate;
use crate::support::{DEADLINE, LONG_DEADLINE, binary, ended, serving, start, wait_until};

#[test]
fn services_of_another_class_and_of_none_are_left_alone() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let other = lab.service("other").class(Some("example.com/lb")).port(8080).create();
    let none = lab.service("none").class(None).port(8080).create();
    let plain = lab
        .service("plain")
        .class(None)
        .spec(json!({ "type": "ClusterIP", "allocateLoadBalancerNodePorts": null }))
        .port(8080)
        .create();
    let before: Vec<_> =
        [&other, &none, &plain].map(|service| service.object()["metadata"]["resourceVersion"].clone()).into();
    // This Service is created later. Once it is served, the polls have seen the others too.
    let ours = lab.service("ours").port(8080).create();
    assert_answers(ours.address(DEADLINE), 8080, "ours");
    wait_for_reason(&ours, "Serving");
    let after: Vec<_> =
        [&other, &none, &plain].map(|service| service.object()["metadata"]["resourceVersion"].clone()).into();
    assert_eq!(before, after);
    assert_eq!(apps(&lab).len(), 1);
    for request in lab.requests() {
        let named = ["other", "none", "plain"].iter().any(|name| request.path.contains(&format!("/services/{name}")));
        assert!(!named, "{request:?}");
    }
}

/// Kubernetes stores a condition without a time. Whoever wrote it, nobody else's Service may suffer for it.
#[test]
fn one_service_that_is_not_as_expected_hides_no_other() {
    let lab = Homelab::new();
    let none = lab.service("none").class(None).port(8080).create();
    let condition =
        json!({ "type": "Synced", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": null });
    let status = json!({ "status": { "conditions": [condition], "loadBalancer": { "ingress": [{ "hostname": "lb.example.com" }] } } });
    let stored = lab.cluster().kube().merge_patch(&format!("{}/status", none.path()), &status).expect("it is taken");
    assert!(stored["status"]["conditions"][0]["lastTransitionTime"].is_null(), "{stored:#}");
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    web.set_ports(&[8080, 9090]);
    wait_until("the new port is served", DEADLINE, || get(ip, 9090, "/").is_ok());
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
    assert!(!operator.log().contains("cannot be"), "{}", operator.log());
}

/// The same for an answer that no API server gives today: the Service that cannot be read is told of, once.
#[test]
fn a_service_that_cannot_be_read_is_told_of_once_and_hides_no_other() {
    let lab = Homelab::new();
    let services = json!({ "metadata": {}, "items": [{ "metadata": { "namespace": "shop", "name": "odd" }, "spec": { "ports": "none" } }] });
    let odd = Answer { status: 200, headers: Map::new(), body: services.to_string() };
    let list = Rule::new(Fault::Answer(odd)).to(Target::Kubernetes).method("GET").path("/services\\?.*fieldSelector");
    lab.faults([list.times(3)]);
    let operator = start(&lab);
    serving(&lab);
    let log = operator.log();
    assert_eq!(log.matches("the Service shop/odd cannot be read: invalid type: string").count(), 1, "{log}");
}

/// It may well ask for its App.
#[test]
fn the_app_of_a_service_that_cannot_be_read_is_no_orphan() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (service, _) = serving(&lab);
    operator.kill();
    // Otherwise the list of all that have our finalizer tells of it.
    let no_finalizer = json!({ "metadata": { "finalizers": null } });
    lab.cluster().kube().merge_patch(&service.path(), &no_finalizer).expect("it is taken off");
    let web = json!({ "namespace": lab.namespace(), "name": "web" });
    let services = json!({ "metadata": {}, "items": [{ "metadata": web, "spec": { "ports": "none" } }] });
    let odd = Answer { status: 200, headers: Map::new(), body: services.to_string() };
    let list = Rule::new(Fault::Answer(odd)).to(Target::Kubernetes).method("GET").path("/services\\?.*fieldSelector");
    lab.faults([list.times(u32::MAX)]);
    let before = lab.requests().len();
    let operator = lab.operator(binary()).env("RESYNC_INTERVAL", "1s").arg("--delete-orphans").start();
    let is_sweep = |request: &&Request| {
        request.to == Target::Fly && request.path.contains("/orgs/") && request.path.contains("/machines")
    };
    lab.wait_requests(LONG_DEADLINE, |requests| requests[before..].iter().filter(is_sweep).count() >= 4);
    let log = operator.log();
    assert!(log.contains("cannot be read") && !log.contains("which this owner made"), "{log}");
}

#[test]
fn apps_of_others_in_the_organisation_are_left_alone() {
    let lab = Homelab::new();
    let org = lab.fly().organisation().to_owned();
    lab.fly().add_app(&org, "lb-default-web-somebody", "default");
    lab.fly().add_app(&org, "theirs", "their-network");
    let _operator = start(&lab);
    let (web, _) = serving(&lab);
    web.delete();
    web.wait_gone(DEADLINE);
    let mut names: Vec<String> = apps(&lab).iter().filter_map(|app| app["name"].as_str().map(Into::into)).collect();
    names.sort();
    assert_eq!(names, ["lb-default-web-somebody", "theirs"]);
    for request in lab.requests().iter().filter(|request| request.to == Target::Fly) {
        assert!(!request.path.contains("theirs") && !request.path.contains("somebody"), "{request:?}");
    }
}

/// The name of the App that a Service of this lab gets. It is taken from a creation that is then undone.
fn app_name(lab: &Homelab) -> String {
    let operator = start(lab);
    let (web, _) = serving(lab);
    let name = apps(lab)[0]["name"].as_str().expect("a name").to_owned();
    web.delete();
    web.wait_gone(DEADLINE);
    operator.kill();
    let deployment = format!("/apis/apps/v1/namespaces/{}/deployments/web", lab.namespace());
    lab.cluster().kube().delete(&deployment).expect("the backend is deleted");
    lab.cluster().kube().wait_until(&deployment, DEADLINE, |deployment| deployment.is_none());
    name
}

#[test]
fn an_app_of_the_wanted_name_that_is_not_ours_stays_as_it_is() {
    for foreign in [false, true] {
        let lab = Homelab::new();
        let name = app_name(&lab);
        let org = if foreign { "somebody" } else { lab.fly().organisation() }.to_owned();
        if foreign {
            lab.fly().add_organisation(&org);
        }
        lab.fly().add_app(&org, &name, "somebodys-network");
        let theirs = lab.fly().state()["apps"].clone();
        let before = lab.requests().len();

        let _operator = start(&lab);
        let web = lab.service("web").port(8080).create();
        let message = wait_for_reason(&web, "NameConflict");
        assert!(message.contains(&name), "{message}");
        web.delete();
        web.wait_gone(LONG_DEADLINE);
        assert_eq!(lab.fly().state()["apps"], theirs, "the App is as it was");
        for request in lab.requests().split_off(before).iter().filter(|request| request.to == Target::Fly) {
            assert!(request.method == "GET" || request.path == "/v1/apps", "{request:?}");
        }
    }
}

/// If the tunnel were made again, a user who changes the cluster name would pay twice for each Service, and lose its
/// address.
#[test]
fn a_tunnel_of_another_cluster_name_goes_on_and_is_not_made_again() {
    let lab = Homelab::new();
    goes_on_beside(&lab, |operator| operator.arg("--cluster-name=renamed"));
}

/// This is the state after a reinstall in another namespace: nothing there tells of the old owner, but Fly does.
#[test]
fn a_tunnel_of_another_namespace_and_cluster_name_goes_on_and_is_not_made_again() {
    let lab = Homelab::new();
    let elsewhere = lab.namespace();
    let administrator = lab.kubeconfig();
    goes_on_beside(&lab, |operator| {
        operator
            .arg("--cluster-name=renamed")
            .env("OPERATOR_NAMESPACE", elsewhere)
            .env("KUBECONFIG", administrator.to_str().expect("a path"))
    });
}

/// Asserts that operators that are `changed` leave a tunnel alone, and that an operator of its owner still takes all of
/// it down.
fn goes_on_beside<'a>(lab: &'a Homelab, changed: impl Fn(Operator<'a>) -> Operator<'a>) {
    let operator = start(lab);
    let (web, ip) = serving(lab);
    operator.kill();
    let made = (lab.fly().state()["apps"].clone(), objects(lab));
    let before = lab.requests().len();

    let renamed = changed(lab.operator(binary())).start();
    let message = wait_for_reason(&web, "NameConflict");
    assert!(message.contains(made.0[0]["name"].as_str().expect("a name")), "{message}");
    assert!(message.contains("--cluster-name"), "{message}");
    web.delete();
    let asked = || lab.requests().split_off(before).into_iter().filter(|r| r.to == Target::Fly).count();
    let looked = asked();
    wait_until("it looked again", LONG_DEADLINE, || asked() > looked);
    renamed.kill();
    let (code, log) = ended(changed(candidate(lab, "drain")).arg("--drain").start());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("--cluster-name"), "{log}");

    assert_eq!((lab.fly().state()["apps"].clone(), objects(lab)), made, "all is as it was");
    assert_eq!(web.address(DEADLINE), ip);
    assert_answers(ip, 8080, "web");
    for request in lab.requests().split_off(before).iter().filter(|request| request.to == Target::Fly) {
        assert_eq!(request.method, "GET", "{request:?}");
    }

    // An operator with the old name takes all of it down.
    let _operator = start(lab);
    web.wait_gone(DEADLINE);
    assert_nothing_left(lab);
}

/// The objects' App is gone, so nobody needs them. docs/troubleshooting.md says how to delete them.
#[test]
fn objects_that_another_owner_left_can_be_deleted_and_a_tunnel_is_made() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    operator.kill();
    let app = apps(&lab)[0]["name"].as_str().expect("a name").to_owned();
    delete_at_fly(&lab, &format!("/apps/{app}"));
    let _renamed = lab.operator(binary()).arg("--cluster-name=renamed").start();
    let message = wait_for_reason(&web, "NameConflict");
    assert!(message.contains(&format!("fly-tunnel-operator.dev/app={app}")), "{message}");

    let command = commands("another-owner").replace("\\\n ", "").replace("=APP", &format!("={app}"));
    let command = command.replace("fly-tunnel-operator-system", lab.operator_namespace());
    let deleted = lab.cluster().kubectl(&command.split_whitespace().skip(1).collect::<Vec<_>>());
    assert!(deleted.status.success(), "{command}: {}", String::from_utf8_lossy(&deleted.stderr));
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

/// Several clusters of one organisation may each have a Service of that name. An App is the tunnel of the Service that
/// shows its address.
#[test]
fn another_clusters_app_named_after_the_same_service_is_not_taken_for_its_tunnel() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let ours = apps(&lab)[0]["name"].as_str().expect("a name").to_owned();
    let (readable, _) = ours.rsplit_once('-').expect("a hash at its end");
    let theirs = format!("{readable}-0123456789ab");
    lab.fly().add_app(lab.fly().organisation(), &theirs, "their-network");
    let by_hand = ureq::agent();
    let (at, token) = (format!("http://{}/v1/apps", lab.fly().address()), format!("Bearer {}", lab.fly().token()));
    let address = by_hand.post(format!("{at}/{theirs}/ip_assignments")).header("Authorization", &token);
    address.content_type("application/json").send(r#"{"type":"v4"}"#).expect("an address");
    let app = |name: &str| apps(&lab).into_iter().find(|app| app["name"] == name);
    let before = app(&theirs);
    delete_at_fly(&lab, &format!("/apps/{ours}"));

    wait_until("the tunnel is made again", LONG_DEADLINE, || {
        let shown = web.object()["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
        shown.is_string() && shown != ip.to_string()
    });
    assert!(app(&ours).is_some());
    assert_eq!(app(&theirs), before);
}

#[test]
fn a_service_of_the_go_operator_is_not_touched() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/fly-app", "old-app").create();
    let message = wait_for_reason(&web, "LegacyTunnel");
    assert!(message.contains("fly-app"), "{message}");
    assert!(apps(&lab).is_empty());
    assert!(web.object()["metadata"]["finalizers"].is_null(), "{}", web.object());
}
