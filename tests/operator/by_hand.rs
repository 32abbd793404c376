//! Somebody takes something away from a tunnel by hand, or adds something to it: at Fly, among our objects, or in the Service's status.
//! It is mended, or said.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Request, Rule, Target};
use serde_json::{Value, json};

use crate::support::client::{assert_answers, get};
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{apps, assert_nothing_left, assert_one_of_everything, delete_at_fly, objects};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, start, wait_until};

/// Sends something to Fly's API, as a person does. Gives the answer.
fn post_to_fly(lab: &Homelab, path: &str, body: &Value) -> Value {
    let url = format!("http://{}/v1{path}", lab.fly().address());
    let authorization = format!("Bearer {}", lab.fly().token());
    let request = ureq::post(&url).header("Authorization", &authorization).content_type("application/json");
    let mut reply = request.send(body.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&reply.body_mut().read_to_string().expect("a body")).unwrap_or_default()
}

fn get_from_fly(lab: &Homelab, path: &str) -> Value {
    let url = format!("http://{}/v1{path}", lab.fly().address());
    let authorization = format!("Bearer {}", lab.fly().token());
    let mut reply = ureq::get(&url).header("Authorization", &authorization).call().expect("an answer");
    serde_json::from_str(&reply.body_mut().read_to_string().expect("a body")).expect("JSON")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The Machines of the one App that there is.
fn machines(lab: &Homelab) -> Vec<Value> {
    apps(lab).first().and_then(|app| app["machines"].as_array().cloned()).unwrap_or_default()
}

/// The addresses of the App whose name has this in it.
fn addresses(lab: &Homelab, name: &str) -> Vec<Value> {
    let app = apps(lab).into_iter().find(|app| app["name"].as_str().is_some_and(|all| all.contains(name)));
    app.and_then(|app| app["ips"].as_array().cloned()).unwrap_or_default()
}

fn app_of(lab: &Homelab, name: &str) -> String {
    let app = apps(lab).into_iter().find(|app| app["name"].as_str().is_some_and(|all| all.contains(name)));
    text(&app.expect("its App")["name"])
}

#[test]
fn machines_that_are_stopped_destroyed_or_added_and_a_second_address_are_mended_or_said() {
    let lab = Homelab::new();
    // Addresses are asked for once in ten intervals.
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "2s").start();
    let (web, ip) = serving(&lab);
    let (app, first) = (app_of(&lab, "web"), text(&machines(&lab)[0]["id"]));

    post_to_fly(&lab, &format!("/apps/{app}/machines/{first}/stop"), &json!({}));
    wait_until("it stops", DEADLINE, || machines(&lab)[0]["state"] != "started");
    wait_until("it is started again", DEADLINE, || {
        machines(&lab)[0]["state"] == "started" && get(ip, 8080, "/").is_ok()
    });
    wait_for_reason(&web, "Serving");
    assert_eq!(machines(&lab)[0]["id"], first.as_str(), "it is the same one");

    delete_at_fly(&lab, &format!("/apps/{app}/machines/{first}"));
    wait_until("another Machine serves", DEADLINE, || {
        machines(&lab).iter().any(|machine| machine["id"] != first.as_str()) && get(ip, 8080, "/").is_ok()
    });
    assert_one_of_everything(&lab);
    wait_for_reason(&web, "Serving");

    // A copy of our Machine, as `fly machine clone` makes it, and one that has nothing to do with us.
    let ours = text(&machines(&lab)[0]["id"]);
    let config = get_from_fly(&lab, &format!("/apps/{app}/machines/{ours}"))["config"].clone();
    let copy = json!({ "name": "a-clone", "region": "ord", "config": config });
    let copy = text(&post_to_fly(&lab, &format!("/apps/{app}/machines"), &copy)["id"]);
    wait_until("the copy is gone", DEADLINE, || machines(&lab).len() == 1);
    assert_eq!(machines(&lab)[0]["id"], ours.as_str(), "the one that serves stays, and {copy} goes");
    assert_answers(ip, 8080, "web");
    wait_for_reason(&web, "Serving");
    let theirs =
        json!({ "name": "theirs", "region": "ord", "config": { "image": config["image"], "guest": config["guest"] } });
    let theirs = text(&post_to_fly(&lab, &format!("/apps/{app}/machines"), &theirs)["id"]);
    wait_until("it is told of", DEADLINE, || condition(&web.object()).1.contains(&theirs));
    assert_eq!(condition(&web.object()).0, "Serving");
    assert_eq!(machines(&lab).len(), 2, "it may be of use to somebody");
    delete_at_fly(&lab, &format!("/apps/{app}/machines/{theirs}"));
    wait_until("it is told of no more", DEADLINE, || !condition(&web.object()).1.contains(&theirs));

    post_to_fly(&lab, &format!("/apps/{app}/ip_assignments"), &json!({ "type": "v4" }));
    assert_eq!(addresses(&lab, "web").len(), 2);
    wait_until("the second address is released", LONG_DEADLINE, || addresses(&lab, "web").len() == 1);
    assert_eq!(addresses(&lab, "web")[0]["ip"], ip.to_string());
    assert_eq!(web.address(DEADLINE), ip);
    assert_answers(ip, 8080, "web");
    assert_one_of_everything(&lab);
}

