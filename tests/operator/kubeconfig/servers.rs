//! Kubeconfigs that say in different ways where the cluster is and how it proves its identity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Row;
use super::Verdict::{Both, KubectlOnly, Neither};
use super::files::Files;

pub fn rows(files: &Files) -> Vec<Row> {
    let with = |settings: Value| files.kubeconfig_with(settings);
    let base64 = |name: &str| STANDARD.encode(files.read(name));
    let elsewhere = files.elsewhere();
    let proxy = format!("http://{}", files.proxy().address());
    let only = |name: &str, value: Value| json!({"certificate-authority": null, name: value});
    vec![
        Row::new(
            "the authority in the file itself",
            with(only("certificate-authority-data", base64("ca.crt").into())),
            Both("admin"),
        ),
        Row::new(
            "an authority that is not the cluster's",
            with(json!({"certificate-authority": "stranger.crt"})),
            Neither("ertificate"),
        ),
        Row::new("an authority that is missing", with(json!({"certificate-authority": "nowhere"})), Neither("nowhere")),
        Row::new("no authority", with(json!({"certificate-authority": null})), Neither("ertificate")),
        Row::new("two authorities", with(json!({"certificate-authority-data": base64("ca.crt")})), Neither("both set")),
        Row::new("any server", with(only("insecure-skip-tls-verify", true.into())), Both("admin")),
        Row::new("any server, and an authority", with(json!({"insecure-skip-tls-verify": true})), Neither("both set")),
        Row::new("an address that the certificate has not", with(json!({"server": elsewhere})), Neither("ertificate")),
        Row::new(
            "a name that it has",
            with(json!({"server": elsewhere, "tls-server-name": "kubernetes.default"})),
            Both("admin"),
        ),
        Row::new(
            "an address that it has",
            with(json!({"server": elsewhere, "tls-server-name": "127.0.0.1"})),
            Both("admin"),
        ),
        Row::new(
            "a name that it has not",
            with(json!({"server": elsewhere, "tls-server-name": "kubernetes.example"})),
            Neither("ertificate"),
        ),
        Row::new("a proxy", with(json!({"proxy-url": proxy})), Both("admin")),
        Row::new(
            "a proxy, and a name",
            with(json!({"server": elsewhere, "proxy-url": proxy, "tls-server-name": "kubernetes"})),
            Both("admin"),
        ),
        Row::new("a proxy that nobody runs", with(json!({"proxy-url": "http://127.0.0.1:1"})), Neither("onnect")),
        Row::new(
            "a SOCKS proxy",
            with(json!({"proxy-url": format!("socks5://{}", files.socks().address())})),
            KubectlOnly("admin", "proxy-url"),
        ),
        Row::new("a proxy that is none", with(json!({"proxy-url": "gopher://127.0.0.1:1"})), Neither("proxy-url")),
        Row::new(
            "a server with a slash",
            with(json!({"server": format!("https://{}/", files.api_server())})),
            Both("admin"),
        ),
        Row::new("a server without a scheme", with(json!({"server": files.api_server().to_string()})), Neither("400")),
        Row::new("no server", with(json!({"server": ""})), Neither("no server")),
        Row::new("a server that nobody runs", with(json!({"server": "https://127.0.0.1:1"})), Neither("onnection")),
        Row::new(
            "settings that nobody knows",
            with(json!({
                "colour": "green", "disable-compression": true,
                "extensions": [{"name": "minikube.sigs.k8s.io", "extension": {"a": 1}}],
            })),
            Both("admin"),
        ),
    ]
}
