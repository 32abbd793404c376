//! `helm upgrade` and `helm rollback`: tunnels carry their traffic all the while.

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::Value;

use crate::support::client::{Stream, assert_answers, assert_none_lost};
use crate::support::conditions::wait_for_reason;
use crate::support::inventory::{apps, assert_nothing_left, assert_one_of_everything};
use crate::support::release::{CHART, Release};
use crate::support::{DEADLINE, wait_until};

fn region(lab: &Homelab) -> String {
    apps(lab)[0]["machines"][0]["region"].as_str().unwrap_or_default().to_owned()
}

/// The image, the number of operators and the region are changed, and then changed back.
#[test]
fn traffic_flows_while_the_operator_is_upgraded() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    let machine = |lab: &Homelab| apps(lab)[0]["machines"][0]["id"].clone();
    let made = machine(&lab);

    let stream = Stream::during(4, ip, 8080, "web", |_| {
        let first = release.pod_names();
        release.upgrade(&["image.tag=next"]);
        release.wait_for_pods(1);
        assert!(release.pod_names().iter().all(|pod| !first.contains(pod)), "another pod with another image");
        assert_eq!(machine(&lab), made, "another operator is no reason for another tunnel");

        release.upgrade(&["image.tag=next", "replicaCount=3"]);
        release.wait_for_pods(3);
        let name = format!("{}-fly-tunnel-operator", lab.cluster_name());
        let budget = || release.object("apis/policy/v1/poddisruptionbudgets", &name);
        assert!(budget().is_some(), "one of several may go at a time");
        wait_until("all of them but one stand by", DEADLINE, || release.log().matches("standing by, as").count() >= 2);

        release.upgrade(&["image.tag=next", "flyRegion=iad"]);
        release.wait_for_pods(1);
        assert!(budget().is_none());
        wait_until("the tunnel moves", DEADLINE, || {
            region(&lab) == "iad" && apps(&lab)[0]["machines"].as_array().is_some_and(|machines| machines.len() == 1)
        });
        wait_for_reason(&web, "Serving");

        release.helm(&["rollback", lab.cluster_name(), "1", "--wait", "--timeout", "120s"]);
        release.wait_for_pods(1);
        assert_eq!(image(&release), format!("ghcr.io/zhming0/fly-tunnel-operator:{}", env!("CARGO_PKG_VERSION")));
        wait_until("the tunnel moves back", DEADLINE, || {
            region(&lab) == "ord" && apps(&lab)[0]["machines"].as_array().is_some_and(|machines| machines.len() == 1)
        });
        wait_for_reason(&web, "Serving");
    });
    assert_none_lost(&stream);
    assert_eq!(web.address(DEADLINE), ip, "the address stays");
    assert_one_of_everything(&lab);
    web.delete();
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

/// An operator with another cluster name or class would not know the tunnels, which would be left behind and billed.
#[test]
fn what_would_abandon_tunnels_is_refused() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let (name, file, before) = (lab.cluster_name(), release.values_file(), release.deployment());
    let system = lab.cluster().kube().find("/api/v1/namespaces/kube-system").expect("an answer").expect("it is there");
    let uid = system["metadata"]["uid"].as_str().expect("a UID").to_owned();
    for (set, said) in [
        ("clusterName=other", format!("clusterName is other, and the installed operator runs with {name}")),
        ("clusterName=", format!("clusterName is {uid}, and the installed operator runs with {name}")),
        (
            "loadBalancerClass=example.com/lb",
            format!("loadBalancerClass is example.com/lb, and the installed operator runs with {}", lab.class()),
        ),
    ] {
        let upgrade = ["upgrade", name, CHART, "--values", &file, "--set", set];
        let refused = release.try_helm(&upgrade);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains(&said), "{set}: {text}");
        assert!(text.contains("uninstall.drain"), "{set}: {text}");
    }
    assert_eq!(release.deployment(), before);
    release.upgrade(&["flyRegion=iad"]);
}

fn image(release: &Release) -> Value {
    release.deployment()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

/// The kubelet writes the changed Secret into the folder that the operator reads.
#[test]
fn another_token_reaches_the_operator_without_a_restart() {
    let lab = Homelab::new();
    let release = Release::install(&lab, &[]);
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    let pods = release.pod_names();

    let token = lab.fly().rotate_token();
    wait_for_reason(&web, "FlyUnauthorized");
    assert_answers(ip, 8080, "web");
    release.upgrade(&[&format!("flyApiToken={token}")]);
    wait_for_reason(&web, "Serving");
    assert_eq!(release.pod_names(), pods, "it is the same pod");
    assert_eq!(release.pods()[0]["status"]["containerStatuses"][0]["restartCount"], 0);
    let accepted = |r: &Request| r.to == Target::Fly && r.status.is_some_and(|status| status < 300);
    let refused = |r: &Request| r.to == Target::Fly && r.status == Some(401);
    let requests = lab.requests();
    assert!(requests.iter().rposition(accepted) > requests.iter().rposition(refused));
}

/// The user's Secret may come from External Secrets or Vault, for example. The chart makes none of its own then.
#[test]
fn a_secret_of_the_users_own_is_taken() {
    let lab = Homelab::new();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mine" },
        "stringData": { "fly-api-token": format!("{}\n", lab.fly().token()) },
    });
    let secrets = format!("/api/v1/namespaces/{}/secrets", lab.operator_namespace());
    lab.cluster().kube().create(&secrets, &secret).expect("a Secret");
    let _release = Release::install(&lab, &["flyApiToken=", "existingSecret=mine"]);
    let all = lab.cluster().kube().list(&secrets).expect("a list");
    assert!(
        !all.iter().any(|secret| secret["metadata"]["name"].as_str().is_some_and(|name| name.contains("api-token")))
    );
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
}
