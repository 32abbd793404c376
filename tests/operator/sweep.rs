//! A settled tunnel costs next to nothing: all of them are looked at together. A list that fails, or that is not whole, makes nothing
//! absent. Apps that no Service asks for are found.

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Request, Rule, Target};
use serde_json::{Map, Value, json};

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::http::metrics;
use crate::support::inventory::{FINALIZER, apps, objects, ready};
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, start, wait_until};

fn is_sweep(request: &Request) -> bool {
    request.to == Target::Fly && request.path.contains("/orgs/") && request.path.contains("/machines")
}

fn sweeps(requests: &[Request]) -> usize {
    requests.iter().filter(|r| is_sweep(r)).count()
}

/// Waits until so many sweeps more have ended, and everything that they led to has begun.
fn wait_for_sweeps(lab: &Homelab, more: usize) {
    let before = sweeps(&lab.requests());
    lab.wait_requests(DEADLINE, |requests| sweeps(requests) > before + more);
}

#[test]
fn settled_tunnels_are_looked_at_together() {
    let lab = Homelab::new();
    let operator = lab.operator(binary()).env("RESYNC_INTERVAL", "3s").start();
    for name in ["web", "shop", "mail"] {
        let service = lab.service(name).port(8080).create();
        wait_for_reason(&service, "Serving");
    }
    // Fly's checks pass before frpc's pod is ready. Then the tunnel is looked at as a whole once more, an interval later.
    wait_until("frpc's pods are ready", DEADLINE, || ready(&lab) == 3);
    wait_for_sweeps(&lab, 4);
    let from = lab.requests().len();
    wait_for_sweeps(&lab, 4);
    let requests = lab.requests().split_off(from);
    let each: Vec<&Request> =
        requests.iter().filter(|r| r.to == Target::Fly && r.path.starts_with("/v1/apps/")).collect();
    let (machines, others): (Vec<_>, Vec<_>) = each.into_iter().partition(|r| r.path.ends_with("/machines"));
    assert!(others.is_empty(), "{others:#?}\n{}", operator.log());
    let lists = |path: &str| requests.iter().filter(|r| r.path.contains(path)).count();
    let sweeps = sweeps(&requests);
    assert!(machines.len() <= 3, "each tunnel is asked after once in 20 sweeps: {machines:#?}");
    for path in ["/v1/apps?", "/deployments?", "/configmaps?", "/secrets?"] {
        assert!((sweeps - 1..=sweeps + 1).contains(&lists(path)), "{path}: {} in {sweeps} sweeps", lists(path));
    }
}

#[test]
fn lists_that_fail_or_are_not_whole_make_nothing_absent() {
    let answer = |status, body: Value| Fault::Answer(Answer { status, headers: Map::new(), body: body.to_string() });
    let (of_apps, of_machines) = ("/v1/apps\\?", "/v1/orgs/");
    let whole = json!({ "error": "upstream unavailable" });
    let partial = json!({ "machines": [], "next_cursor": "", "error_regions": ["ord"] });
    let cases = [
        ("no Machine, and a region that did not answer", of_machines, answer(200, partial)),
        ("no Machine", of_machines, answer(200, json!({ "machines": [], "next_cursor": "" }))),
        ("no list of Machines", of_machines, answer(200, json!({}))),
        ("no App", of_apps, answer(200, json!({ "total_apps": 0, "apps": [] }))),
        ("an App is left out", of_apps, answer(200, json!({ "total_apps": 1, "apps": [] }))),
        ("a 503 for the Machines", of_machines, answer(503, whole.clone())),
        ("a 503 for the Apps", of_apps, answer(503, whole)),
    ];
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "1s").start();
    let (web, ip) = serving(&lab);
    let before = (apps(&lab), objects(&lab));
    for (what, path, fault) in cases {
        lab.faults([Rule::new(fault).to(Target::Fly).method("GET").path(path).times(u32::MAX)]);
        let from = lab.requests().len();
        let listed = |requests: &[Request]| {
            requests[from..]
                .iter()
                .filter(|r| r.method == "GET" && r.path.contains(path.trim_end_matches("\\?")))
                .count()
        };
        lab.wait_requests(DEADLINE, |requests| listed(requests) >= 4);
        assert_eq!((apps(&lab), objects(&lab)), before, "{what}");
        assert_eq!(condition(&web.object()).0, "Serving", "{what}");
        assert_answers(ip, 8080, "web");
    }
    lab.faults([]);
}

