//! kube-client-lite's requests and examples, each against the real API server. The crate's own tests try it with
//! hostile servers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use kube_client_lite::{Client, ClientOptions, Config, ListQuery, PartialObject, PatchOperation, Resource, Sources};
use lab::homelab::Homelab;
use serde_json::{Value, json};

use crate::support::{DEADLINE, binary, wait_until};

fn client(lab: &Homelab) -> Client {
    let kubeconfig = lab.kubeconfig();
    let sources = Sources { kubeconfig: kubeconfig.to_str(), ..Sources::default() };
    let config = Config::load(&sources).expect("the lab's kubeconfig");
    Client::new(config, &ClientOptions::new("test/1")).expect("a client")
}

#[test]
fn objects_are_made_changed_only_as_they_were_seen_and_deleted() {
    let lab = Homelab::new();
    let (client, namespace) = (client(&lab), lab.namespace());
    let maps = Resource::CONFIG_MAPS.in_namespace(namespace);
    let path = Resource::CONFIG_MAPS.named(namespace, "a");
    assert!(client.get::<Value>(&path).is_err_and(|error| error.is_not_found()));

    let body = json!({ "metadata": { "name": "a" }, "data": { "key": "1" } });
    let made: Value = client.create(&maps, &body).expect("it is made");
    assert!(client.create::<Value>(&maps, &body).is_err_and(|error| error.is_already_exists()));

    let version = |object: &Value| PatchOperation::Test {
        path: "/metadata/resourceVersion".into(),
        value: object["metadata"]["resourceVersion"].clone(),
    };
    let change = || PatchOperation::Add { path: "/data/key".into(), value: json!("3") };
    let patched: Value = client.json_patch(&path, &[version(&made), change()]).expect("the test holds");
    assert_eq!(patched["data"]["key"], "3");
    let stale = client.json_patch::<Value>(&path, &[version(&made), change()]);
    assert!(stale.is_err_and(|error| error.is_invalid()));

    let applied = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "other": "4" } });
    let applied: Value = client.apply(&path, "test", &applied).expect("it is applied");
    assert_eq!(applied["data"], json!({ "key": "3", "other": "4" }));
    let version = json!({ "resourceVersion": made["metadata"]["resourceVersion"] });
    let stale = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": version });
    let refused = client.apply::<Value>(&path, "test", &stale).expect_err("a version of before");
    assert!(refused.is_conflict(), "{refused}");

    client.delete(&path).expect("it is there");
    assert!(client.delete(&path).is_err_and(|error| error.is_not_found()));
}

/// The list has 501 objects, which is more than a page of them.
#[test]
fn lists_come_whole_page_by_page_and_as_metadata_alone() {
    let lab = Homelab::new();
    let (client, namespace) = (client(&lab), lab.namespace());
    let maps = Resource::CONFIG_MAPS.in_namespace(namespace);
    for number in 0..501 {
        let body =
            json!({ "metadata": { "name": format!("m{number}"), "labels": { "of": "test" } }, "data": { "a": "b" } });
        client.create::<Value>(&maps, &body).expect("it is made");
    }
    let before = lab.requests().len();
    let query = ListQuery { label_selector: Some("of=test".into()), ..ListQuery::default() };
    let all: Vec<Value> = client.list(&maps, &query).expect("a list").items;
    assert_eq!(all.len(), 501);
    assert!(all.iter().all(|map| map["data"]["a"] == "b"));
    assert_eq!(lab.requests().len(), before + 2, "two pages");
    let names: std::collections::BTreeSet<String> = client
        .list_metadata(&maps, &query)
        .expect("a list")
        .items
        .into_iter()
        .map(|PartialObject { metadata }| metadata.name)
        .collect();
    assert_eq!(names.len(), 501);

    let unknown = ListQuery { field_selector: Some("data.a=b".into()), ..ListQuery::default() };
    let refused = client.list::<Value>(&maps, &unknown).expect_err("a refusal").to_string();
    assert!(refused.contains(": 400 BadRequest: "), "{refused}");
    // The server never gave this token. It refuses it as it refuses one that is too old, and a list begins again then.
    let gone = client.get::<Value>(&format!("{maps}?limit=1&continue=bm90LW91cnM")).expect_err("a refusal").to_string();
    assert!(gone.contains(": 400 ") || gone.contains(": 410 "), "{gone}");
}

/// An example of the crate, in the namespace of the lab. It is built first, however long that takes, and with the
/// features of the whole workspace, so that nothing is compiled a second time.
fn example(lab: &Homelab, name: &str) -> Command {
    let build = ["build", "--quiet", "--locked", "--offline", "--workspace", "--example", name];
    let built = Command::new(env!("CARGO")).current_dir(env!("CARGO_MANIFEST_DIR")).args(build).status();
    assert!(built.expect("cargo runs").success());

    let context = json!({ "cluster": "lab", "user": "lab", "namespace": lab.namespace() });
    let with_namespace = lab.directory().join("with-namespace.kubeconfig");
    let text = json!({ "contexts": [{ "name": "lab", "context": context }] }).to_string();
    std::fs::write(&with_namespace, text).expect("the lab's directory can be written");
    let mut command = Command::new(binary().with_file_name("examples").join(name));
    command.env("KUBECONFIG", format!("{}:{}", with_namespace.display(), lab.kubeconfig().display()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn the_program_of_its_readme_takes_a_finalizer_off() {
    const FINALIZER: &str = "example.com/finalizer";
    let lab = Homelab::new();
    let (client, namespace) = (client(&lab), lab.namespace());
    let claims = Resource { api: "/api/v1", plural: "persistentvolumeclaims" };
    for name in ["deleted", "in-use"] {
        let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } });
        let claim = json!({ "metadata": { "name": name, "finalizers": [FINALIZER] }, "spec": spec });
        client.create::<Value>(&claims.in_namespace(namespace), &claim).expect("it is made");
    }
    let (deleted, in_use) = (claims.named(namespace, "deleted"), claims.named(namespace, "in-use"));
    client.delete(&deleted).expect("it is there");

    let output = example(&lab, "unfinalize").arg(FINALIZER).output().expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains(&format!("{deleted}: done")) && !printed.contains(&in_use), "{printed}");
    wait_until("it is gone", DEADLINE, || client.get::<Value>(&deleted).is_err_and(|error| error.is_not_found()));
    let other: PartialObject = client.get(&in_use).expect("it is there");
    assert!(other.metadata.finalizers.contains(&FINALIZER.to_owned()));
}

/// The crate's example of an election, running as in a terminal.
struct Terminal {
    program: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Terminal {
    fn new(lab: &Homelab) -> Terminal {
        let mut program = example(lab, "election").spawn().expect("it runs");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, seen) = (program.stdout.take().expect("a pipe"), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                seen.lock().expect("no panic").push(line);
            }
        });
        Terminal { program, lines }
    }

    fn shows(&self, text: &str) -> bool {
        self.lines.lock().expect("no panic").iter().any(|line| line.contains(text))
    }

    fn press_enter(&mut self) {
        self.program.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The example ends when its standard input is closed.
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}

#[test]
fn its_example_elects_one_leader() {
    let lab = Homelab::new();
    let mut first = Terminal::new(&lab);
    wait_until("the first leads", DEADLINE, || first.shows("leading"));
    let second = Terminal::new(&lab);
    wait_until("the second waits", DEADLINE, || second.shows(" waits for "));
    assert!(!second.shows("leading"));
    first.press_enter();
    wait_until("the second leads", DEADLINE, || second.shows("leading"));
    assert!(first.program.wait().expect("it ends").success());
}
