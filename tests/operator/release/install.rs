//! `helm install`, and the state of the cluster afterwards.

use lab::homelab::Homelab;
use lab::recorder::Target;
use serde_json::json;

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{assert_nothing_left, assert_one_of_everything};
use crate::support::release::{CHART, Release};
use crate::support::{DEADLINE, wait_until};

#[test]
fn a_release_gives_a_service_its_address_and_carries_its_traffic() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let notes = release.helm(&["get", "notes", lab.cluster_name()]);
    assert!(notes.contains(&format!("loadBalancerClass: {}", lab.class())), "{notes}");

    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    wait_for_reason(&web, "Serving");
    assert_one_of_everything(&lab);

    // The release has one pod, which was never restarted, so its probes succeed.
    let [pod] = &release.pods()[..] else { panic!("{:#?}", release.pods()) };
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    for probe in ["livenessProbe", "readinessProbe"] {
        assert!(pod["spec"]["containers"][0][probe]["httpGet"].is_object(), "{pod:#}");
    }
    // The operator logs in as its ServiceAccount by the projected token, and has the rights that it needs.
    let refused = lab.requests().into_iter().filter(|r| r.to == Target::Kubernetes && r.status == Some(403)).count();
    assert_eq!(refused, 0, "the chart grants what the operator needs");

    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

/// frpc's pods meet the `restricted` level as well. The namespace enforces it and would refuse them otherwise.
#[test]
fn what_frpc_is_told_reaches_its_pods() {
    let lab = Homelab::new();
    let values = json!({
        "tolerations": [{ "key": "edge", "operator": "Exists" }],
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": { "downscaler/exclude": "true", "descheduler.alpha.kubernetes.io/prefer-no-eviction": "true" },
        "podLabels": { "example.com/team": "network", "app.kubernetes.io/name": "not-theirs" },
    });
    let release = Release::install(&lab, &[]);
    let file = lab.directory().join("frpc.json");
    std::fs::write(&file, json!({ "frpc": values }).to_string()).expect("the lab's directory can be written");
    let (own, frpc) = (release.values_file(), file.display().to_string());
    let name = lab.cluster_name();
    let more = ["upgrade", name, CHART, "--values", &own, "--values", &frpc, "--wait", "--timeout", "120s"];
    release.helm(&more);
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", lab.operator_namespace());
    let deployments = lab.cluster().kube().list(&deployments).expect("a list");
    let frpc = deployments.iter().find(|d| d["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("lb-")));
    let pod = &frpc.expect("frpc's Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({ "kubernetes.io/os": "linux" }));
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let tolerations = pod["tolerations"].as_array().expect("tolerations");
    assert!(tolerations.len() > 1 && tolerations.iter().any(|toleration| toleration["key"] == "edge"), "{pod:#}");
    let pods = lab.cluster().kube().list(&format!("/api/v1/namespaces/{}/pods", lab.operator_namespace()));
    let pods = pods.expect("a list");
    let pod = pods.iter().find(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("lb-")));
    for object in [frpc, pod] {
        let metadata = &object.expect("frpc's")["metadata"];
        for (annotation, value) in values["podAnnotations"].as_object().expect("annotations") {
            assert_eq!(metadata["annotations"][annotation], *value, "{metadata:#}");
        }
        assert_eq!(metadata["labels"]["example.com/team"], "network", "{metadata:#}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/name"], "frpc", "ours wins: {metadata:#}");
    }
}

/// People see where they look that a setting is wrong: the rollout does not end, and the pod says why.
#[test]
fn a_bad_setting_is_told_by_the_pod_and_takes_nothing_away() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    let before = release.pod_names();
    let (name, file) = (lab.cluster_name(), release.values_file());
    let bad = "extraArgs={--workers=0}";
    let upgrade = ["upgrade", name, CHART, "--values", &file, "--set", bad, "--wait", "--timeout", "8s"];
    let failed = release.try_helm(&upgrade);
    assert!(!failed.status.success(), "an operator that cannot start does not count as installed");
    wait_until("the pod says why", DEADLINE, || release.log().contains("--workers (WORKERS): \"0\""));
    assert!(before.iter().all(|pod| release.pod_names().contains(pod)), "the old one goes on");
    assert_answers(ip, 8080, "web");
    assert_eq!(condition(&web.object()).0, "Serving");
    release.helm(&["rollback", name, "--wait", "--timeout", "120s"]);
    release.wait_for_pods(1);
}

/// Two operators of one class would fight over the same Services, with Apps of their own or over the same Machines.
#[test]
fn a_second_release_of_one_class_is_refused() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let elsewhere = lab.new_namespace("elsewhere");
    let (name, file) = (lab.cluster_name(), release.values_file());
    for (second, namespace) in [("second", lab.operator_namespace()), (name, &elsewhere)] {
        let install = ["install", second, CHART, "--values", &file];
        let refused = release.try_helm_in(namespace, &install);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success());
        let served = format!(
            "loadBalancerClass is {}, and the release {name} in the namespace {} serves it",
            lab.class(),
            lab.operator_namespace()
        );
        assert!(said.contains(&served), "{said}");
    }
    assert!(
        lab.cluster()
            .kube()
            .list(&format!("/apis/apps/v1/namespaces/{elsewhere}/deployments"))
            .is_ok_and(|d| d.is_empty())
    );
    let theirs = ["install", name, CHART, "--values", &file, "--set", "loadBalancerClass=else.example.com/lb"];
    let taken = release.try_helm_in(&elsewhere, &theirs);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    release.try_helm_in(&elsewhere, &["uninstall", name]);
}
