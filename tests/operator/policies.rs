//! The API server refuses a write: by a policy, or since a namespace is gone. Nothing else waits for it, and people are told once, in
//! the API server's own words. Or a policy adds to each write, and nobody fights it.

use lab::homelab::Homelab;
use lab::recorder::Target;
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::{assert_answers, get};
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::events::posted;
use crate::support::inventory::{apps, assert_nothing_left, assert_one_of_everything, delete_at_fly, objects};
use crate::support::{DEADLINE, LONG_DEADLINE, serving, start, wait_for_polls, wait_until};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// The policy's own words.
const WORDS: &str = "a Service needs the label owner";

/// A policy that refuses writes of the status of Services without a label, in one namespace of the lab. It ends with this.
struct Policy<'a> {
    lab: &'a Homelab,
    name: String,
}

impl<'a> Policy<'a> {
    fn begin(lab: &'a Homelab, service: &ServiceHandle) -> Policy<'a> {
        let kube = lab.cluster().kube();
        let name = format!("owner-{}", service.namespace);
        let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["services/status"] });
        let policy = json!({
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [rule] },
                "validations": [{ "expression": "has(object.metadata.labels) && 'owner' in object.metadata.labels", "message": WORDS }],
            },
        });
        let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": service.namespace } });
        let binding = json!({
            "metadata": { "name": name },
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": selector },
            },
        });
        kube.create(POLICIES, &policy).expect("the policy is made");
        kube.create(BINDINGS, &binding).expect("the policy is bound");
        let policy = Policy { lab, name };
        // The status of some other Service shows whether the policy is in force.
        let probe = lab.service("probe").class(None).port(1).create();
        let try_it = || {
            let status = json!({ "status": { "conditions": [] } });
            kube.merge_patch(&format!("{}/status?dryRun=All", probe.path()), &status)
        };
        wait_until("the policy is in force", DEADLINE, || try_it().is_err());
        policy
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        for collection in [BINDINGS, POLICIES] {
            let _ = self.lab.cluster().kube().delete(&format!("{collection}/{}", self.name)); // it may never have been made
        }
    }
}

/// The events that tell of the refusal.
fn told(lab: &Homelab, service: &ServiceHandle) -> Vec<Value> {
    let events = posted(lab, service);
    events.into_iter().filter(|event| event["message"].as_str().is_some_and(|text| text.contains(WORDS))).collect()
}

#[test]
fn a_new_service_whose_status_is_refused_is_told_of_and_made_once_it_is_not() {
    let lab = Homelab::new();
    let web = lab.service("web").port(8080).create();
    let policy = Policy::begin(&lab, &web);
    let operator = start(&lab);
    wait_until("the event", DEADLINE, || !told(&lab, &web).is_empty());
    assert!(operator.log().contains(WORDS), "{}", operator.log());
    assert!(apps(&lab).is_empty(), "nothing is made before the finalizer is there");
    // It is tried again and again, and said no second time.
    let tries = || {
        lab.requests().iter().filter(|r| r.to == Target::Kubernetes && r.path.contains("/services/web/status")).count()
    };
    let before = tries();
    wait_until("it is tried again", DEADLINE, || tries() > before + 2);
    assert_eq!(told(&lab, &web).len(), 1, "{:#?}", posted(&lab, &web));
    let log = operator.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 2, "one for the finalizer, one for the status: {warnings:#?}");
    assert!(warnings.iter().all(|line| line.contains(WORDS)), "{warnings:#?}");
    drop(policy);
    wait_for_reason(&web, "Serving");
}

#[test]
fn a_deleted_service_whose_status_is_refused_goes_but_for_its_finalizer() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    wait_for_reason(&web, "Serving");
    let policy = Policy::begin(&lab, &web);
    web.delete();
    wait_until("nothing of it is billed any more", DEADLINE, || apps(&lab).is_empty());
    assert!(!web.object()["metadata"]["finalizers"].is_null(), "the policy refuses this write too");
    assert!(operator.log().contains(WORDS), "{}", operator.log());
    drop(policy);
    web.wait_gone(LONG_DEADLINE);
    assert_nothing_left(&lab);
}

