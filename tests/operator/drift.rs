//! Somebody changes by hand what the operator made. It is found by what it holds, whatever its labels say, and mended.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lab::homelab::Homelab;
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::{assert_answers, get};
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{apps, assert_one_of_everything, delete_at_fly, deployments, machine_at_fly, objects};
use crate::support::{DEADLINE, binary, serving, side_by_side, start, wait_until};

/// Our App's name, and its one Machine.
fn machine(lab: &Homelab) -> (String, Value) {
    let app = apps(lab).remove(0);
    (app["name"].as_str().expect("a name").to_owned(), app["machines"][0].clone())
}

/// Changes a Machine by Fly's API, as a person does.
fn update_at_fly(lab: &Homelab, edit: impl Fn(&mut Value)) -> String {
    let (app, machine) = machine(lab);
    let id = machine["id"].as_str().expect("an ID").to_owned();
    let url = format!("http://{}/v1/apps/{app}/machines/{id}", lab.fly().address());
    let authorization = format!("Bearer {}", lab.fly().token());
    let mut config = machine_at_fly(lab, &app, &id)["config"].take();
    edit(&mut config);
    let body = json!({ "config": config });
    ureq::post(&url).header("Authorization", &authorization).send(body.to_string()).expect("it is updated");
    id
}

fn without_ports(config: &mut Value, ports: &[u16]) {
    let services = config["services"].as_array_mut().expect("services");
    services.retain(|service| !ports.iter().any(|port| service["ports"][0]["port"] == *port));
}

fn edit_file(config: &mut Value, name: &str, edit: impl Fn(&str) -> String) {
    let mut files = config["files"].as_array_mut().expect("files").iter_mut();
    let file = files.find(|file| file["guest_path"].as_str().is_some_and(|path| path.ends_with(name)));
    let content = &mut file.expect("a file of that name")["raw_value"];
    let before = BASE64_STANDARD.decode(content.as_str().expect("base64")).expect("base64");
    let before = String::from_utf8(before).expect("a text");
    let after = edit(&before);
    assert_ne!(before, after);
    *content = BASE64_STANDARD.encode(after).into();
}

#[test]
fn a_machine_that_somebody_changed_is_replaced() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit); 9] = [
        ("it does not expose port 8081", |config| without_ports(config, &[8081])),
        ("it does not expose port 8080, it does not expose port 8081", |config| without_ports(config, &[8080, 8081])),
        ("the image is docker.io/library/frps:other", |config| config["image"] = "docker.io/library/frps:other".into()),
        ("with 512 MiB", |config| config["guest"]["memory_mb"] = 512.into()),
        // Fly ends TLS before frps, which the checks do not show.
        ("it does not expose port 8081", |config| {
            let services = config["services"].as_array_mut().expect("services");
            let service = services.iter_mut().find(|service| service["ports"][0]["port"] == 8081);
            service.expect("the Service's")["ports"][0]["handlers"] = json!(["tls"]);
        }),
        ("with the command /bin/sleep inf", |config| config["init"]["exec"] = json!(["/bin/sleep", "inf"])),
        // frps takes nobody any more.
        ("its files are others", |config| {
            edit_file(config, "frps.toml", |text| text.replace("token = \"", "token = \"x"))
        }),
        ("env is another", |config| config["env"] = json!({ "GODEBUG": "http2client=0" })),
        ("services.2.autostop is true", |config| {
            let services = config["services"].as_array_mut().expect("services");
            let last = services.last_mut().expect("the last");
            last["autostop"] = "stop".into();
            last["concurrency"]["hard_limit"] = 1.into();
        }),
    ];
    side_by_side(2, cases, |(why, edit)| {
        let lab = Homelab::new();
        let operator = start(&lab);
        let web = lab.service("web").port(8080).port(8081).create();
        let ip = web.address(DEADLINE);
        wait_for_reason(&web, "Serving");
        let before = update_at_fly(&lab, edit);
        wait_until("the lane is another", DEADLINE, || {
            let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
            machines.len() == 1 && machines[0]["id"] != before.as_str()
        });
        wait_for_reason(&web, "Serving");
        for port in [8080, 8081] {
            assert_answers(ip, port, "web");
        }
        assert_one_of_everything(&lab);
        assert!(operator.log().contains(why), "{why}: {}", operator.log());
    });
}

