//! The operator has the least rights that work: each is used, and none is missing.

use std::collections::BTreeSet;

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::rights::{EVERYWHERE, IN_ITS_NAMESPACE, IN_KUBE_SYSTEM, Rule};
use serde_json::{Value, json};

use crate::election::candidate;
use crate::{
    DEADLINE, assert_nothing_left, binary, condition, serving, side_by_side, start, wait_for_reason, wait_until,
};

/// What a request needs, as `group/resource verb`. Paths are `/api/v1/…` or `/apis/GROUP/v1/…`, then
/// `namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`; a namespace itself is an object in itself. Everybody may ask for the
/// version.
fn needed(request: &Request) -> Vec<String> {
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/version" {
        return Vec::new();
    }
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let group = if parts.remove(0) == "apis" { parts.remove(0) } else { "" };
    parts.remove(0); // the version
    if parts[0] == "namespaces" && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = match parts[..] {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => parts[0].to_owned(),
    };
    let verbs: &[&str] = match (request.method.as_str(), parts.len(), request.status) {
        ("GET", 1, _) => &["list"],
        ("GET", _, _) => &["get"],
        ("POST", _, _) => &["create"],
        ("DELETE", _, _) => &["delete"],
        ("PUT", _, _) => &["update"],
        // An apply that makes the object.
        ("PATCH", _, Some(201)) => &["patch", "create"],
        // Nobody can tell which of the two was missing.
        ("PATCH", _, Some(403)) if resource == "deployments" => &["patch", "create"],
        ("PATCH", _, _) => &["patch"],
        other => panic!("{other:?}"),
    };
    verbs.iter().map(|verb| format!("{group}/{resource} {verb}")).collect()
}

/// One verb of one rule.
struct Right {
    rule: &'static Rule,
    verb: &'static str,
    of: Where,
}

#[derive(Clone, Copy)]
enum Where {
    Everywhere,
    KubeSystem,
    ItsNamespace,
}

impl Right {
    fn all() -> Vec<Right> {
        let rules = [
            (Where::Everywhere, &EVERYWHERE[..]),
            (Where::KubeSystem, &IN_KUBE_SYSTEM),
            (Where::ItsNamespace, &IN_ITS_NAMESPACE),
        ];
        let verbs = |of, rule: &'static Rule| rule.verbs.iter().map(move |verb| Right { rule, verb, of });
        rules.into_iter().flat_map(|(of, rules)| rules.iter().flat_map(move |rule| verbs(of, rule))).collect()
    }

    fn name(&self) -> String {
        format!("{}/{} {}", self.rule.group, self.rule.resource, self.verb)
    }

    fn take_away(&self, lab: &Homelab) {
        let namespace = match self.of {
            Where::Everywhere => None,
            Where::KubeSystem => Some("kube-system"),
            Where::ItsNamespace => Some(lab.operator_namespace()),
        };
        lab.operator_account().take_away(lab.cluster(), namespace, self.rule, self.verb);
    }
}