/// Nothing was made for it, and no list shows it any more.
#[test]
fn a_refused_service_that_is_no_load_balancer_any_more_loses_our_condition_once_that_is_taken() {
    let lab = Homelab::new();
    let web = lab.service("web").port(8080).annotation("fly-tunnel-operator.dev/fly-regoin", "fra").create();
    let operator = start(&lab);
    wait_for_reason(&web, "InvalidService");
    let policy = Policy::begin(&lab, &web);
    let change = json!({ "spec": { "type": "ClusterIP", "allocateLoadBalancerNodePorts": null } });
    lab.cluster().kube().merge_patch(&web.path(), &change).expect("the type is changed");
    wait_until("it was tried", DEADLINE, || operator.log().contains(WORDS));
    wait_for_polls(&lab, 2);
    drop(policy);
    wait_until("our condition goes", LONG_DEADLINE, || condition(&web.object()).0.is_empty());
}

#[test]
fn a_lost_machine_is_replaced_though_the_status_is_refused() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    wait_for_reason(&web, "Serving");
    let policy = Policy::begin(&lab, &web);
    let machine = apps(&lab)[0]["machines"][0]["id"].as_str().expect("a Machine").to_owned();
    let app = apps(&lab)[0]["name"].as_str().expect("a name").to_owned();
    delete_at_fly(&lab, &format!("/apps/{app}/machines/{machine}"));
    wait_until("another Machine serves", DEADLINE, || {
        let machines = apps(&lab)[0]["machines"].as_array().cloned().unwrap_or_default();
        machines.iter().any(|other| other["id"] != machine.as_str()) && get(ip, 8080, "/").is_ok()
    });
    wait_until("the event", DEADLINE, || !told(&lab, &web).is_empty());
    assert_eq!(condition(&web.object()).0, "Serving", "as it was before");
    assert!(operator.log().contains(WORDS), "{}", operator.log());
    drop(policy);
    wait_until("the condition follows", LONG_DEADLINE, || condition(&web.object()).0 == "Serving");
    assert_one_of_everything(&lab);
}

/// A quota of the operator's own namespace refuses an object of ours: a new tunnel waits and can be deleted, and what is lost of
/// one that serves is made again once there is room.
#[test]
fn a_quota_that_refuses_our_objects_is_told_in_its_words_and_holds_up_no_deletion() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (web, ip) = serving(&lab);
    let kube = lab.cluster().kube();
    let namespace = lab.operator_namespace();
    let quotas = format!("/api/v1/namespaces/{namespace}/resourcequotas");
    let hard = json!({ "count/secrets": "0", "count/deployments.apps": "0" });
    let quota = json!({ "metadata": { "name": "full" }, "spec": { "hard": hard } });
    kube.create(&quotas, &quota).expect("a quota");
    kube.wait_until(&format!("{quotas}/full"), DEADLINE, |quota| {
        quota.is_some_and(|quota| quota["status"]["hard"] == hard)
    });
    let collection = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let frpc = kube.list(&collection).expect("a list").remove(0);
    let frpc = format!("{collection}/{}", frpc["metadata"]["name"].as_str().expect("a name"));
    kube.delete(&frpc).expect("frpc is lost");
    let shop = lab.service("shop").port(8080).create();
    for service in [&web, &shop] {
        wait_until("it is told", DEADLINE, || condition(&service.object()).1.contains("exceeded quota: full"));
    }
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"][0]["ip"], ip.to_string());
    shop.delete();
    shop.wait_gone(LONG_DEADLINE);
    assert_eq!(apps(&lab).len(), 1);
    kube.delete(&format!("{quotas}/full")).expect("there is room");
    wait_until("frpc is there again", LONG_DEADLINE, || kube.get(&frpc).is_ok() && get(ip, 8080, "/").is_ok());
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);
}

