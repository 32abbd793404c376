//! Every kubeconfig and every reply gives a value or an error: nothing panics, grows without limit, hangs or tells a
//! secret. A failure prints its seed, and `arbtest(…).seed(…)` repeats it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kube_client_lite::{Client, ClientOptions, ListQuery, PartialObject};
use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::{Directory, hasty_client, load};

/// The time for each property, in milliseconds.
const BUDGET: u64 = 2_000;

/// Calls `run` in a thread with a small stack, where a deep recursion shows.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(256 << 10).spawn(run).expect("a thread");
    thread.join().expect("no panic");
}

/// Changes a text in a few places: bytes are removed, added or replaced.
fn mutate(u: &mut Unstructured, text: &[u8], dictionary: &[&str]) -> Result<Vec<u8>> {
    let mut text = text.to_vec();
    for _ in 0..u.int_in_range(1..=4)? {
        let at = u.choose_index(text.len() + 1)?;
        let end = (at + u.int_in_range(0..=8)?).min(text.len());
        let new = match u.int_in_range(0..=3)? {
            0 => Vec::new(),
            1 => {
                let length = u.int_in_range(0..=2)?.min(u.len());
                u.bytes(length)?.to_vec()
            }
            2 => u.choose(dictionary)?.as_bytes().to_vec(),
            _ => u.choose(dictionary)?.repeat(u.int_in_range(0..=3_000)?).into_bytes(),
        };
        text.splice(at..end, new);
    }
    if u.ratio(1, 8)? {
        text.truncate(u.choose_index(text.len() + 1)?);
    }
    Ok(text)
}

const KUBECONFIGS: [&str; 3] = [
    "\
apiVersion: v1
kind: Config
current-context: test
contexts:
- name: test
  context: {cluster: k, user: u, namespace: shop}
clusters:
- name: k
  cluster: &cluster
    server: https://10.0.0.1:6443
    insecure-skip-tls-verify: true
- name: l
  cluster: {<<: *cluster, tls-server-name: kubernetes, proxy-url: 'http://10.0.0.2:3128'}
users:
- name: u
  user:
    token: sesame
    client-key-data: sesame
    client-certificate-data: sesame
",
    r#"{"kind": "Config", "apiVersion": "v1", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1", "extensions": [{"name": "x", "extension": [1, 2]}]}}],
        "users": [{"name": "u", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws",
            "args": ["eks", "sesame"], "env": [{"name": "KEY", "value": "sesame"}], "interactiveMode": "Never"}}}]}"#,
    "",
];

const YAML: [&str; 24] = [
    "[", "]", "{", "}", "- ", "? ", ": ", "\"", "'", "\n", " ", "\t", "#", "&a ", "*a", "<<: *a", "!!str ", "|", ">",
    "%", "~", "1e9", "---\n", "\u{feff}",
];

#[test]
fn any_kubeconfig_is_read_or_refused_by_name() {
    on_a_small_stack(|| {
        let directory = Directory::new();
        arbtest(|u| {
            let original = u.choose(&KUBECONFIGS)?.as_bytes();
            let text = mutate(u, original, &YAML)?;
            let file = directory.file("config", &text);
            let result = load(&file).and_then(|config| Client::new(config, &ClientOptions::new("test/1")));
            if let Err(error) = result {
                let message = error.to_string();
                assert!(message.contains(&file), "{message}");
                // A mutation may make a file's name of the secret: `client-key-data` becomes `client-key`.
                if !message.starts_with("cannot read the ") {
                    assert!(!message.contains("sesame"), "{message}");
                }
                // The message may quote text and escape it, so it may be longer than the text.
                assert!(message.len() < 2_000 + 10 * text.len(), "{message}");
            }
            Ok(())
        })
        .budget_ms(BUDGET);
    });
}

#[test]
fn any_nesting_is_read_or_refused() {
    on_a_small_stack(|| {
        let directory = Directory::new();
        arbtest(|u| {
            let mut text = String::new();
            for _ in 0..u.int_in_range(1..=5)? {
                text.push_str(&u.choose(&YAML)?.repeat(u.int_in_range(0..=20_000)?));
            }
            let file = directory.file("config", text);
            load(&file).expect_err("there is no context in it");
            Ok(())
        })
        .budget_ms(BUDGET);
    });
}

const REPLIES: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n\
     {\"metadata\":{\"continue\":\"\"},\"items\":[{\"metadata\":{\"name\":\"a\",\"labels\":{\"b\":\"c\"}},\"spec\":{\"x\":[1]}}]}",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n{\"metadata\":{},\"items\":null}\r\n0\r\n\r\n",
    "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\n{\"kind\":\"Status\",\"reason\":\"x\",\"details\":{\"retryAfterSeconds\":3}}",
    "HTTP/1.1 410 Gone\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
];

const HTTP: [&str; 20] = [
    "\r\n",
    "\n",
    " ",
    "0",
    "-1",
    "ffffffffffffffff",
    "18446744073709551616",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "\\u0000",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "1e999",
];

#[test]
fn any_reply_is_a_value_or_an_error() {
    let patience = Duration::from_secs(10);
    let reply = Arc::new(Mutex::new(Vec::new()));
    let given = reply.clone();
    let server = Server::start(move |_, _| Answer::Raw(given.lock().expect("no panic").clone()));
    let client = hasty_client(&server, patience);
    on_a_small_stack(move || {
        arbtest(|u| {
            let original = u.choose(&REPLIES)?.as_bytes();
            *reply.lock().expect("no panic") = mutate(u, original, &HTTP)?;
            let started = Instant::now();
            let _ = client.list::<PartialObject>("/api/v1/services", &ListQuery::default());
            if let Err(error) = client.get::<Value>("/version") {
                assert!(error.to_string().len() < 20_000, "{error}");
                let _ = error.retry_after();
            }
            // There are up to four requests, one after the other: a list may begin three times.
            assert!(started.elapsed() < 4 * patience, "{:?}", started.elapsed());
            Ok(())
        })
        .budget_ms(BUDGET);
    });
}
