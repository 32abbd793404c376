//! Health is measured through the tunnel: a lane whose frpc is frozen or gone gets no users, and backends are spared the checks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lab::homelab::Homelab;
use lab::parts::Parts;
use lab::process::{Process, Spawn};
use serde_json::Value;

use crate::support::client::{Stream, assert_answers, connect, get};
use crate::support::inventory::{apps, ready};
use crate::support::{DEADLINE, binary, serving, start, wait_until};

/// The names of frpc's pods begin so.
const FRPC: &str = "lb-";

/// The statuses of the Machine's checks of this type.
fn checks(lab: &Homelab, kind: &str) -> Vec<String> {
    let checks = apps(lab)[0]["machines"][0]["checks"].as_array().cloned().unwrap_or_default();
    let of_kind = checks.iter().filter(|check| check["name"].as_str().is_some_and(|name| name.contains(kind)));
    of_kind.filter_map(|check| check["status"].as_str().map(str::to_owned)).collect()
}

/// The kernel goes on to accept for a frozen frpc, so a knock at the port finds somebody for 15 s.
#[test]
fn a_frozen_frpc_is_seen_within_twelve_seconds() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    assert_eq!((checks(&lab, "-http-"), checks(&lab, "-tcp-")), (vec!["passing".into()], vec!["passing".to_owned()]));
    lab.cluster().freeze_pods(lab.operator_namespace(), FRPC);
    let frozen = Instant::now();
    wait_until("the check through the tunnel fails", DEADLINE, || checks(&lab, "-http-") == ["critical"]);
    let seen = frozen.elapsed();
    assert_eq!(checks(&lab, "-tcp-"), ["passing"], "a knock tells nothing of it");
    assert!(seen < Duration::from_secs(12), "{seen:?}");
    lab.cluster().thaw_pods(lab.operator_namespace(), FRPC);
    wait_until("it answers again", DEADLINE, || get(ip, 8080, "/").is_ok_and(|answer| answer.contains("web-")));
}

/// frpc is restarted, each time later, until a check falls into the gap. Once it is registered again, users wait for the next check.
#[test]
fn a_gap_that_meets_a_check_costs_no_more_than_five_seconds() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    let registered = || log_lines(&lab, &["new proxy", "tcp-8080", "success"]);
    let is_red = || checks(&lab, "-http-") == ["critical"];
    let mut before = registered();
    let met = (0..8).any(|_| {
        before = registered();
        lab.cluster().kill_pods(lab.operator_namespace(), FRPC);
        wait_until("a check fails, or frpc is back", DEADLINE, || is_red() || registered() > before);
        is_red()
    });
    assert!(met, "no gap met a check");
    Stream::during(1, ip, 8080, "web", |stream| {
        wait_until("frpc is back", DEADLINE, || registered() > before);
        let back = Instant::now();
        wait_until("clients are served again", DEADLINE, || stream.answered.load(Ordering::Relaxed) > 0);
        let cost = back.elapsed();
        println!("a gap that met a check cost {cost:?} more");
        assert!(cost < Duration::from_secs(5), "{cost:?}");
    });
}

/// The connections that frps took for this proxy.
fn connections(lab: &Homelab, proxy: &str) -> usize {
    log_lines(lab, &[proxy, "get a user connection"])
}

/// The lines in the log of frps that have all of these words.
fn log_lines(lab: &Homelab, words: &[&str]) -> usize {
    let machine = apps(lab)[0]["machines"][0]["id"].as_str().unwrap_or_default().to_owned();
    let log = lab.fly().machine_log(&machine);
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn a_backend_meets_one_check_a_minute() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    serving(&lab);
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    let (asked, knocked) = (connections(&lab, "probe"), connections(&lab, "tcp-8080"));
    assert!(asked > 0, "no check came");
    wait_until("five more checks come", DEADLINE, || connections(&lab, "probe") >= asked + 5);
    assert!(connections(&lab, "tcp-8080") <= knocked + 1);
}

/// A way out, should Fly's checks through the tunnel not be as they are known.
#[test]
fn with_checks_by_tcp_alone_there_is_no_probe() {
    let lab = Homelab::new();
    let _operator = lab.operator(binary()).env("FLY_SERVICE_CHECKS", "tcp").start();
    let (_, ip) = serving(&lab);
    assert_eq!((checks(&lab, "-http-"), checks(&lab, "-tcp-")), (vec![], vec!["passing".to_owned()]));
    assert_eq!(metadata(&apps(&lab)[0]["machines"][0], "fto_probe_port"), "");
    wait_until("frpc's pod is ready", DEADLINE, || ready(&lab) == 1);
    assert_answers(ip, 8080, "web");
}

#[test]
fn from_outside_the_probe_port_is_closed() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (_, ip) = serving(&lab);
    let machine = apps(&lab)[0]["machines"][0].clone();
    let port: u16 = metadata(&machine, "fto_probe_port").parse().expect("a port");
    connect(ip, port).expect_err("nobody listens");
}

/// Even who holds the keys of the tunnel gets the Service's ports and the probe's only.
#[test]
fn frps_takes_no_proxy_on_another_port() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    serving(&lab);
    let (kube, core) = (lab.cluster().kube(), format!("/api/v1/namespaces/{}", lab.operator_namespace()));
    let ours = |kind: &str| {
        let mut listed = kube.list(&format!("{core}/{kind}")).expect("a list").into_iter();
        listed
            .find(|object| object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(FRPC)))
            .expect("one")
    };
    let folder = lab.directory().join("intruder");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let keys = ours("secrets")["data"].as_object().cloned().expect("data");
    let key = |name: &str| BASE64_STANDARD.decode(keys[name].as_str().expect("base64")).expect("base64");
    keys.keys().for_each(|name| std::fs::write(folder.join(name), key(name)).expect("it is written"));
    let config_map = ours("configmaps");
    let before = config_map["data"]["frpc.toml"].as_str().expect("a text");
    let text = before.replace("/etc/frpc-keys", &folder.display().to_string());
    let text = text.replace("remotePort = 8080", "remotePort = 8081").replace("port = 7400", "port = 0");
    std::fs::write(folder.join("frpc.toml"), text).expect("it is written");
    let log = folder.join("log");
    let _intruder = Process::spawn(Spawn {
        program: Parts::get().expect("they are built").frp.frpc.clone(),
        argv0: None,
        args: vec!["-c".into(), folder.join("frpc.toml").display().to_string()],
        env: vec![
            ("POD_NAME".into(), "intruder".into()),
            ("FRP_TOKEN".into(), String::from_utf8(key("token")).expect("a text")),
        ],
        dir: folder.clone(),
        log: log.clone(),
    });
    wait_until("its proxy is refused", DEADLINE, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("[tcp-8080] start error"))
    });
}

fn metadata<'a>(machine: &'a Value, key: &str) -> &'a str {
    machine["metadata"][key].as_str().unwrap_or_default()
}