/// Somebody emptied the finalizers of a namespace that was being deleted. Its Service is listed for ever, and each write to it is
/// answered by 404.
#[test]
fn a_service_of_a_namespace_that_was_finalized_by_force_goes_once_the_namespace_is_there_again() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let namespace = lab.new_namespace("forced");
    let web = lab.service("web").namespace(&namespace).port(8080).create();
    web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    operator.kill();
    let kube = lab.cluster().kube();
    let path = format!("/api/v1/namespaces/{namespace}");
    kube.delete(&path).expect("it begins to go");
    kube.wait_until(&web.path(), DEADLINE, |service| {
        service.is_some_and(|s| !s["metadata"]["deletionTimestamp"].is_null())
    });
    // The namespace's controller writes its status meanwhile.
    wait_until("it is finalized by force", DEADLINE, || {
        let mut object = kube.get(&path).expect("it is going");
        object["spec"]["finalizers"] = json!([]);
        kube.replace(&format!("{path}/finalize"), &object).is_ok()
    });
    kube.wait_until(&path, DEADLINE, |namespace| namespace.is_none());

    let operator = start(&lab);
    wait_until("nothing of it is billed any more", LONG_DEADLINE, || apps(&lab).is_empty());
    let advice = format!("kubectl create namespace {namespace}");
    wait_until("the log says what to do", DEADLINE, || operator.log().contains(&advice));
    kube.create("/api/v1/namespaces", &json!({ "metadata": { "name": namespace } })).expect("it is made again");
    web.wait_gone(LONG_DEADLINE);
    assert_nothing_left(&lab);
}

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const MUTATING_BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";

/// A policy that adds something to each object of a kind that is written in a namespace. It ends with this.
struct Addition<'a> {
    lab: &'a Homelab,
    name: String,
}

impl<'a> Addition<'a> {
    /// `resource` is, for example, `("apps", "deployments")`.
    fn begin(lab: &'a Homelab, namespace: &str, (group, resource): (&str, &str), mutation: &Value) -> Addition<'a> {
        let kube = lab.cluster().kube();
        let name = format!("adds-to-{}-of-{namespace}", resource.replace('/', "-"));
        let rule = json!({ "apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource] });
        let policy = json!({
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "matchConstraints": { "resourceRules": [rule] },
                "mutations": [mutation],
            },
        });
        let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace } });
        let binding = json!({
            "metadata": { "name": name },
            "spec": { "policyName": name, "matchResources": { "namespaceSelector": selector } },
        });
        kube.create(MUTATING, &policy).expect("the policy is made");
        kube.create(MUTATING_BINDINGS, &binding).expect("the policy is bound");
        Addition { lab, name }
    }

    /// Waits until it adds something to an object that is made for the sake of it, and not kept.
    fn wait(&self, collection: &str, object: &Value, added: &str) {
        let kube = self.lab.cluster().kube();
        wait_until(&format!("{} is in force", self.name), DEADLINE, || {
            let made = kube.create(&format!("{collection}?dryRun=All"), object);
            made.is_ok_and(|made| made.to_string().contains(added))
        });
    }
}

impl Drop for Addition<'_> {
    fn drop(&mut self) {
        for collection in [MUTATING_BINDINGS, MUTATING] {
            let _ = self.lab.cluster().kube().delete(&format!("{collection}/{}", self.name)); // it may never have been made
        }
    }
}

