//! Kubeconfigs that say who the user is without a plugin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Row;
use super::Verdict::{Both, KubectlOnly, Neither};
use super::files::Files;

pub fn rows(files: &Files) -> Vec<Row> {
    let with = |user: Value| files.kubeconfig(&user);
    let base64 = |name: &str| STANDARD.encode(files.read(name));
    let certificate =
        |kind: &str| json!({"client-certificate": format!("{kind}.crt"), "client-key": format!("{kind}.key")});
    let token = files.admin_token();
    vec![
        Row::new("a token", with(json!({"token": token})), Both("admin")),
        Row::new("a token in a file", with(json!({"tokenFile": "token"})), Both("admin")),
        Row::new("a token in a file that is missing", with(json!({"tokenFile": "nowhere"})), Neither("nowhere")),
        Row::new(
            "a token, and a file that is missing",
            with(json!({"token": token, "tokenFile": "nowhere"})),
            Both("admin"),
        ),
        Row::new("a wrong token, and a file", with(json!({"token": "wrong", "tokenFile": "token"})), Both("admin")),
        Row::new("a wrong token", with(json!({"token": "wrong"})), Neither("401 Unauthorized")),
        Row::new("nobody", with(json!({})), Neither("403 Forbidden")),
        Row::new("a certificate, PKCS#8", with(certificate("pkcs8")), Both("pkcs8-user")),
        Row::new("a certificate, PKCS#1", with(certificate("pkcs1")), Both("pkcs1-user")),
        Row::new("a certificate, SEC1", with(certificate("sec1")), Both("sec1-user")),
        Row::new(
            "a certificate in the file itself",
            with(json!({
                "client-certificate-data": base64("sec1.crt"), "client-key-data": base64("sec1.key"),
            })),
            Both("sec1-user"),
        ),
        Row::new(
            "a certificate in a file, its key not",
            with(json!({"client-certificate": "sec1.crt", "client-key-data": base64("sec1.key")})),
            Both("sec1-user"),
        ),
        Row::new(
            "a certificate and a token",
            with(json!({"client-certificate": "sec1.crt", "client-key": "sec1.key", "token": token})),
            Both("sec1-user"),
        ),
        Row::new(
            "a certificate of nobody known",
            with(json!({"client-certificate": "stranger.crt", "client-key": "stranger.key"})),
            Neither("401 Unauthorized"),
        ),
        Row::new(
            "a key of another certificate",
            with(json!({"client-certificate": "sec1.crt", "client-key": "pkcs8.key"})),
            Neither("cannot be used together"),
        ),
        Row::new(
            "a certificate without key",
            with(json!({"client-certificate": "sec1.crt"})),
            Neither("no client-key"),
        ),
        Row::new(
            "a certificate that is missing",
            with(json!({"client-certificate": "nowhere", "client-key": "sec1.key"})),
            Neither("nowhere"),
        ),
        Row::new(
            "a certificate twice",
            with(json!({
                "client-certificate": "sec1.crt", "client-certificate-data": base64("sec1.crt"),
                "client-key": "sec1.key",
            })),
            Neither("both set"),
        ),
        Row::new("a password", with(json!({"username": "joe", "password": "sesame"})), Neither("username")),
        Row::new(
            "a provider",
            with(json!({"auth-provider": {"name": "oidc", "config": {"id-token": "x"}}})),
            Neither("auth-provider"),
        ),
        Row::new("impersonation", with(json!({"token": token, "as": "jane"})), KubectlOnly("jane", "as of user")),
        Row::new(
            "impersonation with groups",
            with(json!({"token": token, "as": "jane", "as-groups": ["testers"]})),
            KubectlOnly("jane", "as of user"),
        ),
        Row::new("impersonation of nobody", with(json!({"token": token, "as": ""})), Both("admin")),
        Row::new(
            "groups without a user",
            with(json!({"token": token, "as-groups": ["testers"]})),
            Neither("as-groups"),
        ),
    ]
}
