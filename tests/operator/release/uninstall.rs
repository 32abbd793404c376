//! `helm uninstall`: tunnels stay, or go, as `uninstall.drain` says.

use lab::homelab::Homelab;
use lab::service::ServiceHandle;
use serde_json::{Value, json};

use crate::support::client::assert_answers;
use crate::support::conditions::wait_for_reason;
use crate::support::documents::commands;
use crate::support::inventory::{assert_nothing_left, assert_one_of_everything};
use crate::support::lease::candidate;
use crate::support::release::Release;
use crate::support::{DEADLINE, LONG_DEADLINE, ended, wait_until};

/// The kinds of objects that a release can have in its namespace.
const KINDS: [&str; 8] = [
    "apis/apps/v1/deployments",
    "apis/batch/v1/jobs",
    "api/v1/secrets",
    "api/v1/configmaps",
    "api/v1/serviceaccounts",
    "apis/rbac.authorization.k8s.io/v1/roles",
    "apis/rbac.authorization.k8s.io/v1/rolebindings",
    "apis/networking.k8s.io/v1/networkpolicies",
];

impl Release<'_> {
    fn uninstall(&self) {
        self.helm(&["uninstall", self.lab.cluster_name(), "--wait", "--timeout", "120s"]);
    }

    /// Runs the commands that a page has under this name, for this release, which has one revision. Gives their output.
    fn follow(&self, name: &str) -> String {
        let (namespace, release) = (self.lab.operator_namespace(), self.lab.cluster_name());
        let here = [
            ("fly-tunnel-operator-system", namespace.to_owned()),
            ("=fly-tunnel-operator", format!("={release}-fly-tunnel-operator")),
            ("job fly-tunnel-operator", format!("job {release}-fly-tunnel-operator")),
            ("deployment/fly-tunnel-operator", format!("deployment/{release}-fly-tunnel-operator")),
            ("helm rollback fly-tunnel-operator REVISION", format!("helm rollback {release} 1 --wait")),
            ("helm uninstall fly-tunnel-operator", format!("helm uninstall {release} --wait")),
            ("service hello", format!("--namespace {} service web", self.lab.namespace())),
            // The quotes have to go, because no shell takes them off.
            ("'", String::new()),
        ];
        let mut printed = String::new();
        for command in commands(name).lines() {
            let command = here.iter().fold(command.to_owned(), |command, (there, here)| command.replace(there, here));
            let words: Vec<&str> = command.split(' ').collect();
            printed += &match words[0] {
                "helm" => self.helm(&words[1..]),
                _ => {
                    let done = self.lab.cluster().kubectl(&words[1..]);
                    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
                    String::from_utf8_lossy(&done.stdout).into_owned()
                }
            };
        }
        printed
    }

    fn stop_operator(&self) {
        let deployment = format!("deployment/{}-fly-tunnel-operator", self.lab.cluster_name());
        let namespace = self.lab.operator_namespace();
        self.lab.cluster().kubectl(&["--namespace", namespace, "scale", &deployment, "--replicas=0"]);
        wait_until("the operator is gone", DEADLINE, || self.pods().is_empty());
    }

    /// The names of objects that are left in the release's namespace. Those of tunnels, and those that every namespace has,
    /// are left out.
    fn left(&self) -> Vec<String> {
        let namespace = self.lab.operator_namespace();
        let list = |kind: &&str| {
            let (version, resource) = kind.rsplit_once('/').expect("a version and a resource");
            self.lab.cluster().kube().list(&format!("/{version}/namespaces/{namespace}/{resource}")).expect("a list")
        };
        let names = KINDS.iter().flat_map(list).filter_map(|o| o["metadata"]["name"].as_str().map(str::to_owned));
        let of_the_lab = format!("{}-operator", self.lab.cluster_name());
        let known = ["kube-root-ca.crt", "default", &of_the_lab];
        names.filter(|name| !name.starts_with("lb-") && !known.contains(&&**name)).collect()
    }
}

fn assert_left_behind(service: &ServiceHandle) {
    let object = service.object();
    assert_eq!(object["status"], json!({ "loadBalancer": {} }), "{object:#}");
    assert!(object["metadata"]["finalizers"].is_null() && !object["spec"].is_null(), "{object:#}");
}