/// Sidecars, labels and limits are put into objects so, in clusters with Istio or Kyverno, say. What somebody adds by hand goes all the
/// same.
#[test]
fn what_an_admission_adds_to_each_write_is_accepted_and_starts_no_circle() {
    const LABEL: &str = "Object{ metadata: Object.metadata{ labels: {'example.com/added': 'yes'} } }";
    const FRPC: &str = "Object{ spec: Object.spec{ revisionHistoryLimit: 3, template: Object.spec.template{ \
        metadata: Object.spec.template.metadata{ annotations: {'example.com/added': 'yes'} }, \
        spec: Object.spec.template.spec{ hostname: 'added', containers: [ \
        Object.spec.template.spec.containers{ name: 'frpc', env: [ \
        Object.spec.template.spec.containers.env{ name: 'ADDED', value: 'yes' } ] } ] } } } }";
    // One that insists on its own mode is given way to.
    const MODE: &str = "object.?status.loadBalancer.ingress.orValue([]).size() > 0 ? \
        [JSONPatch{ op: 'add', path: '/status/loadBalancer/ingress/0/ipMode', value: 'VIP' }] : []";
    let adds = |expression: &str| {
        let expression = json!({ "expression": expression });
        json!({ "patchType": "ApplyConfiguration", "applyConfiguration": expression })
    };
    let lab = Homelab::new();
    let (kube, ours) = (lab.cluster().kube(), lab.operator_namespace());
    let deployments = format!("/apis/apps/v1/namespaces/{ours}/deployments");
    let core = |kind: &str| format!("/api/v1/namespaces/{ours}/{kind}");
    let to_frpc = Addition::begin(&lab, ours, ("apps", "deployments"), &adds(FRPC));
    let to_others = ["configmaps", "secrets"].map(|kind| (kind, Addition::begin(&lab, ours, ("", kind), &adds(LABEL))));
    let mode = json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": MODE } });
    let _to_status = Addition::begin(&lab, lab.namespace(), ("", "services/status"), &mode);
    for (kind, addition) in &to_others {
        addition.wait(&core(kind), &json!({ "metadata": { "name": "probe" } }), "example.com/added");
    }
    let pod = json!({ "metadata": { "labels": { "app": "a" } }, "spec": { "containers": [{ "name": "frpc", "image": "a" }] } });
    let probe = json!({ "metadata": { "name": "probe" }, "spec": { "selector": { "matchLabels": { "app": "a" } }, "template": pod } });
    to_frpc.wait(&deployments, &probe, "ADDED");
    let other = lab.service("other").class(None).port(1).create();
    let shows = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "Proxy" }] } } });
    wait_until("the mode is insisted on", DEADLINE, || {
        let written = kube.merge_patch(&format!("{}/status?dryRun=All", other.path()), &shows);
        written.is_ok_and(|written| written.to_string().contains("VIP"))
    });

    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    assert_answers(ip, 8080, "web");
    let frpc = || {
        let all = kube.list(&deployments).expect("a list");
        all.into_iter()
            .find(|d| d["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("lb-")))
            .expect("frpc")
    };
    assert!(frpc()["spec"].to_string().contains("ADDED") && frpc()["spec"]["revisionHistoryLimit"] == 3);
    assert_eq!(web.object()["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");

    let writes = || {
        let requests = lab.requests();
        let ours = |r: &&lab::recorder::Request| r.to == Target::Kubernetes && !r.path.contains("/events");
        requests.iter().filter(ours).filter(|r| r.method != "GET").count()
    };
    let sweeps = || lab.requests().iter().filter(|r| r.path.contains("/orgs/")).count();
    let nothing_is_written = |when: &str| {
        let (written, swept) = (writes(), sweeps());
        wait_until("it was looked at thrice more", DEADLINE, || sweeps() >= swept + 3);
        assert_eq!(
            writes(),
            written,
            "{when}: {:#?}",
            lab.requests().iter().filter(|r| r.method != "GET").collect::<Vec<_>>()
        );
    };
    nothing_is_written("after it was made");
    let spec = frpc()["spec"].clone();
    let path = format!("{deployments}/{}", frpc()["metadata"]["name"].as_str().expect("a name"));
    kube.merge_patch(&path, &json!({ "spec": { "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } } }))
        .expect("an edit");
    wait_until("what somebody added is gone", DEADLINE, || frpc()["spec"] == spec);
    nothing_is_written("after an edit");
    operator.kill();
    let before = (apps(&lab), objects(&lab));
    let _operator = start(&lab);
    let swept = sweeps();
    wait_until("it has looked at all", DEADLINE, || sweeps() > swept + 1);
    nothing_is_written("after a restart");
    assert_eq!((apps(&lab), objects(&lab)), before);
    assert_eq!(condition(&web.object()).0, "Serving");
}
