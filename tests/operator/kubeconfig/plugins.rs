//! Kubeconfigs whose user gets credentials from a plugin.

use serde_json::{Value, json};

use super::Row;
use super::Verdict::{Both, Neither};
use super::files::{Files, exec_credential};

pub fn rows(files: &Files) -> Vec<Row> {
    let with = |exec: Value| files.kubeconfig(&json!({ "exec": exec }));
    let v1 = "client.authentication.k8s.io/v1";
    let v1beta1 = "client.authentication.k8s.io/v1beta1";
    let cat = |version: &str, file: &str| json!({"apiVersion": version, "interactiveMode": "Never", "command": "cat", "args": [file]});
    let printed = |name: &str, text: Value| cat(v1, &files.write(&format!("{name}.printed"), text.to_string()));
    let token = files.admin_token();
    let tokens = |version: &str| exec_credential(version, json!({ "token": token }));
    let good = printed("good", tokens(v1));
    let changed = |field: &str, value: Value| {
        let mut exec = good.clone();
        exec[field] = value;
        exec
    };
    let certificate = |kind: &str| {
        let [certificate, key] = ["crt", "key"].map(|part| files.read(&format!("{kind}.{part}")));
        json!({"clientCertificateData": certificate, "clientKeyData": key})
    };
    let script =
        "printf '{\"kind\":\"ExecCredential\",\"apiVersion\":\"%s\",\"status\":{\"token\":\"%s\"}}' \"$1\" \"$TOKEN\"";
    let mut of_beta = cat(v1beta1, &files.write("beta.printed", tokens(v1beta1).to_string()));
    of_beta.as_object_mut().expect("an object").remove("interactiveMode");
    let mut without_mode = good.clone();
    without_mode.as_object_mut().expect("an object").remove("interactiveMode");
    vec![
        Row::new("a plugin", with(good.clone()), Both("admin")),
        Row::new("a plugin of v1beta1, which needs no mode", with(of_beta), Both("admin")),
        Row::new("a plugin of v1 without a mode", with(without_mode), Neither("interactiveMode")),
        Row::new("a plugin that may ask", with(changed("interactiveMode", "IfAvailable".into())), Both("admin")),
        Row::new("a plugin that must ask", with(changed("interactiveMode", "Always".into())), Neither("no terminal")),
        Row::new("an unknown mode", with(changed("interactiveMode", "Maybe".into())), Neither("\"Maybe\"")),
        Row::new("a plugin of v1alpha1", with(cat("client.authentication.k8s.io/v1alpha1", "x")), Neither("v1alpha1")),
        Row::new("a plugin without a version", with(changed("apiVersion", "".into())), Neither("apiVersion")),
        Row::new("a plugin without a command", with(changed("command", "".into())), Neither("no command")),
        Row::new(
            "a plugin with arguments and variables",
            with(json!({
                "apiVersion": v1, "interactiveMode": "Never", "command": "sh", "args": ["-c", script, "name", v1],
                "env": [{"name": "TOKEN", "value": token}],
            })),
            Both("admin"),
        ),
        Row::new("a variable without a name", with(changed("env", json!([{"value": "x"}]))), Neither("without a name")),
        Row::new("an argument that is a number", with(changed("args", json!([5]))), Neither("expected a string")),
        Row::new("a plugin beside its kubeconfig", with(changed("command", "./bin/plugin".into())), Both("admin")),
        Row::new("a plugin below its kubeconfig", with(changed("command", "bin/plugin".into())), Both("admin")),
        Row::new("a plugin that is not in PATH", with(changed("command", "plugin".into())), Neither("not in PATH")),
        Row::new("a plugin that is nowhere", with(changed("command", "./plugin".into())), Neither("cannot be run")),
        Row::new("a plugin that fails", with(changed("command", "false".into())), Neither("failed: exit status: 1")),
        Row::new("a plugin that prints nothing", with(changed("command", "true".into())), Neither("no ExecCredential")),
        Row::new("a plugin that prints rubbish", with(printed("rubbish", "{".into())), Neither("no ExecCredential")),
        Row::new("another version", with(printed("another", tokens(v1beta1))), Neither("v1beta1, where")),
        Row::new(
            "another kind",
            with(printed("kind", json!({"kind": "Status", "apiVersion": "v1"}))),
            Neither("no Exec"),
        ),
        Row::new("no kind", with(printed("unkind", json!({"status": {"token": token}}))), Neither("no ExecCredential")),
        Row::new(
            "no status",
            with(printed("stateless", json!({"kind": "ExecCredential", "apiVersion": v1}))),
            Neither("without a status"),
        ),
        Row::new("no login", with(printed("empty", exec_credential(v1, json!({})))), Neither("neither a token nor")),
        Row::new(
            "a login that has expired",
            with(printed(
                "expired",
                exec_credential(v1, json!({"token": token, "expirationTimestamp": "2020-01-01T00:00:00Z"})),
            )),
            Both("admin"),
        ),
        Row::new(
            "a login that expires in another time zone",
            with(printed(
                "zone",
                exec_credential(v1, json!({"token": token, "expirationTimestamp": "2120-01-01T00:00:00.5+05:30"})),
            )),
            Both("admin"),
        ),
        Row::new(
            "a login that expires some day",
            with(printed("someday", exec_credential(v1, json!({"token": token, "expirationTimestamp": "some day"})))),
            Neither("RFC 3339"),
        ),
        Row::new(
            "a token that is a number",
            with(printed("number", exec_credential(v1, json!({"token": 5})))),
            Neither("no text"),
        ),
        Row::new(
            "a certificate from a plugin",
            with(printed("sec1", exec_credential(v1, certificate("sec1")))),
            Both("sec1-user"),
        ),
        Row::new(
            "an RSA certificate from a plugin",
            with(printed("pkcs1", exec_credential(v1, certificate("pkcs1")))),
            Both("pkcs1-user"),
        ),
        Row::new(
            "a certificate without key from a plugin",
            with(printed("keyless", exec_credential(v1, json!({"clientCertificateData": files.read("sec1.crt")})))),
            Neither("without a clientKeyData"),
        ),
        Row::new(
            "a key of another certificate from a plugin",
            with(printed(
                "mixed",
                exec_credential(
                    v1,
                    json!({"clientCertificateData": files.read("sec1.crt"), "clientKeyData": files.read("pkcs8.key")}),
                ),
            )),
            Neither("cannot be used together"),
        ),
        Row::new(
            "a plugin that prints YAML",
            with(cat(
                v1,
                &files.write(
                    "yaml.printed",
                    format!("kind: ExecCredential\napiVersion: {v1}\nstatus:\n  token: {token}\n"),
                ),
            )),
            Both("admin"),
        ),
        Row::new(
            "a token, and a plugin that fails",
            files.kubeconfig(&json!({"token": token, "exec": changed("command", "false".into())})),
            Both("admin"),
        ),
        Row::new(
            "a certificate, and a plugin that fails",
            files.kubeconfig(&json!({
                "client-certificate": "sec1.crt", "client-key": "sec1.key", "exec": changed("command", "false".into()),
            })),
            Both("sec1-user"),
        ),
    ]
}