/// By default addresses survive a reinstall, and it clears away the tunnels of Services that were deleted meanwhile.
fn tunnels_go_on(operator_is_up: bool) {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let [web, other] = [("web", 8080), ("other", 8081)].map(|(name, port)| lab.service(name).port(port).create());
    let ip = web.address(DEADLINE);
    other.address(DEADLINE);
    for service in [&web, &other] {
        wait_for_reason(service, "Serving");
    }
    let notes = release.helm(&["get", "notes", lab.cluster_name()]);
    assert!(notes.contains("leaves the tunnels as they are"), "{notes}");

    if !operator_is_up {
        release.stop_operator();
    }
    release.uninstall();
    wait_until("the operator is gone", DEADLINE, || release.pods().is_empty());
    assert_eq!(release.left(), [""; 0]);
    assert_answers(ip, 8080, "web");
    other.delete();
    assert_eq!(web.address(DEADLINE), ip);
    assert!(!other.object().is_null(), "its finalizer waits for an operator: it is still billed");

    Release::install(&lab, &[]);
    other.wait_gone(LONG_DEADLINE);
    assert_eq!(web.address(DEADLINE), ip);
    assert_answers(ip, 8080, "web");
    assert_one_of_everything(&lab);
}

#[test]
fn tunnels_go_on_after_an_uninstall_and_a_reinstall_finds_them() {
    tunnels_go_on(true);
}

#[test]
fn tunnels_go_on_also_where_no_operator_runs_at_the_uninstall() {
    tunnels_go_on(false);
}

#[test]
fn with_drain_nothing_is_left_and_a_reinstall_begins_anew() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &["uninstall.drain=true", "replicaCount=2"]);
    let notes = release.helm(&["get", "notes", lab.cluster_name()]);
    assert!(notes.contains("takes down all tunnels of this release first"), "{notes}");
    let web = lab.service("web").port(8080).create();
    web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    release.uninstall();
    assert_nothing_left(&lab);
    assert_left_behind(&web);
    wait_until("the operators are gone", DEADLINE, || release.pods().is_empty());
    assert_eq!(release.left(), [""; 0]);
    assert_nothing_left(&lab);

    let _again = Release::install(&lab, &[]);
    assert_answers(web.address(LONG_DEADLINE), 8080, "web");
}

#[test]
fn with_drain_nothing_is_left_also_where_no_operator_runs() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &["uninstall.drain=true"]);
    let [web, going] = [("web", 8080), ("going", 8081)].map(|(name, port)| lab.service(name).port(port).create());
    for service in [&web, &going] {
        wait_for_reason(service, "Serving");
    }
    release.stop_operator();
    going.delete();
    release.uninstall();
    assert!(going.object().is_null(), "nothing hangs on a finalizer that nobody serves");
    assert_nothing_left(&lab);
    assert_left_behind(&web);
    assert_eq!(release.left(), [""; 0]);
}

/// This is the state after an uninstall that was given up once the tunnels were down.
#[test]
fn after_a_drain_the_operator_serves_again_once_it_is_started_again() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let web = lab.service("web").port(8080).create();
    wait_for_reason(&web, "Serving");
    let (code, log) = ended(candidate(&lab, "drain").arg("--drain").start());
    assert_eq!(code, Some(0), "{log}");
    assert_left_behind(&web);
    wait_until("the operator stands by", DEADLINE, || release.log().contains("(--drain), and they stay down"));
    release.follow("start-again");
    assert_answers(web.address(LONG_DEADLINE), 8080, "web");
}

/// The API server failed in the middle of an uninstall: the tunnels are down and the Job's ServiceAccount is gone, but
/// the release is still there.
#[test]
fn an_uninstall_that_stopped_half_way_is_ended_without_another_drain() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &["uninstall.drain=true"]);
    let web = lab.service("web").port(8080).create();
    wait_for_reason(&web, "Serving");
    let (code, log) = ended(candidate(&lab, "drain").arg("--drain").start());
    assert_eq!(code, Some(0), "{log}");
    let account = format!("{}-fly-tunnel-operator", lab.cluster_name());
    let namespace = lab.operator_namespace();
    let kube = lab.cluster().kube();
    kube.delete(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}")).expect("it is deleted");
    let failed = release.try_helm(&["uninstall", lab.cluster_name(), "--wait", "--timeout", "5s"]);
    assert!(!failed.status.success());
    release.follow("no-hooks");
    wait_until("the operator is gone", DEADLINE, || release.pods().is_empty());
    assert_eq!(release.left(), [""; 0]);
    assert_nothing_left(&lab);
    assert_left_behind(&web);
}