/// A host vanishes without a word. No list of Fly's shows it, and the tunnel is looked at by itself every 5 minutes, which is later than
/// the deadline. But frpc misses its heartbeats, so its pod is not ready.
#[test]
fn a_lost_host_is_found_by_its_frpc() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("RESYNC_INTERVAL", "30s").start();
    let (web, _) = serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    // A look now finds everything as it should be.
    let wiped = json!({ "status": { "conditions": null } });
    lab.cluster().kube().merge_patch(&format!("{}/status", web.path()), &wiped).expect("the status is wiped");
    wait_for_reason(&web, "Serving");
    let machine = apps(&lab)[0]["machines"][0]["id"].as_str().expect("it has one").to_owned();
    assert!(lab.fly().host_down(&machine));
    wait_until("it is found", DEADLINE, || condition(&web.object()).0 != "Serving");
    wait_until("a lane on another host serves", LONG_DEADLINE, || condition(&web.object()).0 == "Serving");
}

/// Such an image has frpc alone, so the pods' probe cannot run. Users are served all the same.
#[test]
fn pods_whose_image_has_no_shell_are_told_of_once() {
    let lab = Homelab::new();
    let image = "registry.example.com/distroless/frpc:1";
    let operator = lab.operator(binary()).env("RESYNC_INTERVAL", "2s").env("FRPC_IMAGE", image).start();
    let (web, ip) = serving(&lab);
    let shop = lab.service("shop").port(8080).create();
    wait_for_reason(&shop, "Serving");
    let lines = || operator.log().lines().filter(|line| line.contains("do not get ready")).count();
    wait_until("it is told", DEADLINE, || lines() > 0);
    assert!(operator.log().contains(image), "{}", operator.log());
    wait_for_sweeps(&lab, 5);
    assert_eq!(lines(), 1);
    assert_eq!(condition(&web.object()).0, "Serving");
    assert_answers(ip, 8080, "web");
}

/// An operator is down, and meanwhile somebody takes our finalizer off a Service and deletes it.
#[test]
fn an_app_that_no_service_asks_for_is_told_with_what_it_costs() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let shop = lab.service("shop").port(8080).create();
    wait_for_reason(&shop, "Serving");
    operator.kill();
    let mut object = web.object();
    object["metadata"]["finalizers"] = json!([]);
    lab.cluster().kube().replace(&web.path(), &object).expect("the finalizer is taken off");
    web.delete();
    web.wait_gone(DEADLINE);
    assert_eq!(apps(&lab).len(), 2, "{FINALIZER} was all that kept it");

    let operator = start(&lab);
    let name = |app: &Value| app["name"].as_str().unwrap_or_default().to_owned();
    let orphan = apps(&lab).iter().map(name).find(|name| name.contains("web")).expect("the App");
    let cost = "fly_tunnel_operator_orphans_estimated_cost_dollars_per_month 4.02\n";
    let metrics = || metrics(&operator);
    wait_until("the metric", LONG_DEADLINE, || metrics().contains(cost));
    let log = operator.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") && line.contains(&orphan)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("$4.02 a month") && lines[0].contains("--delete-orphans"), "{}", lines[0]);
    let events = format!("/api/v1/namespaces/{}/events", lab.operator_namespace());
    let told = || lab.cluster().kube().list(&events).expect("a list").iter().any(|e| e["reason"] == "OrphanedApp");
    wait_until("the event", DEADLINE, told);
    assert_eq!(apps(&lab).len(), 2, "it is left alone");
    // Whoever makes the Service again gets the App back.
    let spec = ["type", "loadBalancerClass", "selector", "ports"].map(|field| (field, object["spec"][field].clone()));
    let again = json!({ "metadata": { "name": "web" }, "spec": Map::from_iter(spec.map(|(field, value)| (field.to_owned(), value))) });
    let services = format!("/api/v1/namespaces/{}/services", web.namespace);
    lab.cluster().kube().create(&services, &again).expect("it is made again");
    wait_for_reason(&web, "Serving");
    wait_until("nobody is told of it any more", LONG_DEADLINE, || {
        metrics().contains("fly_tunnel_operator_orphans 0\n")
    });
}