/// Both cost the address, so the absence is believed only after a minute.
#[test]
fn an_address_that_is_released_and_an_app_that_is_deleted_are_made_again() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "1s").start();
    let (web, released) = serving(&lab);
    let shop = lab.service("shop").port(8080).create();
    let lost = shop.address(DEADLINE);
    wait_for_reason(&shop, "Serving");
    delete_at_fly(&lab, &format!("/apps/{}", app_of(&lab, "shop")));
    delete_at_fly(&lab, &format!("/apps/{}/ip_assignments/{released}", app_of(&lab, "web")));
    for (service, before) in [(&web, released), (&shop, lost)] {
        let shown = || service.object()["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
        wait_until(&format!("{} has another address", service.name), LONG_DEADLINE, || {
            shown().is_string() && shown() != before.to_string()
        });
        wait_for_reason(service, "Serving");
        assert_answers(service.address(DEADLINE), 8080, &service.name);
        assert_eq!(addresses(&lab, &service.name).len(), 1);
    }
    assert_eq!(apps(&lab).len(), 2);
}

/// An object of the tunnel in the operator's namespace: its path.
fn object(lab: &Homelab, collection: &str, contains: &str) -> String {
    let namespace = lab.operator_namespace();
    let collection = match collection {
        "deployments" => format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
        other => format!("/api/v1/namespaces/{namespace}/{other}"),
    };
    let all = lab.cluster().kube().list(&collection).expect("a list");
    let names = all.iter().map(|object| text(&object["metadata"]["name"]));
    let name = names.into_iter().find(|name| name.starts_with("lb-") && name.contains(contains)).expect("it is there");
    format!("{collection}/{name}")
}

#[test]
fn objects_that_are_deleted_or_edited_are_as_they_were_again() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let [deployment, config_map] = ["deployments", "configmaps"].map(|kind| object(&lab, kind, "web"));
    let secret = object(&lab, "secrets", "-keys-");
    let labels = |path: &str| kube.find(path).expect("an answer").unwrap_or_default()["metadata"]["labels"].clone();
    let whole = [&deployment, &config_map].map(|path| labels(path));
    for (path, labels_before) in [&deployment, &config_map].into_iter().zip(&whole) {
        kube.delete(path).expect("it is deleted");
        wait_until(&format!("{path} is there again"), DEADLINE, || labels(path) == *labels_before);
    }
    // A ConfigMap is immutable, but the labels by which we find it are not.
    for (path, edit) in [
        (&config_map, json!({ "data": { "frpc.toml": "" } })),
        (&secret, json!({ "data": { "token": "" } })),
        (&config_map, json!({ "immutable": false })),
    ] {
        assert!(kube.merge_patch(path, &edit).is_err(), "{path} is immutable");
    }
    let data = |path: &str| kube.find(path).expect("an answer").unwrap_or_default()["data"].clone();
    let config = data(&config_map);
    replace(&lab, &config_map, &json!({ "frpc.toml": "serverPort = 1", "recipe.json": config["recipe.json"] }));
    wait_until("frpc reads what it is to read", DEADLINE, || data(&config_map) == config);
    for (path, labels_before) in [&deployment, &config_map].into_iter().zip(&whole) {
        kube.merge_patch(path, &json!({ "metadata": { "labels": null } })).expect("the labels are taken off");
        wait_until(&format!("{path} has its labels again"), DEADLINE, || labels(path) == *labels_before);
    }
    wait_for_reason(&web, "Serving");
    assert_eq!(web.address(DEADLINE), ip);
    wait_until("it is served", DEADLINE, || get(ip, 8080, "/").is_ok());
    assert_one_of_everything(&lab);
    // Nobody writes in turn for ever.
    let writes = |r: &&Request| r.to == Target::Kubernetes && r.method != "GET" && r.path.contains("/lb-");
    let written = || lab.requests().iter().filter(writes).count();
    let sweeps = || lab.requests().iter().filter(|r| r.path.contains("/orgs/")).count();
    let (before, swept) = (written(), sweeps());
    wait_until("it was looked at twice more", DEADLINE, || sweeps() >= swept + 2);
    assert_eq!(written(), before);

    // Whoever deletes the keys gets new ones, by a lane that takes over; and so does whoever puts others in their place.
    for deleted in [true, false] {
        let (old, secret) = (text(&machines(&lab)[0]["id"]), object(&lab, "secrets", "-keys-"));
        if deleted {
            kube.delete(&secret).expect("it is deleted");
        } else {
            let mut others = data(&secret);
            others["token"] = "b3RoZXI=".into();
            replace(&lab, &secret, &others);
        }
        wait_until("a lane with other keys serves", DEADLINE, || {
            machines(&lab).len() == 1 && machines(&lab)[0]["id"] != old.as_str()
        });
        assert_one_of_everything(&lab);
        assert_ne!(object(&lab, "secrets", "-keys-"), secret);
        wait_for_reason(&web, "Serving");
        assert_answers(ip, 8080, "web");
    }
}

