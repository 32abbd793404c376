//! The proxies that the environment names are for other servers than this.

use std::process::Command;

use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::client;

/// Set in the process that this test starts: itself, with a proxy in its environment that nobody runs.
const INNER: &str = "KUBE_CLIENT_LITE_TEST_WITH_PROXIES";

#[test]
fn proxies_of_the_environment_are_not_used() {
    if std::env::var_os(INNER).is_some() {
        let server = Server::start(|_, _| Answer::json("{}"));
        client(&server).get::<Value>("/version").expect("a reply without a proxy");
        return;
    }
    let nobody = "http://127.0.0.1:1";
    let variables = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"];
    let output = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "environment::proxies_of_the_environment_are_not_used"])
        .envs(variables.map(|variable| (variable, nobody)))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env(INNER, "1")
        .output()
        .expect("this test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
