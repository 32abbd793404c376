//! What cannot be served is refused with a clear message, and nothing is lost by it.

use lab::homelab::Homelab;
use lab::recorder::Request;
use serde_json::json;

use crate::client::assert_answers;
use crate::{DEADLINE, apps, condition, serving, start, wait_for_reason, wait_until};

#[test]
fn what_cannot_be_served_says_what_to_do_and_exposes_nothing() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let plain = |name: &str| lab.service(name).port(8080);
    let annotated = |name: &str, annotation: &str, value: &str| {
        plain(name).annotation(&format!("fly-tunnel-operator.dev/{annotation}"), value)
    };
    let cases = [
        (plain("udp").udp_port(5353), "UDP"),
        (annotated("replicas", "replicas", "2"), "replicas"),
        (annotated("group", "tunnel-group", "web"), "tunnel-group"),
        (annotated("proxy", "proxy-protocol", "v2"), "proxy-protocol"),
        (annotated("size", "fly-machine-size", "huge"), "shared-cpu-1x"),
        (annotated("region", "fly-region", "Chicago!"), "such as ord"),
        (annotated("memory", "frpc-memory-limit", "lots"), "quantity"),
        (plain("ranges").spec(json!({ "loadBalancerSourceRanges": ["192.0.2.0/24"] })), "192.0.2.0/24"),
        (plain("local").spec(json!({ "internalTrafficPolicy": "Local" })), "internalTrafficPolicy"),
    ];
    for (service, told) in cases {
        let service = service.create();
        let message = wait_for_reason(&service, "InvalidService");
        assert!(message.contains(told), "{}: {message}", service.name);
        let object = service.object();
        assert!(object["status"]["loadBalancer"]["ingress"].is_null() && object["metadata"]["finalizers"].is_null());
        let events = format!("/api/v1/namespaces/{}/events", service.namespace);
        let warned = || {
            let events = lab.cluster().kube().list(&events).expect("a list");
            events
                .iter()
                .filter(|e| {
                    e["involvedObject"]["name"] == service.name
                        && e["type"] == "Warning"
                        && e["source"]["component"] == "fly-tunnel-operator"
                })
                .count()
        };
        wait_until("the warning", DEADLINE, || warned() == 1);
    }
    assert!(apps(&lab).is_empty());
}

/// Only Fly knows its regions. What it says is handed on, once, however often it is tried.
#[test]
fn a_region_that_fly_does_not_know_is_told() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/fly-region", "xyz").create();
    let message = wait_for_reason(&web, "InvalidService");
    assert!(message.contains("region"), "{message}");
    let tried =
        |requests: &[Request]| requests.iter().filter(|r| r.method == "POST" && r.path.ends_with("/machines")).count();
    lab.wait_requests(DEADLINE, |requests| tried(requests) >= 4);
    assert_eq!(operator.log().matches("InvalidService").count(), 1, "{}", operator.log());
    let written = |r: &&Request| r.method == "PATCH" && r.path.contains("/services/web/status");
    let patches = lab.requests().iter().filter(written).count();
    assert_eq!(patches, 3, "the finalizer, Provisioning, InvalidService");
    let right = json!({ "metadata": { "annotations": { "fly-tunnel-operator.dev/fly-region": "iad" } } });
    lab.cluster().kube().merge_patch(&web.path(), &right).expect("the annotation is mended");
    assert_answers(web.address(DEADLINE), 8080, "web");
}

#[test]
fn a_tunnel_that_runs_stays_as_it_is_when_its_service_turns_bad() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let bad = json!({ "metadata": { "annotations": { "fly-tunnel-operator.dev/fly-machine-size": "huge" } } });
    lab.cluster().kube().merge_patch(&web.path(), &bad).expect("the annotation is set");
    wait_for_reason(&web, "InvalidService");
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"][0]["ip"], ip.to_string());
    assert_answers(ip, 8080, "web");
    let good = json!({ "metadata": { "annotations": { "fly-tunnel-operator.dev/fly-machine-size": null } } });
    lab.cluster().kube().merge_patch(&web.path(), &good).expect("the annotation is taken away");
    wait_for_reason(&web, "Serving");
}

/// A request to close the door is obeyed at once; the address stays.
#[test]
fn source_ranges_on_a_live_service_close_it() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let close = json!({ "spec": { "loadBalancerSourceRanges": ["192.0.2.0/24"] } });
    lab.cluster().kube().merge_patch(&web.path(), &close).expect("the ranges are set");
    wait_for_reason(&web, "InvalidService");
    wait_until("the lane is cordoned", DEADLINE, || apps(&lab)[0]["machines"][0]["cordoned"] == true);
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"][0]["ip"], ip.to_string());
    let open = json!({ "spec": { "loadBalancerSourceRanges": null } });
    lab.cluster().kube().merge_patch(&web.path(), &open).expect("the ranges are taken away");
    wait_until("it serves again", DEADLINE, || condition(&web.object()).0 == "Serving");
    assert_answers(ip, 8080, "web");
}