/// Objects are found by their labels, but a Secret that is not found would mean other keys, and another lane.
#[test]
fn labels_that_are_taken_off_come_back_and_change_nothing_else() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let paths = [("secrets", "-keys-"), ("deployments", "web"), ("configmaps", "web")]
        .map(|(kind, contains)| object(&lab, kind, contains));
    let get_object = |path: &str| kube.find(path).expect("an answer").unwrap_or_default();
    let labels = |path: &str| get_object(path)["metadata"]["labels"].clone();
    let before = paths.each_ref().map(|path| labels(path));
    let (machine, names) = (text(&machines(&lab)[0]["id"]), objects(&lab));
    let keys = get_object(&paths[0])["data"].clone();
    let take_off = |path: &str, label: Option<&str>| {
        let labels = label.map_or(json!(null), |label| json!({ label: null }));
        kube.merge_patch(path, &json!({ "metadata": { "labels": labels } })).expect("they are taken off");
    };
    let assert_mended = || {
        for (path, before) in paths.iter().zip(&before) {
            wait_until(&format!("{path} has its labels again"), DEADLINE, || labels(path) == *before);
        }
        wait_for_reason(&web, "Serving");
        assert_eq!(machines(&lab).iter().map(|machine| text(&machine["id"])).collect::<String>(), machine);
        assert_eq!((get_object(&paths[0])["data"].clone(), objects(&lab)), (keys.clone(), names.clone()));
        assert_answers(ip, 8080, "web");
    };
    for label in [None, Some("fly-tunnel-operator.dev/owner"), Some("fly-tunnel-operator.dev/service-name")] {
        for path in &paths {
            take_off(path, label);
        }
        assert_mended();
    }
    operator.kill();
    paths.iter().for_each(|path| take_off(path, None));
    let operator = start(&lab);
    assert_mended();
    assert!(!condition(&web.object()).1.contains("another owner"), "{}", condition(&web.object()).1);

    operator.kill();
    paths.iter().for_each(|path| take_off(path, None));
    kube.delete(&web.path()).expect("it is to go");
    let _operator = start(&lab);
    web.wait_gone(LONG_DEADLINE);
    assert_nothing_left(&lab);
}

/// Puts another object of the same name and labels in its place, as `kubectl replace --force` does.
fn replace(lab: &Homelab, path: &str, data: &Value) {
    let kube = lab.cluster().kube();
    let mut other = kube.get(path).expect("it is there");
    let (name, labels) = (other["metadata"]["name"].clone(), other["metadata"]["labels"].clone());
    other["metadata"] = json!({ "name": name, "labels": labels });
    other["data"] = data.clone();
    let (collection, _) = path.rsplit_once('/').expect("a collection");
    // The operator may be faster than we are.
    wait_until("another is made", DEADLINE, || {
        kube.delete(path).expect("it is deleted");
        kube.create(collection, &other).is_ok()
    });
}