/// The account at Fly is gone, so Fly answers nobody any more, and bills nothing.
#[test]
fn where_fly_can_never_be_asked_again_services_can_be_deleted_all_the_same() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &["uninstall.drain=true"]);
    let web = lab.service("web").port(8080).create();
    wait_for_reason(&web, "Serving");
    lab.fly().rotate_token();
    release.follow("no-hooks");
    wait_until("the operator is gone", DEADLINE, || release.pods().is_empty());
    web.delete();
    assert!(!web.object().is_null(), "it hangs on its finalizer");
    release.follow("finalizer");
    web.wait_gone(DEADLINE);
}

/// If the Job waited for its Secret, it would begin to drain when somebody brings the Secret back for the operator.
#[test]
fn a_drain_without_its_secret_fails_at_once_and_takes_nothing_down_later() {
    let lab = Homelab::new();
    let secrets = format!("/api/v1/namespaces/{}/secrets", lab.operator_namespace());
    let kube = lab.cluster().kube();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mine" },
        "stringData": { "fly-api-token": lab.fly().token() },
    });
    kube.create(&secrets, &secret).expect("a Secret");
    let release = Release::install(&lab, &["uninstall.drain=true", "flyApiToken=", "existingSecret=mine"]);
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    kube.delete(&format!("{secrets}/mine")).expect("it is deleted");
    let failed = release.try_helm(&["uninstall", lab.cluster_name(), "--wait", "--timeout", "120s"]);
    assert!(!failed.status.success());
    let job = format!("{}-fly-tunnel-operator-drain", lab.cluster_name());
    let job: Value = release.object("apis/batch/v1/jobs", &job).expect("it stays to be looked at");
    let has_failed = |condition: &Value| condition["type"] == "Failed" && condition["status"] == "True";
    assert!(job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(has_failed)), "{job:#}");
    assert!(release.log().contains("--fly-api-token-file"), "{}", release.log());
    kube.create(&secrets, &secret).expect("it is back");
    release.follow("bring-back");
    assert_eq!(web.address(DEADLINE), ip);
    assert_answers(ip, 8080, "web");
    assert_one_of_everything(&lab);
}

/// A release that could not be drained stays, and so does its Job, which says why.
#[test]
fn an_uninstall_that_cannot_drain_says_so_and_can_be_tried_again() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &["uninstall.drain=true"]);
    let web = lab.service("web").port(8080).create();
    wait_for_reason(&web, "Serving");
    let token = lab.fly().rotate_token();
    let failed = release.try_helm(&["uninstall", lab.cluster_name(), "--wait", "--timeout", "120s"]);
    assert!(!failed.status.success());
    let job = format!("{}-fly-tunnel-operator-drain", lab.cluster_name());
    let job: Value = release.object("apis/batch/v1/jobs", &job).expect("it stays to be looked at");
    assert!(job["status"]["failed"].as_u64().is_some_and(|failed| failed > 0), "{job:#}");
    let printed = release.follow("failed-drain");
    for said in ["Failed", "Fly does not take the token", "BackoffLimitExceeded"] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
    assert!(!web.object()["metadata"]["finalizers"].is_null());

    // The Secret is mended, and then the release can be uninstalled.
    let secret = format!("{}-fly-tunnel-operator-fly-api-token", lab.cluster_name());
    let path = format!("/api/v1/namespaces/{}/secrets/{secret}", lab.operator_namespace());
    let mended = json!({ "stringData": { "fly-api-token": token } });
    lab.cluster().kube().merge_patch(&path, &mended).expect("the Secret is changed");
    release.uninstall();
    assert_nothing_left(&lab);
    assert_left_behind(&web);
    assert_eq!(release.left(), [""; 0]);
}
