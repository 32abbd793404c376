//! Credential plugins: when they run, their input, and the messages about those that do not work.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube_client_lite::{Client, Error};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::server::{Answer, Request, Server};
use crate::setup::{Directory, client_of, fixture, is_refusal, kubeconfig, load, options};
use crate::tls::identity;

const V1: &str = "client.authentication.k8s.io/v1";

/// A cluster that accepts one token at a time, and a plugin that prints the content of a file.
struct Setup {
    directory: Directory,
    server: Server,
    /// The token that the server accepts.
    token: Arc<Mutex<String>>,
}

impl Setup {
    fn new(token: &str) -> Setup {
        Setup::with_authority(token, None)
    }

    /// If `client_authority` is given, clients need a certificate that it signed.
    fn with_authority(token: &str, client_authority: Option<&str>) -> Setup {
        let token = Arc::new(Mutex::new(token.to_owned()));
        let accepted = token.clone();
        let server =
            Server::start_tls(Arc::new(identity(&["127.0.0.1"], client_authority).server), move |request, _| {
                let expected = format!("Bearer {}", accepted.lock().expect("no panic"));
                match request.header("authorization") {
                    Some(sent) if sent == expected => Answer::json("{}"),
                    None if expected == "Bearer " => Answer::json("{}"),
                    _ => Answer::status_object(401, "Unauthorized", "Unauthorized"),
                }
            });
        Setup { directory: Directory::new(), server, token }
    }

    fn accept(&self, token: &str) {
        *self.token.lock().expect("no panic") = token.to_owned();
    }

    /// Makes the plugin print this status from now on.
    fn prints(&self, status: &Value) {
        self.prints_text(&json!({"kind": "ExecCredential", "apiVersion": V1, "status": status}).to_string());
    }

    fn prints_text(&self, text: &str) {
        // The file is replaced in one step, since the plugin may run at any time.
        let new = self.directory.file("printed.new", text);
        std::fs::rename(new, self.directory.path().join("printed")).expect("a file");
    }

    /// A client whose plugin is this shell script. In its folder are the files `printed` and `runs`.
    fn client_of(&self, script: &str, timeout: Duration) -> Client {
        // The script is run by `sh`. Linux would refuse to run it directly while the child of another thread still has
        // it open for writing.
        let folder = self.directory.path().display();
        let script = self.directory.file("plugin", format!("cd {folder}; echo run >> runs; {script}"));
        let exec = json!({
            "apiVersion": V1, "interactiveMode": "Never", "command": "sh", "args": [script],
            "installHint": "get it from example.com"
        });
        let cluster = format!("server: 'https://{}', insecure-skip-tls-verify: true", self.server.address());
        let file = self.directory.file("config", kubeconfig(&cluster, &format!("exec: {exec}")));
        Client::new(load(&file).expect("a usable kubeconfig"), &options(timeout)).expect("a usable configuration")
    }

    fn client(&self) -> Client {
        self.client_of("cat printed", Duration::from_secs(60))
    }

    /// How often the plugin has run.
    fn runs(&self) -> usize {
        let runs = std::fs::read_to_string(self.directory.path().join("runs"));
        runs.map_or(0, |runs| runs.lines().count())
    }

    fn tokens(&self) -> Vec<String> {
        let token = |request: &Request| request.header("authorization").unwrap_or("none").to_owned();
        self.server.requests().iter().map(token).collect()
    }
}

fn ask(client: &Client) -> Result<Value, Error> {
    client.get("/version")
}

fn time(from_now: i64) -> String {
    let now = std::time::SystemTime::now();
    let distance = Duration::from_secs(from_now.unsigned_abs());
    humantime::format_rfc3339(if from_now < 0 { now - distance } else { now + distance }).to_string()
}

#[test]
fn a_login_is_kept_until_it_is_refused() {
    let setup = Setup::new("one");
    setup.prints(&json!({"token": "one"}));
    let client = setup.client();
    assert_eq!(setup.runs(), 0, "nobody has asked yet");
    for _ in 0..3 {
        ask(&client).expect("a reply");
    }
    assert_eq!(setup.runs(), 1);

    setup.accept("two");
    setup.prints(&json!({"token": "two", "expirationTimestamp": time(3600)}));
    for _ in 0..3 {
        ask(&client).expect("a reply");
    }
    let sent = ["one", "one", "one", "one", "two", "two", "two"].map(|token| format!("Bearer {token}"));
    assert_eq!(setup.tokens(), sent);
    assert_eq!(setup.runs(), 2);
}

