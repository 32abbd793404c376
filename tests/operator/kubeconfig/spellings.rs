//! Kubeconfigs that spell the same thing in different ways.

use serde_json::json;

use super::Row;
use super::Verdict::{Both, Neither};
use super::files::Files;

pub fn rows(files: &Files) -> Vec<Row> {
    let (server, token) = (format!("https://{}", files.api_server()), files.admin_token());
    let insecure = |flag: &str| {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: '{server}', insecure-skip-tls-verify: {flag}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        )
    };
    let named = |name: &str| {
        insecure("true").replace("name: u,", &format!("name: {name},")).replace("user: u}", &format!("user: {name}}}"))
    };
    let with_tabs =
        serde_json::to_string_pretty(&files.kubeconfig(&json!({"token": token}))).expect("JSON").replace("  ", "\t");
    vec![
        Row::new("JSON with tabs", with_tabs, Both("admin")),
        Row::new(
            "JSON with a name that is a number",
            files.kubeconfig(&json!({})).to_string().replace("\"u\"", "7"),
            Neither("expected a string"),
        ),
        Row::new(
            "YAML with comments, anchors and aliases",
            format!(
                "# written by hand\n---\napiVersion: v1\nkind: Config\ncurrent-context: &c c # this one\n\
                 contexts:\n- name: *c\n  context:\n    cluster: k\n    user: &user \"u\"\n\
                 clusters:\n- name: k\n  cluster: &cluster\n    server: >-\n      {server}\n\
                 \x20   certificate-authority: ca.crt\n\
                 - name: l\n  cluster: *cluster\n\
                 users:\n- name: *user\n  user:\n    token: '{token}'\npreferences: {{}}\n"
            ),
            Both("admin"),
        ),
        Row::new(
            "YAML with a merge key",
            format!(
                "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
                 clusters:\n- name: base\n  cluster: &base\n    server: https://127.0.0.1:1\n\
                 \x20   certificate-authority: ca.crt\n\
                 - name: k\n  cluster:\n    <<: *base\n    server: {server}\n\
                 users: [{{name: u, user: {{token: {token}}}}}]\n"
            ),
            Both("admin"),
        ),
        Row::new("true", insecure("true"), Both("admin")),
        Row::new("True", insecure("True"), Both("admin")),
        Row::new("yes", insecure("yes"), Both("admin")),
        Row::new("on", insecure("on"), Both("admin")),
        Row::new("y", insecure("y"), Both("admin")),
        Row::new("a flag in quotes", insecure("'true'"), Neither("expected a boolean")),
        Row::new("a flag that is a number", insecure("1"), Neither("expected a boolean")),
        Row::new("a name that is a number", named("7"), Neither("expected a string")),
        Row::new("a name that is a fraction", named("1.5"), Neither("expected a string")),
        Row::new("a name that is yes", named("yes"), Neither("expected a string")),
        Row::new("a name that is a date", named("2026-01-01"), Both("admin")),
        Row::new("a name that is a version", named("1.2.3"), Both("admin")),
        Row::new("a name in hexadecimal", named("0x1f"), Neither("expected a string")),
        Row::new("a name with underscores", named("1_000"), Neither("expected a string")),
        Row::new("a name that is octal", named("0777"), Neither("expected a string")),
        Row::new("a name that is a number in quotes", named("'7'"), Both("admin")),
        Row::new("a name that is tagged as a text", named("!!str 7"), Both("admin")),
        Row::new("a key twice", insecure("true, insecure-skip-tls-verify: true"), Both("admin")),
        Row::new("a key in capitals", insecure("true").replace("token:", "Token:"), Neither("403")),
        Row::new("several documents", format!("{}---\nkind: Pod\n", insecure("true")), Both("admin")),
        Row::new("another kind", format!("kind: Pod\napiVersion: v1\n{}", insecure("true")), Neither("is a v1 Pod")),
        Row::new(
            "another version",
            format!("kind: Config\napiVersion: v2\n{}", insecure("true")),
            Neither("is a v2 Config"),
        ),
        Row::new("Windows line ends", insecure("true").replace('\n', "\r\n"), Both("admin")),
        Row::new("a byte order mark", format!("\u{feff}{}", insecure("true")), Both("admin")),
        Row::new("a list", "- a\n", Neither("0.config")),
    ]
}