/// From the UID of kube-system and the Lease to the last finalizer, and the Lease's release.
#[test]
fn each_right_is_used_and_none_is_missing() {
    let lab = Homelab::new();
    let mut operator = lab.operator(binary()).without("CLUSTER_NAME").env("LEADER_ELECT", "true").start();
    let (web, _) = serving(&lab);
    // It leaves the list of load balancers, and is read by name.
    let change = json!({ "spec": { "type": "ClusterIP" } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
    wait_until("the finalizer goes", DEADLINE, || web.object()["metadata"]["finalizers"].is_null());
    assert_nothing_left(&lab);
    operator.terminate();
    operator.wait(DEADLINE).expect("it ends");

    let requests = lab.requests();
    let answered = |r: &&Request| r.to == Target::Kubernetes && r.status.is_some();
    let refused: Vec<_> = requests.iter().filter(answered).filter(|r| r.status == Some(403)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<String> = requests.iter().filter(answered).flat_map(needed).collect();
    assert_eq!(used, Right::all().iter().map(Right::name).collect());
}

/// What does not work any more without a right.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaks {
    Address,
    Cleanup,
    Events,
    Leadership,
}

impl Breaks {
    fn without(right: &str) -> Breaks {
        match right {
            "/events create" => Breaks::Events,
            "/services get" | "/secrets delete" | "/configmaps delete" | "apps/deployments delete" => Breaks::Cleanup,
            "coordination.k8s.io/leases update" => Breaks::Leadership,
            _ => Breaks::Address,
        }
    }
}

/// Each verb of each rule is taken away in turn: the API server refuses what needs it, something does not work, and people
/// are told.
#[test]
fn without_any_one_of_its_rights_something_breaks_and_says_so() {
    side_by_side(6, Right::all(), |right| {
        let (name, breaks) = (right.name(), Breaks::without(&right.name()));
        let lab = Homelab::new();
        // On its way up a tunnel may be read by name too, where a poll saw its Service half written.
        if breaks != Breaks::Cleanup {
            right.take_away(&lab);
        }
        let operator = candidate(&lab, "operator").without("CLUSTER_NAME").env("RUST_LOG", "info").start();
        let web = lab.service("web").port(8080).create();
        if breaks != Breaks::Address {
            web.address(DEADLINE);
        }
        if breaks == Breaks::Cleanup {
            right.take_away(&lab);
            let change = json!({ "spec": { "type": "ClusterIP" } });
            lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
        }
        lab.wait_requests(DEADLINE, |requests| {
            let refused = |r: &&Request| r.status == Some(403) && needed(r).contains(&name);
            requests.iter().filter(refused).count() > usize::from(breaks != Breaks::Events)
        });
        let object = web.object();
        let told = || condition(&web.object()).1 + &operator.log();
        match breaks {
            Breaks::Address => assert!(object["status"]["loadBalancer"]["ingress"].is_null(), "{name}: {object:#}"),
            Breaks::Cleanup => assert!(!object["metadata"]["finalizers"].is_null(), "{name}: {object:#}"),
            Breaks::Leadership => wait_until("it leads no more", DEADLINE, || told().contains("standing by")),
            Breaks::Events => {
                wait_for_reason(&web, "Serving");
                let events = lab.cluster().kube().list(&format!("/api/v1/namespaces/{}/events", web.namespace));
                let ours = |event: &Value| event["source"]["component"] == "fly-tunnel-operator";
                assert!(!events.expect("a list").iter().any(ours), "{name}");
            }
        }
        wait_until(&format!("people are told of {name}"), DEADLINE, || told().contains("forbidden"));
    });
}

/// What a stranger would like who got hold of the operator's token.
#[test]
fn its_token_is_good_for_nothing_else() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    drop(operator);
    let token = format!("--token={}", lab.operator_account().token());
    let (theirs, own) = (format!("--namespace={}", web.namespace), format!("--namespace={}", lab.operator_namespace()));
    let spec = r#"{"spec":{"externalIPs":["192.0.2.1"]}}"#;
    let finalizers = r#"{"metadata":{"finalizers":["example.com/kept"],"labels":{"a":"b"}}}"#;
    for arguments in [
        &["get", "secrets", &theirs][..],
        &["get", "secrets", "--all-namespaces"],
        &["get", "configmaps", &theirs],
        &["get", "pods", "--all-namespaces"],
        &["get", "nodes"],
        &["get", "namespace", "default"],
        &["get", "leases", "--all-namespaces"],
        &["patch", "service", "web", &theirs, "--patch", spec],
        &["patch", "service", "web", &theirs, "--patch", finalizers],
        &["delete", "service", "web", &theirs],
        &["create", "service", "clusterip", "new", "--tcp=80", &theirs],
        &["create", "deployment", "new", "--image=echo", &theirs],
        &["create", "configmap", "new", &theirs],
        &["create", "role", "new", "--verb=get", "--resource=pods", &own],
        &["create", "token", "default", &own],
        &["run", "new", "--image=echo", &own],
        &["exec", "any", &own, "--", "sh"],
        &["create", "clusterrolebinding", "new", "--clusterrole=cluster-admin", "--user=me"],
    ] {
        let done = lab.cluster().kubectl(&[&[token.as_str()], arguments].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.to_lowercase().contains("forbidden"), "kubectl {arguments:?}: {said}");
    }
    // Beyond the status it changes nothing of a Service, also not by the door that it has.
    let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).proxy(None).build().into();
    let status = format!("https://{}{}/status", lab.cluster().api_server(), web.path());
    let patch = agent.patch(&status).header("Authorization", format!("Bearer {}", lab.operator_account().token()));
    let done = patch.content_type("application/merge-patch+json").send(spec).expect("it may patch the status");
    assert_eq!(done.status(), 200);
    assert!(web.object()["spec"]["externalIPs"].is_null());
}