fn deployment_path(lab: &Homelab) -> String {
    let collection = deployments(lab);
    let listed = lab.cluster().kube().list(&collection).expect("a list");
    let name = listed[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    format!("{collection}/{name}")
}

/// Fields that somebody's edit added go, too: an apply alone would leave them. It is seen by a process that looked on, and by
/// one that starts afterwards.
#[test]
fn a_deployment_that_somebody_edited_is_as_it_was_rendered_again() {
    let edits = [
        json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }),
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } } }),
        json!({ "spec": { "replicas": 0 } }),
        json!({ "spec": { "template": { "metadata": { "annotations": { "a": "b" } } } } }),
    ];
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    let (kube, path) = (lab.cluster().kube(), deployment_path(&lab));
    let spec = || kube.get(&path).expect("the Deployment")["spec"].clone();
    let before = spec();
    let args = json!([{ "op": "add", "path": "/spec/template/spec/containers/0/args", "value": ["--version"] }]);
    kube.json_patch(&path, &args).expect("it is edited");
    wait_until("the args are gone", DEADLINE, || spec() == before);
    for edit in &edits {
        kube.merge_patch(&path, edit).expect("it is edited");
        wait_until(&format!("{edit} is gone"), DEADLINE, || spec() == before);
    }
    operator.terminate();
    drop(operator);
    for edit in &edits {
        kube.merge_patch(&path, edit).expect("it is edited");
    }
    kube.json_patch(&path, &args).expect("it is edited");
    let _operator = start(&lab);
    wait_until("everything is as it was", DEADLINE, || spec() == before);
    wait_until("its frpc is back", DEADLINE, || get(ip, 8080, "/").is_ok_and(|answer| answer.contains("web-")));
    wait_for_reason(&web, "Serving");
    // Whatever else the cluster writes is taken for as it should be: nobody writes in turn for ever.
    let writes = || {
        let requests = lab.requests();
        requests.iter().filter(|r| r.path.contains("/deployments/") && r.method != "GET").count()
    };
    let looks = || lab.requests().iter().filter(|r| r.path.contains("/deployments?")).count();
    let (written, looked) = (writes(), looks());
    wait_until("it was looked at twice more", DEADLINE, || looks() >= looked + 2);
    assert_eq!(writes(), written);
}

/// A copy has our labels, and sorts before or behind ours.
#[test]
fn copies_of_our_objects_change_nothing_and_go() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let before = objects(&lab);
    let (core, apps_v1) = (format!("/api/v1/namespaces/{}", lab.operator_namespace()), "/apis/apps/v1");
    for collection in [
        format!("{apps_v1}/namespaces/{}/deployments", lab.operator_namespace()),
        format!("{core}/configmaps"),
        format!("{core}/secrets"),
    ] {
        let ours = kube.list(&collection).expect("a list");
        let ours = ours.into_iter().find(|o| o["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("lb-")));
        let mut copy = ours.expect("one of ours");
        for name in ["lb-a-copy", "lb-z-copy"] {
            copy["metadata"] = json!({ "name": name, "labels": copy["metadata"]["labels"] });
            kube.create(&collection, &copy).expect("a copy is made");
        }
    }
    wait_until("the copies are gone", DEADLINE, || objects(&lab) == before);
    assert_answers(ip, 8080, "web");
    assert_eq!(condition(&web.object()).0, "Serving");
    assert_one_of_everything(&lab);
}

const TYPO: &str = "fly-tunnel-operator.dev/fly-regoin";

fn refuse(lab: &Homelab, web: &ServiceHandle) {
    let typo = json!({ "metadata": { "annotations": { TYPO: "iad" } } });
    lab.cluster().kube().merge_patch(&web.path(), &typo).expect("the annotation is set");
    let message = wait_for_reason(web, "InvalidService");
    assert!(message.contains("fly-regoin"), "{message}");
}

/// Whoever makes a typo keeps the tunnel as it was, also when something of it is lost.
#[test]
fn the_tunnel_of_a_refused_service_is_repaired_as_it_was() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    refuse(&lab, &web);
    lab.cluster().kube().delete(&deployment_path(&lab)).expect("it is deleted");
    wait_until("frpc is there again", DEADLINE, || objects(&lab).len() == 3 && get(ip, 8080, "/").is_ok());
    let (app, lost) = machine(&lab);
    delete_at_fly(&lab, &format!("/apps/{app}/machines/{}", lost["id"].as_str().expect("an ID")));
    wait_until("another Machine serves", DEADLINE, || {
        let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
        machines.iter().any(|machine| machine["id"] != lost["id"]) && get(ip, 8080, "/").is_ok()
    });
    assert_one_of_everything(&lab);
    let status = || {
        let object = web.object();
        let ours = object["status"]["conditions"].as_array().into_iter().flatten().next().cloned();
        ours.map(|condition| (condition["reason"].clone(), condition["status"].clone()))
    };
    // Users are served, so the Service is ready, though it is refused.
    wait_until("it is ready", DEADLINE, || status() == Some(("InvalidService".into(), "True".into())));
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"][0]["ip"], ip.to_string());

    // An operator that was not there when the Service was well knows it from Fly and from the cluster.
    operator.kill();
    let (app, lost) = machine(&lab);
    delete_at_fly(&lab, &format!("/apps/{app}/machines/{}", lost["id"].as_str().expect("an ID")));
    lab.cluster().kube().delete(&deployment_path(&lab)).expect("it is deleted");
    let _operator = lab.operator(binary()).start();
    wait_until("it serves again", DEADLINE, || get(ip, 8080, "/").is_ok());
    assert_one_of_everything(&lab);
    let mended = json!({ "metadata": { "annotations": { TYPO: null } } });
    lab.cluster().kube().merge_patch(&web.path(), &mended).expect("the annotation is taken away");
    wait_for_reason(&web, "Serving");
    assert_answers(ip, 8080, "web");
}
