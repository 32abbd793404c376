//! Compares all that goes over the wire with texts that a person can read, and asks frp itself about its configurations.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use super::frp::{frpc, frps};
use super::machine;
use super::objects::Home;
use crate::examples;
use crate::random::{Random, System};
use crate::service::port::Port;
use crate::tunnel::Tunnel;
use crate::tunnel::keys::{TOKEN, TunnelKeys};
use crate::tunnel::lane::{Frpc, Lane, SlotId};

fn lane() -> Lane {
    let mut recipe = examples::recipe();
    for (forward, number) in recipe.forwards.iter_mut().zip([443, 8443]) {
        forward.port = Port::tcp(number);
    }
    recipe.lane.region = "ord,iad".into();
    recipe.keys = "0123abcd".into();
    recipe.frps_image = "fatedier/frps:v0.71.0".into();
    recipe.frpc_image = "fatedier/frpc:v0.71.0".into();
    let (generation, name) = ("0a1b2c3d4e".into(), "frps-0a1b2c3d4e-0-1".into());
    Lane { slot: SlotId::tcp(0), recipe, generation, name, control_port: 7000, probe_port: Some(7001), pool: 50 }
}

/// An owner's ID, and the tunnel of its Service `default/web`.
fn web() -> (String, Tunnel) {
    (examples::owner().id(), examples::removed("web"))
}

/// Keys that are none, and the same in every run.
fn keys() -> TunnelKeys {
    TunnelKeys::read(|name| Some(format!("<{name}>"))).expect("all entries are there")
}

/// Compares with `snapshots/<name>`; with `UPDATE=1` in the environment writes it.
fn assert_snapshot(name: &str, text: &str) {
    let path = format!("{}/src/render/snapshots/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).expect("the snapshot can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path} has another text; UPDATE=1 accepts this one");
}

fn pretty(value: &impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).expect("plain values"))
}

#[test]
fn a_lane_is_a_machine() {
    let mut request = machine::request(&lane(), &keys(), "0123456789ab", "default/web");
    for file in &mut request.config.files {
        file.raw_value = format!("<base64, {} characters>", file.raw_value.len());
    }
    assert_snapshot("machine.json", &pretty(&request));
}

#[test]
fn a_lane_is_two_configurations() {
    assert_snapshot("frps.toml", &frps::configuration(&lane(), keys().get(TOKEN)));
    assert_snapshot("frpc.toml", &frpc::configuration(&lane()));
}

#[test]
fn a_limit_of_bandwidth_is_frpcs_to_keep() {
    let mut limited = lane();
    limited.recipe.forwards[1].settings.bandwidth_limit = Some("2MB".into());
    let written = frpc::configuration(&limited);
    let added: Vec<&str> =
        written.lines().filter(|line| !frpc::configuration(&lane()).lines().any(|l| l == *line)).collect();
    assert_eq!(added, ["[proxies.transport]", "bandwidthLimit = \"2MB\"", "bandwidthLimitMode = \"client\""]);
    frp_takes("limited", &limited);
}

#[test]
fn a_lane_is_objects_in_the_cluster() {
    let (owner_id, tunnel) = web();
    let home = Home { namespace: "fly-tunnel-operator-system", owner: &owner_id, tunnel: &tunnel };
    let frpc = Frpc { lane: lane(), machine: "148e21ea7e4589".into(), secret: "the-secret".into() };
    assert_snapshot("secret.json", &pretty(&home.secret(&keys())));
    assert_snapshot("config-map.json", &pretty(&home.config_map(&frpc)));
    assert_snapshot("deployment.json", &pretty(&home.deployment(&frpc)));
}