#[test]
fn a_login_that_has_expired_is_asked_for_again() {
    let setup = Setup::new("one");
    setup.prints(&json!({"token": "one", "expirationTimestamp": time(2)}));
    let client = setup.client();
    ask(&client).expect("a reply");
    setup.prints(&json!({"token": "one", "expirationTimestamp": time(3600)}));
    let deadline = Instant::now() + Duration::from_secs(60);
    while setup.runs() == 1 {
        assert!(Instant::now() < deadline, "not in time");
        ask(&client).expect("a reply");
    }
    for _ in 0..10 {
        ask(&client).expect("a reply");
    }
    assert_eq!(setup.runs(), 2);
}

/// Allows three runs of the plugin, and one more for each second.
#[track_caller]
fn assert_few(runs: usize, started: Instant) {
    let seconds = started.elapsed().as_secs() as usize;
    assert!(runs <= 3 + seconds, "{runs} runs in {seconds} s");
}

/// kubectl does the same, but runs the plugin for each request.
#[test]
fn a_login_that_comes_expired_is_used_all_the_same() {
    let setup = Setup::new("one");
    setup.prints(&json!({"token": "one", "expirationTimestamp": time(-60)}));
    let client = setup.client();
    let started = Instant::now();
    for _ in 0..10 {
        ask(&client).expect("a reply");
    }
    assert_few(setup.runs(), started);
}

#[test]
fn a_refused_login_is_asked_for_again_but_not_at_once() {
    let setup = Setup::new("two");
    setup.prints(&json!({"token": "one"}));
    let client = setup.client();
    let started = Instant::now();
    for _ in 0..10 {
        assert!(is_refusal(&ask(&client).expect_err("a refusal"), 401));
    }
    assert_few(setup.runs(), started);
    assert_eq!(setup.tokens().len(), 10, "the same token is not tried twice");
    setup.prints(&json!({"token": "two"}));
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(&client).is_err() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server that cannot reach its own identity provider refuses everybody for a moment.
#[test]
fn a_login_is_kept_when_there_is_no_other() {
    let setup = Setup::new("one");
    setup.prints(&json!({"token": "one"}));
    let client = setup.client();
    ask(&client).expect("a reply");
    setup.accept("nobody");
    setup.prints_text("rubbish");
    for _ in 0..3 {
        assert!(is_refusal(&ask(&client).expect_err("a refusal"), 401));
    }
    setup.accept("one");
    ask(&client).expect("a reply");
}

/// Calls `run` in many threads at once.
fn at_once(run: impl Fn() + Sync) {
    let barrier = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                barrier.wait();
                run();
            });
        }
    });
}

#[test]
fn one_run_serves_all_who_wait() {
    let setup = Setup::new("one");
    setup.prints(&json!({"token": "one"}));
    let client = setup.client_of("sleep 0.3; cat printed", Duration::from_secs(60));
    at_once(|| {
        ask(&client).expect("a reply");
    });
    assert_eq!(setup.runs(), 1);
    setup.accept("two");
    setup.prints(&json!({"token": "two"}));
    at_once(|| {
        ask(&client).expect("a reply");
    });
    assert_eq!(setup.runs(), 2, "once for all to whom the token was refused");

    let failing = Setup::new("");
    let client = failing.client_of("sleep 0.3; exit 1", Duration::from_secs(60));
    at_once(|| {
        ask(&client).expect_err("no login");
    });
    assert_eq!(failing.runs(), 1);
}

#[test]
fn a_plugin_that_hangs_keeps_nobody_longer_than_the_request_may_take() {
    let setup = Setup::new("one");
    let client = setup.client_of("sleep 1000", Duration::from_secs(1));
    let started = Instant::now();
    at_once(|| {
        let error = ask(&client).expect_err("no login");
        let told = error.to_string();
        assert!(told.contains("did not end in") || told.contains("is still running"), "{told}");
        assert!(told.contains("\"sh\" of user \"u\"") && told.contains("(get it from example.com)"), "{told}");
    });
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(setup.server.requests().is_empty());
}

