//! Two operators in one Fly organisation: of two classes in one cluster, and of two clusters, one of which was restored from a backup of
//! the other. Neither touches what is the other's.

use lab::cluster::{Cluster, ClusterOptions};
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{apps, assert_nothing_left, delete_at_fly, objects};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, ended, serving, wait_until};

/// The App that is named after this Service.
fn app_of(lab: &Homelab, service: &ServiceHandle) -> Value {
    let named = format!("lb-{}-{}-", service.namespace, service.name);
    let app = apps(lab).into_iter().find(|app| app["name"].as_str().is_some_and(|name| name.starts_with(&named)));
    app.expect("its App")
}

fn name(app: &Value) -> String {
    app["name"].as_str().expect("a name").to_owned()
}

/// Asserts that the requests of that operator to Fly name none of this App, and that it wrote nothing that does.
#[track_caller]
fn assert_not_touched(lab: &Homelab, from: &str, app: &str) {
    for request in lab.requests().iter().filter(|request| request.from == from) {
        let about_it = request.path.contains(app) || request.method != "GET" && request.body.contains(app);
        assert!(!about_it, "{request:?}");
    }
}

/// They share the cluster, its name, the operators' namespace and the organisation.
#[test]
fn a_second_install_with_another_class_lives_beside_the_first() {
    let lab = Homelab::new();
    let second_class = format!("second.{}", lab.class());
    let first = lab.operator(binary()).named("first").start();
    let second = |name| lab.operator(binary()).named(name).env("LOAD_BALANCER_CLASS", &second_class);
    let running = second("second").start();
    let (web, ip) = serving(&lab);
    let shop = lab.service("shop").class(Some(&second_class)).port(8080).create();
    let shop_ip = shop.address(DEADLINE);
    wait_for_reason(&shop, "Serving");
    let [web_app, shop_app] = [&web, &shop].map(|service| app_of(&lab, service));

    // Each loses its Machine, and has it made again by its own operator.
    for app in [&web_app, &shop_app] {
        let machine = app["machines"][0]["id"].as_str().expect("a Machine");
        delete_at_fly(&lab, &format!("/apps/{}/machines/{machine}", name(app)));
    }
    for (service, app) in [(&web, &web_app), (&shop, &shop_app)] {
        wait_until(&format!("another Machine of {}", service.name), DEADLINE, || {
            let now = app_of(&lab, service)["machines"].clone();
            now.as_array().is_some_and(|all| all.len() == 1) && now[0]["id"] != app["machines"][0]["id"]
        });
        wait_for_reason(service, "Serving");
    }
    assert_answers(ip, 8080, "web");
    assert_answers(shop_ip, 8080, "shop");

    // The second is uninstalled with all that is its own.
    running.kill();
    let (code, log) = ended(second("drain").env("LEADER_ELECT", "true").arg("--drain").start());
    assert_eq!(code, Some(0), "{log}");
    wait_until("its App is gone", DEADLINE, || apps(&lab).len() == 1);
    assert_answers(ip, 8080, "web");
    assert_eq!(app_of(&lab, &web)["name"], web_app["name"]);
    wait_until("the objects of the first alone are left", DEADLINE, || objects(&lab).len() == 3);
    for other in ["second", "drain"] {
        assert_not_touched(&lab, other, &name(&web_app));
    }
    assert_not_touched(&lab, "first", &name(&shop_app));
    assert!(!first.log().contains(&name(&shop_app)), "it is no orphan to the other: {}", first.log());
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

/// Makes in the other cluster what a backup of this one has of the objects in that collection. A backup keeps neither UIDs nor
/// who wrote which field.
fn restore(from: &Homelab, to: &Homelab, collection: &str, wanted: impl Fn(&str) -> bool) {
    for mut object in from.cluster().kube().list(collection).expect("a list") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !wanted(&name) {
            continue;
        }
        for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "generation", "ownerReferences"] {
            object["metadata"].as_object_mut().expect("metadata").remove(field);
        }
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"].as_object_mut().map(|spec| spec.remove(field)); // those of another range
        }
        let status = object["status"].clone();
        let kube = to.cluster().kube();
        kube.create(collection, &object).unwrap_or_else(|error| panic!("{name}: {error}"));
        if collection.ends_with("/services") {
            let status = json!({ "status": status });
            kube.merge_patch(&format!("{collection}/{name}/status"), &status).expect("the status is restored");
        }
    }
}

