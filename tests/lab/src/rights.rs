//! The operator's RBAC rights: the least with which it works. Its chart is to grant the same. RBAC is on in every
//! cluster of the lab, and operators of tests have these rights and no others.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Kube};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The deadline for new rights to take effect: the API server learns of new roles from a watch of its own.
const KNOWN_DEADLINE: Duration = Duration::from_secs(60);

/// The life of an account's token: a day, in seconds.
const A_DAY: u32 = 86_400;

/// Some verbs on some resources of one API group.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    /// The name of the only object that the rule is for, if it is for a single one.
    pub name: Option<&'static str>,
}

const fn rule(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { group, resource, verbs, name: None }
}

/// Rights in every namespace, granted by a ClusterRole.
pub const EVERYWHERE: [Rule; 3] = [
    rule("", "services", &["get", "list"]),
    // The operator writes finalizers through the status, too.
    rule("", "services/status", &["patch"]),
    rule("", "events", &["create"]),
];

/// Rights granted by a Role in `kube-system`. That namespace's UID stands for the cluster if no `--cluster-name` is
/// given.
pub const IN_KUBE_SYSTEM: [Rule; 1] = [Rule { name: Some("kube-system"), ..rule("", "namespaces", &["get"]) }];

/// Rights granted by a Role in the namespace where frpc lives.
pub const IN_ITS_NAMESPACE: [Rule; 5] = [
    rule("", "secrets", &["list", "create", "delete"]),
    rule("", "configmaps", &["list", "create", "delete"]),
    // Deployments are written by server-side apply, which takes both `patch` and `create`, or whole.
    rule("apps", "deployments", &["list", "create", "patch", "update", "delete"]),
    rule("", "pods", &["list"]),
    rule("coordination.k8s.io", "leases", &["get", "create", "update"]),
];

impl Rule {
    fn json(&self) -> Value {
        let mut rule = json!({ "apiGroups": [self.group], "resources": [self.resource], "verbs": self.verbs });
        if let Some(name) = self.name {
            rule["resourceNames"] = json!([name]);
        }
        rule
    }
}

/// A ServiceAccount with the operator's rights.
pub struct Account {
    /// The name of the account, and of its roles and bindings.
    name: String,
    namespace: String,
    token: String,
}

impl Account {
    /// Creates the account, and waits until the API server knows its rights.
    ///
    /// # Panics
    /// It panics if the API server refuses something.
    pub(crate) fn new(cluster: &Cluster, name: &str, namespace: &str) -> Account {
        let kube = cluster.kube();
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        create(&kube, &accounts, &account);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": A_DAY },
        });
        let made = create(&kube, &format!("{accounts}/{name}/token"), &request);
        let token = made["status"]["token"].as_str().expect("a token").to_owned();
        let account = Account { name: name.to_owned(), namespace: namespace.to_owned(), token };
        let grants =
            [(None, &EVERYWHERE[..]), (Some("kube-system"), &IN_KUBE_SYSTEM), (Some(namespace), &IN_ITS_NAMESPACE)];
        grants.iter().for_each(|(namespace, rules)| account.grant(&kube, *namespace, rules));
        grants.iter().for_each(|(namespace, rules)| {
            rules.iter().for_each(|rule| account.wait_until(&kube, *namespace, rule, rule.verbs[0], true));
        });
        account
    }

    /// Takes one verb of a rule away again, and waits until the API server knows. The rule is for all namespaces
    /// (`None`) or for one.
    ///
    /// # Panics
    /// It panics if the API server refuses the change.
    pub fn take_away(&self, cluster: &Cluster, namespace: Option<&str>, rule: &Rule, verb: &str) {
        let kube = cluster.kube();
        let [role, _] = kinds(namespace);
        let path = format!("{}/{}", collection(namespace, role), self.name);
        let mut granted = kube.get(&path).expect("its role");
        for held in granted["rules"].as_array_mut().into_iter().flatten() {
            if held["apiGroups"][0] == rule.group && held["resources"][0] == rule.resource {
                held["verbs"] = rule.verbs.iter().filter(|held| **held != verb).copied().collect();
            }
        }
        // Leave a rule out once it has no verb left: the API server would refuse it.
        let keeps = |rule: &Value| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty());
        granted["rules"] =
            granted["rules"].as_array().into_iter().flatten().filter(|rule| keeps(rule)).cloned().collect();
        kube.replace(&path, &granted).expect("the API server takes it");
        self.wait_until(&kube, namespace, rule, verb, false);
    }

    /// A bearer token of the account, valid for a day.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The user name by which the API server knows the account.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// Removes its roles and bindings outside of the lab's own namespaces.
    pub(crate) fn remove(&self, cluster: &Cluster) {
        for namespace in [None, Some("kube-system")] {
            for kind in kinds(namespace) {
                // An error may be ignored: whatever stays ends with the cluster.
                let _ = cluster.kube().delete(&format!("{}/{}", collection(namespace, kind), self.name));
            }
        }
    }

    /// Grants rules in one namespace, or in all (`None`).
    fn grant(&self, kube: &Kube, namespace: Option<&str>, rules: &[Rule]) {
        let [role, binding] = kinds(namespace);
        let object = |kind: &str| json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": { "name": self.name } });
        let mut granted = object(role);
        granted["rules"] = rules.iter().map(Rule::json).collect();
        create(kube, &collection(namespace, role), &granted);
        let mut bound = object(binding);
        bound["roleRef"] = json!({ "apiGroup": GROUP, "kind": role, "name": self.name });
        bound["subjects"] = json!([{ "kind": "ServiceAccount", "namespace": self.namespace, "name": self.name }]);
        create(kube, &collection(namespace, binding), &bound);
    }

    /// Waits until the API server knows that the account may do that (`may`), or that it may not.
    fn wait_until(&self, kube: &Kube, namespace: Option<&str>, rule: &Rule, verb: &str, may: bool) {
        let (resource, subresource) = rule.resource.split_once('/').unwrap_or((rule.resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": self.user(),
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": rule.group,
                    "resource": resource,
                    "subresource": subresource,
                    "name": rule.name,
                },
            },
        });
        let end = Instant::now() + KNOWN_DEADLINE;
        while create(kube, "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)["status"]["allowed"] != may {
            assert!(Instant::now() < end, "the API server does not know of {rule:?} in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn create(kube: &Kube, collection: &str, object: &Value) -> Value {
    kube.create(collection, object).expect("the API server takes it")
}

/// The kinds of a role and of its binding, in one namespace or in all.
fn kinds(namespace: Option<&str>) -> [&'static str; 2] {
    match namespace {
        None => ["ClusterRole", "ClusterRoleBinding"],
        Some(_) => ["Role", "RoleBinding"],
    }
}

fn collection(namespace: Option<&str>, kind: &str) -> String {
    let namespace = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    format!("/apis/{GROUP}/v1/{namespace}{}s", kind.to_lowercase())
}
