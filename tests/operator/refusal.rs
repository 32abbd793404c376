//! A Service that cannot be served is refused with a clear message, and nothing is lost by it.

use std::collections::BTreeMap;

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::service::ServiceHandle;
use serde_json::json;

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::apps;
use crate::support::{DEADLINE, binary, ended, serving, start, wait_for_polls, wait_until};

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
        (annotated("replicas", "replicas", "6"), "from 1 to 5"),
        (annotated("group", "tunnel-group", "web"), "tunnel-group"),
        (annotated("proxy", "proxy-protocol", "v2"), "proxy-protocol"),
        (annotated("size", "fly-machine-size", "huge"), "shared-cpu-1x"),
        (annotated("limit", "bandwidth-limit", "2 megabytes"), "such as 512KB or 10MB"),
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

    // Nothing was made for it, so only our condition is to go. A stranger's stays.
    let (plain, other) = (plain("plain").udp_port(5353).create(), plain("other").udp_port(5353).create());
    let kube = lab.cluster().kube();
    let conditions = |service: &ServiceHandle| service.object()["status"]["conditions"].clone();
    let theirs = json!({ "type": "example.com/Seen", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    for service in [&plain, &other] {
        wait_for_reason(service, "InvalidService");
        let both = json!({ "status": { "conditions": [conditions(service)[0], theirs] } });
        kube.merge_patch(&format!("{}/status", service.path()), &both).expect("a condition of theirs");
    }
    let requests = lab.requests().len();
    let cluster_ip = json!({ "spec": { "type": "ClusterIP", "allocateLoadBalancerNodePorts": null } });
    kube.merge_patch(&plain.path(), &cluster_ip).expect("the type is changed");
    wait_until("our condition goes", DEADLINE, || conditions(&plain) == json!([theirs]));
    other.delete();
    other.wait_gone(DEADLINE);
    wait_for_polls(&lab, 2);
    let writes = |r: &&Request| r.to == Target::Fly && r.path.contains("/apps/") && r.method != "GET";
    assert_eq!(
        lab.requests()[requests..].iter().filter(writes).count(),
        0,
        "Fly is only asked whether there is an App"
    );
}

/// Only Fly knows its regions, so its answer is handed on, once, however often the step is tried again.
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

/// Source ranges are a request to let fewer clients in, so the tunnel is closed at once. Its address stays.
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

/// The real API server is the judge of how a quantity may be written.
#[test]
fn a_quantity_is_taken_where_the_api_server_takes_it_and_refused_where_it_does_not() {
    const SPELLINGS: [&str; 25] = [
        "64Mi",
        "129e6",
        "1.29E8",
        "1e+9",
        "1E-1",
        "+1e9",
        "129000000.",
        "129000000.5",
        ".5Gi",
        "1E",
        "1Ei",
        "1e9m",
        "129000000u",
        "1e",
        "e9",
        "1 Gi",
        "1gi",
        "1K",
        "0x10",
        "1_000_000_000",
        "--1Gi",
        "1e9Mi",
        "1Gi ",
        " 1Gi",
        "9e99",
    ];
    let lab = Homelab::new();
    let pods = format!("/api/v1/namespaces/{}/pods?dryRun=All", lab.namespace());
    let mut taken = BTreeMap::new();
    for (index, spelling) in SPELLINGS.iter().enumerate() {
        let resources = json!({ "requests": { "memory": "32Mi" }, "limits": { "memory": spelling } });
        let container = json!({ "name": "c", "image": "i", "resources": resources });
        let pod = json!({ "metadata": { "name": "judged" }, "spec": { "containers": [container] } });
        let name = format!("s{index}");
        lab.service(&name).port(8080).annotation("fly-tunnel-operator.dev/frpc-memory-limit", spelling).create();
        taken.insert(name, (*spelling, lab.cluster().kube().create(&pods, &pod).map(|_| ())));
    }
    let (code, out) = ended(lab.operator(binary()).arg("--dry-run").start());
    assert_eq!(code, Some(0), "{out}");
    for (name, (spelling, judged)) in &taken {
        let (_, plan) = out.split_once(&format!("/{name} (Fly App ")).unwrap_or_else(|| panic!("{name}: {out}"));
        let plan = plan.lines().skip(1).take_while(|line| line.starts_with(' ')).collect::<String>();
        let ours = !plan.contains("InvalidService");
        assert_eq!(ours, judged.is_ok(), "{spelling:?}: {:?}; we plan {plan}", judged.as_ref().err());
    }
    let refused = taken.values().filter(|(_, judged)| judged.is_err()).count();
    assert!((5..20).contains(&refused), "both kinds are tried: {taken:#?}");
}