/// The second cluster has the first one's Services with their finalizers and addresses, the operator's namespace with its objects, and
/// the Fly token. Its own name is another: the UID of its `kube-system`.
#[test]
fn a_backup_restored_into_a_second_cluster_touches_nothing_of_the_first() {
    let first = Homelab::new();
    let _operator = first.operator(binary()).without("CLUSTER_NAME").as_admin().start();
    let (web, ip) = serving(&first);
    let lone = first.service("lone").port(8080).create();
    let lone_ip = lone.address(DEADLINE);
    wait_for_reason(&lone, "Serving");

    let cluster = Cluster::start(ClusterOptions { traffic: false, ..ClusterOptions::default() });
    let second = Homelab::builder().traffic(false).cluster(&cluster).start();
    let [apps_there, ours] = [first.namespace(), first.operator_namespace()];
    for namespace in [apps_there, ours] {
        cluster.create_namespace(namespace);
    }
    // The backup has nothing of `lone` but the Service: only Fly tells that another cluster serves it.
    let of_web = |name: &str| name.starts_with("lb-") && name.contains("-web-");
    for collection in ["api/v1/secrets", "api/v1/configmaps", "apis/apps/v1/deployments"] {
        let (version, resource) = collection.rsplit_once('/').expect("a version and a resource");
        restore(&first, &second, &format!("/{version}/namespaces/{ours}/{resource}"), of_web);
    }
    let services = format!("/api/v1/namespaces/{apps_there}/services");
    restore(&first, &second, &services, |name| ["web", "lone"].contains(&name));
    let restored = |name: &str| cluster.kube().find(&format!("{services}/{name}")).expect("an answer");

    let before = (apps(&first), objects(&first), web.object()["spec"].clone());
    let operator = second
        .operator(binary())
        .as_admin()
        .without("CLUSTER_NAME")
        .env("LOAD_BALANCER_CLASS", &first.class())
        .env("OPERATOR_NAMESPACE", ours)
        .env("FLY_FLAPS_BASE_URL", &format!("http://{}", first.recorder().before_fly(first.fly().address(), "second")))
        .env("FLY_API_TOKEN", first.fly().token())
        .env("FLY_ORG", first.fly().organisation())
        .start();
    let reason = |name: &str| condition(&restored(name).unwrap_or_default());
    for name in ["web", "lone"] {
        wait_until(&format!("{name} is told of"), LONG_DEADLINE, || reason(name).0 == "NameConflict");
        let message = reason(name).1;
        assert!(message.contains("is billed") || message.contains("be billed"), "{message}");
    }
    // Also where the Services are deleted there, which is what somebody does who sees them.
    for name in ["web", "lone"] {
        cluster.kube().delete(&format!("{services}/{name}")).expect("it is to go");
    }
    let looks = || {
        let requests = first.requests();
        requests.iter().filter(|r| r.from == "second" && r.path.starts_with("/v1/apps")).count()
    };
    let looked = looks();
    wait_until("it looked again and again", LONG_DEADLINE, || looks() >= looked + 10);
    assert_eq!((apps(&first), objects(&first), web.object()["spec"].clone()), before, "{}", operator.log());
    let written = |r: &&Request| r.to == Target::Fly && r.from == "second" && r.method != "GET";
    let requests = first.requests();
    let written: Vec<&Request> = requests.iter().filter(written).collect();
    assert!(written.is_empty(), "{written:#?}");
    for (ip, backend, service) in [(ip, "web", &web), (lone_ip, "lone", &lone)] {
        assert_answers(ip, 8080, backend);
        assert_eq!(service.address(DEADLINE), ip);
    }
    drop(operator);
}
