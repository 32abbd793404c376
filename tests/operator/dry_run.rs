//! `--dry-run` tells which steps the operator would take, changes nothing, and needs no rights but those to read.

use lab::cluster::kubeconfig;
use lab::homelab::Homelab;
use serde_json::json;

use crate::support::conditions::wait_for_reason;
use crate::support::{DEADLINE, binary, serving, start};

/// A kubeconfig of a user who may read everything in the cluster, and write nothing.
fn reader(lab: &Homelab) -> String {
    let (kube, namespace) = (lab.cluster().kube(), lab.operator_namespace());
    let name = format!("reader-of-{namespace}");
    let create = |path: &str, object| kube.create(path, &object).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), json!({ "metadata": { "name": name } }));
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rule = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"] });
    create(&format!("{rbac}/clusterroles"), json!({ "metadata": { "name": name }, "rules": [rule] }));
    create(
        &format!("{rbac}/clusterrolebindings"),
        json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
        }),
    );
    let token = create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"), json!({}));
    let user = json!({ "token": token["status"]["token"] });
    let file = lab.directory().join("reader");
    let config = kubeconfig(lab.api_server(), lab.cluster().authority().certificate_pem(), &user);
    std::fs::write(&file, config.to_string()).expect("the lab's directory can be written");
    file.display().to_string()
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_only_reads() {
    let lab = Homelab::new();
    let mut operator = start(&lab);
    let (kept, ip) = serving(&lab);
    let changed = lab.service("changed").port(8080).create();
    let changed_ip = changed.address(DEADLINE);
    let going = lab.service("going").port(8080).create();
    going.address(DEADLINE);
    wait_for_reason(&going, "Serving");
    wait_for_reason(&changed, "Serving");
    operator.terminate();
    assert!(operator.wait(DEADLINE).is_some());
    changed.set_ports(&[8081]);
    going.delete();
    lab.service("new").port(8080).create();
    lab.service("refused").port(8080).annotation("fly-tunnel-operator.dev/fly-machine-size", "huge").create();

    let before = lab.fly().state();
    let run = |kubeconfig: &str| {
        let dry = lab.operator(binary()).env("KUBECONFIG", kubeconfig).env("RUST_LOG", "warn");
        let mut dry = dry.env("LEADER_ELECT", "true").named("dry").arg("--dry-run").start();
        let status = dry.wait(DEADLINE).unwrap_or_else(|| panic!("it does not end: {}", dry.log()));
        (status.code(), dry.log())
    };
    let (code, plan) = run(&reader(&lab));
    assert_eq!(code, Some(0), "{plan}");
    let of = |name: &str| {
        let block = plan.split("\nlab-").map(str::to_owned).find(|block| block.contains(&format!("/{name} (Fly App ")));
        block.unwrap_or_else(|| panic!("nothing of {name}: {plan}"))
    };
    assert!(of("web").contains("): nothing to do"), "{plan}");
    for (name, told) in [
        (
            "new",
            &[
                "add the finalizer",
                "create the App",
                "allocate an IPv4",
                "create Machine",
                "in ord (shared-cpu-1x)",
                "[8080]",
                "[the new address] Serving",
            ][..],
        ),
        ("changed", &["create Machine", "[8081]", "wait for traffic to pass", "cordon Machine", "destroy Machine"]),
        ("going", &["delete Deployment", "delete the App", "remove the finalizer"]),
        ("refused", &["InvalidService", "fly-machine-size", "huge"]),
    ] {
        for text in told {
            assert!(of(name).contains(text), "{name}: {text}: {plan}");
        }
    }
    assert!(of("changed").contains(&changed_ip.to_string()), "{plan}");
    assert!(plan.contains("5 tunnels, 1 with nothing to do"), "{plan}");
    assert!(plan.contains("nothing is changed"), "{plan}");

    let requests: Vec<_> = lab.requests().into_iter().filter(|request| request.from == "dry").collect();
    assert!(requests.iter().all(|request| request.method == "GET"), "{requests:#?}");
    assert!(requests.len() > 10);
    assert_eq!(lab.fly().state(), before);
    assert_eq!(kept.address(DEADLINE), ip);
}

#[test]
fn a_dry_run_that_cannot_look_says_so() {
    let lab = Homelab::new();
    lab.service("web").port(8080).create();
    let mut dry = lab.operator(binary()).env("FLY_API_TOKEN", "fo1_not-this-one").arg("--dry-run").start();
    assert_eq!(dry.wait(DEADLINE).and_then(|status| status.code()), Some(1), "{}", dry.log());
    assert!(dry.log().contains("web") && dry.log().contains("cannot be looked at: FlyUnauthorized"), "{}", dry.log());
}
