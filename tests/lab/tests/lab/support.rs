//! Helpers that the tests of the cluster share.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, Kube};
use serde_json::{Value, json};

/// A generous deadline, because other tests and other builds may keep the machine busy. It is longer than the 90 s that a control plane may
/// take to start.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A namespace that one test has for itself in a cluster. It is deleted when dropped.
pub struct Namespace<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl Namespace<'static> {
    /// A new namespace in the cluster that all tests share.
    pub fn shared() -> Namespace<'static> {
        Namespace::of(Cluster::shared())
    }
}

impl<'a> Namespace<'a> {
    pub fn of(cluster: &'a Cluster) -> Namespace<'a> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.create_namespace(&name);
        Namespace { cluster, name }
    }

    pub fn kube(&self) -> Kube {
        self.cluster.kube()
    }

    /// The path of a collection of the core API, such as `pods`, or of an object in it, `pods/web`.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.name)
    }

    /// Creates an object of the core API in a collection.
    pub fn create(&self, collection: &str, object: Value) -> Value {
        self.kube().create(&self.path(collection), &object).expect("the object is valid")
    }

    /// Creates a pod with one container, `main`, and other fields of the spec.
    pub fn pod(&self, name: &str, container: Value, mut spec: Value) {
        let mut main = json!({"name": "main"});
        extend(&mut main, container);
        spec["containers"] = json!([main]);
        self.create("pods", json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}));
    }

    pub fn wait_pod(&self, name: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        self.kube().wait_until(&self.path(&format!("pods/{name}")), DEADLINE, |pod| pod.is_some_and(&predicate))
    }

    pub fn wait_gone(&self, path: &str) {
        self.kube().wait_until(&self.path(path), DEADLINE, |object| object.is_none());
    }

    /// Waits until a container of this pod has written a text.
    #[track_caller]
    pub fn wait_log(&self, pod: &str, text: &str) {
        let log = || self.cluster.pod_log(&self.name, pod);
        wait_for(|| log().contains(text).then_some(()), || format!("{text:?} in the log:\n{}", log()));
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self.kube().delete(&format!("/api/v1/namespaces/{}", self.name));
    }
}

fn extend(object: &mut Value, with: Value) {
    let (Some(object), Value::Object(with)) = (object.as_object_mut(), with) else { return };
    object.extend(with);
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The state of a pod's first container.
pub fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

/// Looks again and again until `look` finds something, and gives that.
#[track_caller]
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "after {DEADLINE:?} there is no {}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of an answer to a GET, or `None` if nobody answers in a third of the deadline. So a test that looks again
/// and again outlives a request that hangs.
pub fn http_get(address: SocketAddr) -> Option<String> {
    let limit = DEADLINE / 3;
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
