//! Variables of the environment that count, and others that do not. Each test starts this very binary again, with
//! another environment.

use std::path::Path;
use std::process::Command;

use kube_client_lite::{Config, Sources};
use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::{Directory, client, kubeconfig};

/// The variable that tells a test that it runs in the inner process.
const INNER: &str = "KUBE_CLIENT_LITE_TEST_INNER";

fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs one test of this binary in a new process, with these variables.
fn run_again(test: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().expect("a test binary"));
    command.args(["--exact", test]).env(INNER, "1");
    for name in ["NO_PROXY", "no_proxy", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().expect("this test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The proxies in the environment are meant for other servers.
#[test]
fn proxies_of_the_environment_are_not_used() {
    if is_inner() {
        let server = Server::start(|_, _| Answer::json("{}"));
        client(&server).get::<Value>("/version").expect("a reply without a proxy");
        return;
    }
    let nobody = "http://127.0.0.1:1";
    let variables = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"];
    run_again("environment::proxies_of_the_environment_are_not_used", &variables.map(|variable| (variable, nobody)));
}

#[test]
fn without_a_list_the_kubeconfig_is_the_one_at_home() {
    if is_inner() {
        for list in [None, Some("")] {
            let sources = Sources { kubeconfig: list, ..Sources::default() };
            assert!(!sources.is_pod());
            let config = Config::load(&sources).expect("a kubeconfig at home");
            assert_eq!(config.server(), "https://at-home");
        }
        return;
    }
    let home = Directory::new();
    std::fs::create_dir(home.path().join(".kube")).expect("a folder");
    home.file(".kube/config", kubeconfig("server: 'https://at-home'", ""));
    let home = home.path().to_str().expect("a path in UTF-8");
    run_again("environment::without_a_list_the_kubeconfig_is_the_one_at_home", &[("HOME", home)]);
}

/// An IPv6 address comes without the brackets that a URL needs. A kubeconfig or a context that is named explicitly wins
/// over the pod's.
#[test]
fn a_pod_finds_its_cluster() {
    if is_inner() {
        let directory = std::env::var("MOUNTED").expect("a directory");
        let pod = Sources { service_account_dir: Some(Path::new(&directory)), ..Sources::default() };
        assert!(pod.is_pod());
        let config = Config::load(&pod).expect("a pod");
        assert_eq!((config.server(), config.namespace()), ("https://[fd00::1]:6443", Some("shop")));
        for elsewhere in [Sources { context: Some("c"), ..pod }, Sources { kubeconfig: Some("/nowhere"), ..pod }] {
            assert!(!elsewhere.is_pod());
            assert!(Config::load(&elsewhere).expect_err("no file").to_string().starts_with("no kubeconfig: "));
        }
        return;
    }
    let mounted = Directory::new();
    for (name, text) in [("token", "t"), ("ca.crt", "c"), ("namespace", "shop\n")] {
        mounted.file(name, text);
    }
    let variables = [
        ("KUBERNETES_SERVICE_HOST", "fd00::1"),
        ("KUBERNETES_SERVICE_PORT", "6443"),
        ("HOME", "/nowhere"),
        ("MOUNTED", mounted.path().to_str().expect("a path in UTF-8")),
    ];
    run_again("environment::a_pod_finds_its_cluster", &variables);
}