/// An object that is found by the Service's labels is ours only if owner and App are as well.
#[test]
fn objects_of_another_owner_or_app_are_not_ours() {
    let (owner_id, tunnel) = web();
    let home = Home { namespace: "n", owner: &owner_id, tunnel: &tunnel };
    let made = home.secret(&keys());
    let labels: BTreeMap<String, String> =
        serde_json::from_value(made["metadata"]["labels"].clone()).expect("labels are texts");
    for wanted in home.selector().split(',') {
        let (label, value) = wanted.split_once('=').unwrap_or((wanted, &tunnel.app));
        assert_eq!(labels[label], value, "it finds what it makes");
    }
    assert_eq!((home.other_app(&labels), home.is_labelled(&labels)), (None, true));
    let other_app = "lb-default-web-0123456789ab";
    for (label, value, other) in [("owner", "0123456789ab", None), ("app", other_app, Some(other_app))] {
        let mut labels = labels.clone();
        labels.insert(format!("fly-tunnel-operator.dev/{label}"), value.into());
        let other = other.map(str::to_owned);
        assert_eq!((home.other_app(&labels), home.is_labelled(&labels)), (other, false), "{label}");
    }
}

#[test]
fn what_users_say_of_the_frpc_pods_is_in_them() {
    let (owner_id, tunnel) = web();
    let home = Home { namespace: "n", owner: &owner_id, tunnel: &tunnel };
    let mut frpc = Frpc { lane: lane(), machine: "m".into(), secret: "s".into() };
    frpc.lane.recipe.frpc_pod = serde_json::from_str(
        r#"{"tolerations":[{"key":"pi","operator":"Exists"}],"nodeSelector":{"disk":"ssd"},"affinity":{"nodeAffinity":{}},
            "imagePullSecrets":[{"name":"pull"}],"priorityClassName":"high",
            "annotations":{"downscaler/exclude":"true"},"labels":{"team":"net","app.kubernetes.io/name":"theirs"}}"#,
    )
    .expect("a pod file");
    let deployment = home.deployment(&frpc);
    let template = &deployment["spec"]["template"];
    for metadata in [&deployment["metadata"], &template["metadata"]] {
        assert_eq!(metadata["annotations"], serde_json::json!({ "downscaler/exclude": "true" }));
        assert_eq!(
            (&metadata["labels"]["team"], &metadata["labels"]["app.kubernetes.io/name"]),
            (&"net".into(), &"frpc".into())
        );
    }
    let pod = &template["spec"];
    assert_eq!(pod["tolerations"].as_array().map(Vec::len), Some(3), "ours and the user's");
    assert_eq!(
        pod["nodeSelector"],
        serde_json::json!({ "disk": "ssd", "kubernetes.io/os": "linux" }),
        "ours and the user's"
    );
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    assert_eq!(pod["imagePullSecrets"][0]["name"], "pull");
    assert_eq!(pod["priorityClassName"], "high");
}

#[test]
fn frp_takes_both_configurations() {
    frp_takes("plain", &lane());
}

/// The real programs, with `--strict_config` as is their default: an unknown key is an error.
fn frp_takes(name: &str, lane: &Lane) {
    let parts = lab::parts::Parts::get().expect("the lab's parts");
    let keys = System.tunnel_keys("app", SystemTime::now()).expect("keys");
    let directory = std::env::temp_dir().join(format!("fly-tunnel-operator-render-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a folder");
    let verify = |program: &Path, file: &str, configuration: &str| {
        let path = directory.join(file);
        std::fs::write(&path, configuration).expect("a file");
        let verify = Command::new(program)
            .arg("verify")
            .arg("-c")
            .arg(&path)
            .env("POD_NAME", "pod")
            .env("FRP_TOKEN", "t")
            .output();
        let output = verify.expect("frp runs");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stdout));
    };
    for frp in [&parts.frp, &parts.old_frp] {
        verify(&frp.frps, "frps.toml", &frps::configuration(lane, keys.get(TOKEN)));
        verify(&frp.frpc, "frpc.toml", &frpc::configuration(lane));
    }
    std::fs::remove_dir_all(&directory).expect("the folder is ours");
}
