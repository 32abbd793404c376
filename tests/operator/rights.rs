//! The operator has the fewest rights that work: each is used, and none is missing.

use std::collections::BTreeSet;

use kube_client_lite::{Client, ClientOptions, Config, PatchOperation, Sources};
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use lab::rights::{EVERYWHERE, IN_ITS_NAMESPACE, IN_KUBE_SYSTEM, Rule};
use serde_json::{Value, json};

use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::assert_nothing_left;
use crate::support::lease::candidate;
use crate::support::{DEADLINE, binary, serving, side_by_side, start, wait_until};

/// The rights that a request needs, as `group/resource verb`. Paths are `/api/v1/…` or `/apis/GROUP/v1/…`, then
/// `namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`; a namespace itself is such a RESOURCE too. Everybody may ask for the
/// version, which needs no right.
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
        // This apply made the object, for which the API server asks for both verbs.
        ("PATCH", _, Some(201)) => &["patch", "create"],
        // The refusal does not tell which of the two verbs was missing.
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

/// Adds something to frpc's Deployment and stops its pod, as a person may.
fn edit_deployment(lab: &Homelab) {
    let (kube, collection) = (lab.cluster().kube(), deployments(lab));
    let name = kube.list(&collection).expect("a list").remove(0)["metadata"]["name"].clone();
    let edit = json!({ "spec": { "replicas": 0, "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } } });
    kube.merge_patch(&format!("{collection}/{}", name.as_str().expect("a name")), &edit).expect("it is edited");
}

fn is_edited(lab: &Homelab) -> bool {
    let deployment = lab.cluster().kube().list(&deployments(lab)).expect("a list").remove(0);
    deployment["spec"]["replicas"] == 0 || !deployment["spec"]["template"]["spec"]["nodeSelector"]["disk"].is_null()
}

fn deployments(lab: &Homelab) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments", lab.operator_namespace())
}

/// The test lives through a whole life: from the UID of kube-system and the Lease to the last finalizer and the release
/// of the Lease.
#[test]
fn each_right_is_used_and_none_is_missing() {
    let lab = Homelab::new();
    let mut operator = lab.operator(binary()).without("CLUSTER_NAME").env("LEADER_ELECT", "true").start();
    let (web, _) = serving(&lab);
    edit_deployment(&lab);
    wait_until("the edit is gone", DEADLINE, || !is_edited(&lab));
    // The Service leaves the list of load balancers, so the operator has to read it by its name.
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

/// The part of the work that stops if a right is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaks {
    Address,
    Cleanup,
    Events,
    Leadership,
    /// An edit by hand stays, or nobody knows why frpc does not run.
    Repair,
}

impl Breaks {
    fn without(right: &str) -> Breaks {
        match right {
            "/events create" => Breaks::Events,
            "/services get" | "/secrets delete" | "/configmaps delete" | "apps/deployments delete" => Breaks::Cleanup,
            "coordination.k8s.io/leases update" => Breaks::Leadership,
            "apps/deployments update" | "/pods list" => Breaks::Repair,
            _ => Breaks::Address,
        }
    }
}

/// Each verb of each rule is taken away in turn. The API server refuses the requests that need it, something does not
/// work, and people are told.
#[test]
fn without_any_one_of_its_rights_something_breaks_and_says_so() {
    side_by_side(6, Right::all(), |right| {
        let (name, breaks) = (right.name(), Breaks::without(&right.name()));
        let lab = Homelab::new();
        // A right that only a cleanup needs is taken away later, because a Service may be read by name during a
        // creation too, if a poll saw it half written.
        if ![Breaks::Cleanup, Breaks::Repair].contains(&breaks) {
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
        if breaks == Breaks::Repair {
            right.take_away(&lab);
            edit_deployment(&lab);
        }
        lab.wait_requests(DEADLINE, |requests| {
            let refused = |r: &&Request| r.status == Some(403) && needed(r).contains(&name);
            requests.iter().filter(refused).count() > usize::from(![Breaks::Events, Breaks::Repair].contains(&breaks))
        });
        let object = web.object();
        let told = || condition(&web.object()).1 + &operator.log();
        match breaks {
            Breaks::Address => assert!(object["status"]["loadBalancer"]["ingress"].is_null(), "{name}: {object:#}"),
            Breaks::Cleanup => assert!(!object["metadata"]["finalizers"].is_null(), "{name}: {object:#}"),
            Breaks::Repair if name == "/pods list" => wait_until("the edit is gone", DEADLINE, || !is_edited(&lab)),
            Breaks::Repair => assert!(is_edited(&lab), "{name}"),
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

/// A thief of the operator's token would like to do these things, and may not.
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
    // The token may patch the status of a Service. Such a patch cannot change anything else of the Service.
    let kubeconfig = lab.operator_kubeconfig();
    let config = Config::load(&Sources { kubeconfig: kubeconfig.to_str(), ..Sources::default() });
    let client = Client::new(config.expect("a kubeconfig"), &ClientOptions::new("thief/1")).expect("a client");
    let addition = PatchOperation::Add { path: "/spec/externalIPs".into(), value: json!(["192.0.2.1"]) };
    let patched: Result<Value, _> = client.json_patch(&format!("{}/status", web.path()), &[addition]);
    patched.expect("it may patch the status");
    assert!(web.object()["spec"]["externalIPs"].is_null());
}
