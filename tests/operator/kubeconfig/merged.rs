//! Kubeconfigs of several files or with several contexts.

use serde_json::json;

use super::Verdict::{Both, Neither};
use super::files::Files;
use super::{MISSING, Row};

pub fn rows(files: &Files) -> Vec<Row> {
    let admin = files.kubeconfig(&json!({"token": files.admin_token()}));
    let wrong = files.kubeconfig(&json!({"token": "wrong"}));
    let sec1 = json!({"users": [{"name": "u", "user": {"client-certificate": "sec1.crt", "client-key": "sec1.key"}}]});
    let current = |name: &str| json!({"current-context": name});
    let contexts = json!({
        "contexts": [
            {"name": "other", "context": {"cluster": "k", "user": "other", "namespace": "shop"}},
            {"name": "c", "context": {"cluster": "k", "user": "nobody"}},
        ],
        "users": [{"name": "other", "user": {"client-certificate": "pkcs8.crt", "client-key": "pkcs8.key"}}],
    });
    let twice = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": files.cluster()}],
        "users": [{"name": "u", "user": {"token": files.admin_token()}}, {"name": "u", "user": {"token": "wrong"}}],
    });
    vec![
        Row::of_files("the first file wins", &[&admin, &wrong], Both("admin")),
        Row::of_files("the first file wins, also when it is wrong", &[&wrong, &admin], Neither("401")),
        Row::of_files("a user of the first, the rest of the second", &[&sec1, &admin], Both("sec1-user")),
        Row::of_files(
            "an entry is not mended by a later one",
            &[&json!({"users": [{"name": "u", "user": {}}]}), &admin],
            Neither("403"),
        ),
        Row::of_files("a context of a later file", &[&admin, &contexts], Both("pkcs8-user")).with_context("other"),
        Row::of_files(
            "the current-context of the first file that has one",
            &[&current(""), &current("other"), &admin, &contexts],
            Both("pkcs8-user"),
        ),
        Row::of_files("a missing file among several", &[&MISSING, &admin], Both("admin")),
        Row::of_files("an empty file among several", &[&"", &admin], Both("admin")),
        Row::of_files("a file that is no kubeconfig among several", &[&admin, &"a: ["], Neither("1.config")),
        Row::of_files("no file at all", &[&MISSING], Neither("/nowhere/config does not exist")),
        Row::new("an empty file", "", Neither("no current-context")),
        Row::new("a context that is missing", &admin, Neither("no context \"missing\"")).with_context("missing"),
        Row::new("a user that is missing", &contexts, Neither("no cluster")).with_context("other"),
        Row::of_files("no current-context", &[&current(""), &contexts], Neither("no current-context")),
        Row::new("a user twice", twice, Neither("\"u\" twice")),
    ]
}
