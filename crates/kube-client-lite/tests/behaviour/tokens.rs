//! Bearer tokens: sent over TLS only, and read again when they change.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_client_lite::Client;
use serde_json::Value;

use crate::server::{Answer, Request, Server};
use crate::setup::{Directory, client_of, config, is_refusal, options};
use crate::tls::identity;

/// A cluster that accepts one token, and the settings to reach it.
struct Cluster {
    server: Server,
    settings: String,
}

fn cluster_that_accepts(token: &'static str) -> Cluster {
    let identity = identity(&["127.0.0.1"], None);
    let expected = format!("Bearer {token}");
    let server = Server::start_tls(Arc::new(identity.server), move |request, _| {
        if request.header("authorization") == Some(&expected) {
            Answer::json("{}")
        } else {
            Answer::status_object(401, "Unauthorized", "Unauthorized")
        }
    });
    let settings = format!("server: 'https://{}', insecure-skip-tls-verify: true", server.address());
    Cluster { server, settings }
}

impl Cluster {
    fn client(&self, user: &str) -> Client {
        client_of(config(&self.settings, user))
    }

    fn tokens(&self) -> Vec<String> {
        let token = |request: &Request| request.header("authorization").unwrap_or("none").to_owned();
        self.server.requests().iter().map(token).collect()
    }
}

#[test]
fn a_token_is_sent() {
    let cluster = cluster_that_accepts("sesame");
    cluster.client("token: sesame").get::<Value>("/version").expect("a reply");
    let error = cluster.client("token: barley").get::<Value>("/version").expect_err("a refusal");
    assert!(is_refusal(&error, 401));
    assert!(!error.to_string().contains("barley"), "{error}");
    assert_eq!(cluster.tokens(), ["Bearer sesame", "Bearer barley"]);
}

#[test]
fn a_token_in_a_file_is_read_again_when_it_is_refused() {
    let cluster = cluster_that_accepts("new");
    let directory = Directory::new();
    let file = directory.file("token", "old\n");
    let client = cluster.client(&format!("tokenFile: {file}"));

    assert!(is_refusal(&client.get::<Value>("/version").expect_err("a refusal"), 401));
    assert_eq!(cluster.tokens(), ["Bearer old"], "the same token is not tried twice");
    directory.file("token", "new\n");
    client.get::<Value>("/version").expect("a reply");
    assert_eq!(cluster.tokens()[1..], ["Bearer old", "Bearer new"]);
    client.get::<Value>("/version").expect("a reply");
    assert_eq!(cluster.tokens()[3..], ["Bearer new"]);
}

#[test]
fn a_token_beside_a_file_serves_until_there_is_a_file() {
    let cluster = cluster_that_accepts("sesame");
    let client = cluster.client("token: sesame, tokenFile: /nowhere/token");
    client.get::<Value>("/version").expect("a reply");

    let client = cluster.client("tokenFile: /nowhere/token");
    let error = client.get::<Value>("/version").expect_err("nothing to send");
    assert!(error.to_string().contains("cannot read the token in /nowhere/token"), "{error}");
}

#[test]
fn a_token_is_never_sent_in_clear_text() {
    let server = Server::start(|_, _| Answer::json("{}"));
    let config = config(&format!("server: 'http://{}'", server.address()), "token: sesame");
    let client = client_of(config);
    client.get::<Value>("/version").expect("a reply");
    assert_eq!(server.requests()[0].header("authorization"), None);
}

/// The token's file is replaced by a FIFO, so that reading it takes until somebody writes.
#[test]
fn a_request_whose_time_is_up_is_not_sent_again() {
    let directory = Directory::new();
    let file = directory.file("token", "old");
    let path = file.clone();
    let identity = identity(&["127.0.0.1"], None);
    let server = Server::start_tls(Arc::new(identity.server), move |_, _| {
        let fifo = format!("{path}.fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        std::fs::rename(fifo, &path).expect("a folder of our own");
        Answer::status_object(401, "Unauthorized", "Unauthorized")
    });
    let settings = format!("server: 'https://{}', insecure-skip-tls-verify: true", server.address());
    let timeout = Duration::from_secs(1);
    let client = Client::new(config(&settings, &format!("tokenFile: {file}")), &options(timeout));
    let client = client.expect("a usable configuration");
    let started = Instant::now();
    let error = std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.get::<Value>("/version").expect_err("no reply"));
        while started.elapsed() <= timeout || server.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut fifo = loop {
            // With O_NONBLOCK this fails as long as nobody reads; without, it would wait for a reader.
            match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&file) {
                Ok(fifo) => break fifo,
                Err(error) => assert!(Instant::now() < deadline, "the token is not read again: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        fifo.write_all(b"new").expect("a reader");
        drop(fifo);
        asking.join().expect("no panic")
    });
    assert!(error.to_string().contains("timeout"), "{error}");
    assert_eq!(server.requests().len(), 1, "{error}");
}