#[test]
fn a_status_that_is_wiped_or_half_written_is_whole_again() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let (kube, path) = (lab.cluster().kube(), format!("{}/status", web.path()));
    let shown = || web.object()["status"].clone();
    let before = shown();
    let address = |mode: Value| json!([{ "ip": ip.to_string(), "ipMode": mode }]);
    assert_eq!(before["loadBalancer"]["ingress"], address(json!("Proxy")));
    let mut ours = before["conditions"][0].clone();
    ours["message"] = json!("half of");
    let others = json!([{ "ip": ip.to_string(), "ipMode": "Proxy" }, { "hostname": "lb.example.com" }]);
    for edit in [
        json!({ "loadBalancer": null, "conditions": null }),
        json!({ "loadBalancer": { "ingress": [] } }),
        json!({ "conditions": [] }),
        json!({ "conditions": [ours] }),
        json!({ "loadBalancer": { "ingress": address(json!("VIP")) } }),
        json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "Proxy" }] } }),
        json!({ "loadBalancer": { "ingress": others } }),
    ] {
        kube.merge_patch(&path, &json!({ "status": edit })).expect("the status is taken");
        let as_before = || {
            let mut now = shown();
            if let Some(condition) = now["conditions"].as_array_mut().and_then(|all| all.first_mut()) {
                // It may be another one by then, made at another time.
                condition["lastTransitionTime"] = before["conditions"][0]["lastTransitionTime"].clone();
            }
            now == before
        };
        wait_until(&format!("{edit} is mended"), DEADLINE, as_before);
    }
    // A condition of somebody else's is left to them.
    let theirs = json!({ "type": "example.com/Seen", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let both = json!([before["conditions"][0], theirs]);
    kube.merge_patch(&path, &json!({ "status": { "conditions": both } })).expect("the status is taken");
    kube.merge_patch(&path, &json!({ "status": { "loadBalancer": null } })).expect("the status is taken");
    wait_until("the address is back", DEADLINE, || shown()["loadBalancer"] == before["loadBalancer"]);
    assert!(shown()["conditions"].as_array().is_some_and(|all| all.contains(&theirs)), "{:#}", shown());
    assert_one_of_everything(&lab);
}

#[test]
fn a_finalizer_that_is_removed_is_put_back_and_a_type_changed_back_gets_a_tunnel_again() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let finalizers = || web.object()["metadata"]["finalizers"].clone();
    let before = finalizers();
    let other = json!(["example.com/other"]);
    for wiped in [json!(null), other.clone()] {
        kube.merge_patch(&web.path(), &json!({ "metadata": { "finalizers": wiped } })).expect("it is removed");
        wait_until("it is put back", DEADLINE, || {
            finalizers()
                .as_array()
                .is_some_and(|all| all.contains(&before[0]) && (wiped.is_null() || all.contains(&other[0])))
        });
    }
    kube.merge_patch(&web.path(), &json!({ "metadata": { "finalizers": before } })).expect("theirs goes");
    wait_for_reason(&web, "Serving");
    assert_eq!(web.address(DEADLINE), ip);
    assert_one_of_everything(&lab);

    // Changed and changed back: at once, and when all was taken down.
    let class = web.object()["spec"]["loadBalancerClass"].clone();
    let away = json!({ "spec": { "type": "ClusterIP", "allocateLoadBalancerNodePorts": null } });
    let back = json!({ "spec": { "type": "LoadBalancer", "loadBalancerClass": class, "allocateLoadBalancerNodePorts": false } });
    for patiently in [false, true] {
        kube.merge_patch(&web.path(), &away).expect("the type is changed");
        if patiently {
            wait_until("the finalizer goes", LONG_DEADLINE, || finalizers().is_null());
            assert_nothing_left(&lab);
        }
        kube.merge_patch(&web.path(), &back).expect("the type is changed back");
        wait_for_reason(&web, "Serving");
        wait_until("it is served", LONG_DEADLINE, || get(web.address(DEADLINE), 8080, "/").is_ok());
        assert_one_of_everything(&lab);
    }
}

/// All that frpc needs is in that namespace.
#[test]
fn the_operators_namespace_is_made_again_with_all_that_was_in_it() {
    let lab = Homelab::new();
    // The operator's own account is in that namespace, too.
    let _operator = lab.operator(binary()).as_admin().start();
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let path = format!("/api/v1/namespaces/{}", lab.operator_namespace());
    let uid = || kube.find(&path).expect("an answer").unwrap_or_default()["metadata"]["uid"].clone();
    let before = uid();
    kube.delete(&path).expect("it goes");
    wait_until("it is another namespace", LONG_DEADLINE, || uid().is_string() && uid() != before);
    wait_until("all is there again", LONG_DEADLINE, || objects(&lab).len() == 3 && get(ip, 8080, "/").is_ok());
    wait_for_reason(&web, "Serving");
    assert_eq!(web.address(DEADLINE), ip, "the address stays");
    assert_one_of_everything(&lab);
}

/// Somebody stops the only Machine, and its host has no room for it any more.
#[test]
fn a_stopped_machine_that_fly_does_not_start_is_replaced() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let full = json!({ "error": "could not start machine: insufficient resources on the host" }).to_string();
    let full = Answer { status: 412, headers: Default::default(), body: full };
    let starts = Rule::new(Fault::Answer(full)).to(Target::Fly).method("POST").path("/start$").times(u32::MAX);
    lab.faults([starts]);
    let (app, old) = (app_of(&lab, "web"), text(&machines(&lab)[0]["id"]));
    post_to_fly(&lab, &format!("/apps/{app}/machines/{old}/stop"), &json!({}));
    wait_until("another takes its place", LONG_DEADLINE, || {
        let machines = machines(&lab);
        machines.len() == 1 && machines[0]["id"] != *old && condition(&web.object()).0 == "Serving"
    });
    assert_answers(ip, 8080, "web");
    assert_eq!(web.address(DEADLINE), ip);
    assert_one_of_everything(&lab);
}
