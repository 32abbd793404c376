//! Even at its most verbose, the log tells no secret. The exception is ureq's dump, and the README says how to switch
//! it off.

use std::sync::{Arc, Mutex, MutexGuard};

use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::setup::{Directory, client_of, config};
use crate::tls::identity;

/// The target and the text of each log line, from all tests of this process.
static LINES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

struct Collector;

impl Log for Collector {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        lines().push((record.target().to_owned(), record.args().to_string()));
    }

    fn flush(&self) {}
}

fn lines() -> MutexGuard<'static, Vec<(String, String)>> {
    LINES.lock().expect("no panic")
}

#[test]
fn no_secret_is_in_the_log() {
    log::set_logger(&Collector).expect("no other logger");
    log::set_max_level(LevelFilter::Trace);
    let secrets = ["password-of-a-token", "password-of-a-file", "password-of-a-plugin", "password-of-a-variable"];
    let [token, file, plugin, variable] = secrets;
    // The server refuses each user once, so that logins are renewed, too.
    let server = Server::start_tls(Arc::new(identity(&["127.0.0.1"], None).server), |_, number| match number {
        0 | 1 | 3 | 5 => Answer::status_object(401, "Unauthorized", "Unauthorized"),
        _ => Answer::json("{}"),
    });
    let directory = Directory::new();
    let file = directory.file("token", file);
    let credential = |token: &str| {
        let status = json!({ "token": token });
        json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}).to_string()
    };
    let printed = directory.file("printed", credential(plugin));
    let exec = |script: &str| {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh",
            "args": ["-c", script, "sh", printed], "env": [{"name": "KEY", "value": variable}],
        });
        format!("exec: {exec}")
    };
    for user in [
        format!("token: {token}"),
        format!("tokenFile: {file}"),
        exec("cat $1; echo $KEY >&2"),
        exec("cat $1; cat $1 >&2; exit 1"),
    ] {
        let cluster = format!("server: 'https://{}', insecure-skip-tls-verify: true", server.address());
        let client = client_of(config(&cluster, &user));
        for _ in 0..2 {
            let _ = client.get::<Value>("/version");
        }
    }
    log::set_max_level(LevelFilter::Off);
    let lines = lines();
    assert!(lines.iter().any(|(target, _)| target.starts_with("kube_client_lite")), "we say something");
    assert!(lines.iter().any(|(target, _)| target.starts_with("ureq")), "so does ureq");
    for (target, text) in lines.iter().filter(|(target, _)| !target.starts_with("ureq_proto")) {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{target}: {text}");
    }
}