#[test]
fn what_a_plugin_does_wrong_is_told_without_its_output() {
    for (script, told) in [
        ("echo sesame; exit 7", "failed: exit status: 7 (get it"),
        ("echo 'no such profile' >&2; echo >&2; exit 1", "failed: exit status: 1: no such profile (get it"),
        ("kill -9 $$", "failed: signal: 9"),
        ("echo sesame", "printed what is no ExecCredential"),
        ("echo '{sesame'", "printed what is neither JSON nor YAML"),
        ("true", "printed what is no ExecCredential"),
        ("while :; do echo sesame; done", "printed more than 1048576 bytes, and was killed"),
        ("set -x; echo open-sesame-open-sesame; exit 1", "failed: exit status: 1: + exit 1"),
        ("echo open-sesame-open-sesame | tee /dev/stderr; exit 1", "failed: exit status: 1 (get it"),
    ] {
        let setup = Setup::new("");
        let error = ask(&setup.client_of(script, Duration::from_secs(60))).expect_err("no login");
        let message = error.to_string();
        assert!(message.starts_with("GET /version: the exec plugin \"sh\" of user \"u\" "), "{message}");
        assert!(message.contains(told), "{script}: {message}");
        assert!(message.contains("(get it from example.com)"), "{message}");
        assert!(!message.contains("sesame"), "{message}");
        assert!(setup.server.requests().is_empty());
    }
}

#[test]
fn a_plugin_that_is_not_there_is_told() {
    for (command, told) in [
        ("no-such-plugin", "the exec plugin \"no-such-plugin\" of user \"u\" is not in PATH (get it from example.com)"),
        ("./no-such-plugin", "/./no-such-plugin\" of user \"u\" cannot be run: No such file"),
        ("/", "the exec plugin \"/\" of user \"u\" cannot be run: "),
    ] {
        let setup = Setup::new("");
        let exec = json!({
            "apiVersion": V1, "interactiveMode": "Never", "command": command, "installHint": "get it\nfrom example.com"
        });
        let file =
            setup.directory.file("config", kubeconfig("server: 'https://127.0.0.1:1'", &format!("exec: {exec}")));
        let config = load(&file).expect("a usable kubeconfig");
        let error = ask(&client_of(config)).expect_err("no plugin");
        assert!(error.to_string().contains(told), "{error}");
    }
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("a fixture")
}

/// The status that a plugin prints to bring one of the fixtures' certificates.
fn certificate(kind: &str, token: &str) -> Value {
    json!({
        "token": token,
        "clientCertificateData": pem(&format!("{kind}.crt")),
        "clientKeyData": pem(&format!("{kind}.key")),
    })
}

#[test]
fn a_certificate_that_changes_takes_new_connections() {
    let setup = Setup::with_authority("", Some(&fixture("ca.crt")));
    setup.prints(&certificate("sec1", ""));
    let client = setup.client();
    for _ in 0..3 {
        ask(&client).expect("a reply");
    }
    let connections = || setup.server.requests().iter().map(|request| request.connection).collect::<Vec<_>>();
    assert_eq!(connections(), [0, 0, 0]);

    setup.accept("two");
    setup.prints(&certificate("pkcs8", "two"));
    for _ in 0..2 {
        ask(&client).expect("a reply");
    }
    assert_eq!(connections(), [0, 0, 0, 0, 1, 1], "who was refused is not who asks then");
    assert_eq!(setup.runs(), 2);
    let seen: Vec<_> = setup.server.requests().iter().map(|request| request.certificate.clone()).collect();
    let der =
        |kind: &str| CertificateDer::from_pem_slice(pem(&format!("{kind}.crt")).as_bytes()).expect("PEM").to_vec();
    assert_eq!(seen[3].as_deref(), Some(&der("sec1")[..]));
    assert_eq!(seen[4].as_deref(), Some(&der("pkcs8")[..]));
}

/// ureq would panic in this case.
#[test]
fn a_certificate_that_its_key_does_not_fit_is_refused() {
    let setup = Setup::new("");
    setup.prints(&json!({"clientCertificateData": pem("sec1.crt"), "clientKeyData": pem("pkcs8.key")}));
    let message = ask(&setup.client()).expect_err("no login").to_string();
    assert!(message.contains("client-certificate and client-key cannot be used together"), "{message}");
    assert!(!message.contains("PRIVATE"), "{message}");
}

#[test]
fn a_plugin_is_not_run_for_a_server_in_clear_text() {
    let server = Server::start(|_, _| Answer::json("{}"));
    let directory = Directory::new();
    let exec = json!({"apiVersion": V1, "interactiveMode": "Never", "command": "no-such-plugin"});
    let cluster = format!("server: 'http://{}'", server.address());
    let file = directory.file("config", kubeconfig(&cluster, &format!("exec: {exec}")));
    let config = load(&file).expect("a usable kubeconfig");
    ask(&client_of(config)).expect("a reply");
}
