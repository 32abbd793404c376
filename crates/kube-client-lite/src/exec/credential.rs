//! The `ExecCredential` of client.authentication.k8s.io: a plugin is given one, and prints one.
//!
//! The one that it prints is secret, so no message shows any of it.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use crate::config::document;
use crate::login::{ClientCertificate, Login, Secret};
use crate::tls::{ClientIdentity, IdentityFiles};

/// The versions of the protocol: kubectl knows the same.
pub(crate) const API_VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

const KIND: &str = "ExecCredential";

/// The facts of the cluster that a plugin with `provideClusterInfo` is given.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ClusterInfo {
    pub server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_server_name: String,
    #[serde(skip_serializing_if = "is_false")]
    pub insecure_skip_tls_verify: bool,
    /// The authorities of the server, as base64 of PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate_authority_data: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_url: String,
    #[serde(skip_serializing_if = "is_false")]
    pub disable_compression: bool,
    /// The extension `client.authentication.k8s.io/exec` of the cluster, or null.
    pub config: Value,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The value of the variable `KUBERNETES_EXEC_INFO`, as client-go writes it.
pub(super) fn info(api_version: &str, cluster: Option<&ClusterInfo>) -> String {
    #[derive(Serialize)]
    struct Spec<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster: Option<&'a ClusterInfo>,
        interactive: bool,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Info<'a> {
        kind: &'static str,
        api_version: &'a str,
        spec: Spec<'a>,
    }
    let info = Info { kind: KIND, api_version, spec: Spec { cluster, interactive: false } };
    // It has texts, flags and a Value in it, and all of them can be written as JSON.
    serde_json::to_string(&info).unwrap_or_default()
}

/// The login that a plugin printed.
pub(super) struct Printed {
    pub login: Login,
    /// The time when it expires; `None`: it is good until the server refuses it.
    pub expires: Option<SystemTime>,
}

/// Reads the output of a plugin.
///
/// # Errors
/// A message that goes on after "the plugin …".
pub(super) fn parse(stdout: &[u8], api_version: &str) -> Result<Printed, String> {
    let neither = || "printed what is neither JSON nor YAML".to_owned();
    let text = std::str::from_utf8(stdout).map_err(|_| neither())?;
    let value = document::parse(text).map_err(|_| neither())?;
    if value["kind"] != KIND {
        return Err(format!("printed what is no {KIND}"));
    }
    match value["apiVersion"].as_str() {
        Some(printed) if printed == api_version => {}
        Some(printed) if API_VERSIONS.contains(&printed) => {
            return Err(format!("printed an {KIND} of {printed}, where the kubeconfig says {api_version}"));
        }
        _ => return Err(format!("printed an {KIND} of another apiVersion than {api_version}")),
    }
    let Value::Object(_) = &value["status"] else { return Err(format!("printed an {KIND} without a status")) };
    let field = |name: &str| match &value["status"][name] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        _ => Err(format!("printed a status.{name} that is no text")),
    };
    let client = match (field("clientCertificateData")?, field("clientKeyData")?) {
        ("", "") => None,
        ("", _) => return Err("printed a clientKeyData without a clientCertificateData".to_owned()),
        (_, "") => return Err("printed a clientCertificateData without a clientKeyData".to_owned()),
        (certificates, key) => {
            let identity =
                ClientIdentity { certificates: certificates.into(), key: key.into(), files: IdentityFiles::default() };
            let certificate = ClientCertificate::new(&identity);
            Some(certificate.map_err(|error| format!("printed a certificate that cannot be used: {error}"))?)
        }
    };
    let token = Some(field("token")?).filter(|token| !token.is_empty());
    if token.is_some_and(|token| ureq::http::HeaderValue::from_str(token).is_err()) {
        return Err("printed a token that cannot be sent in a header".to_owned());
    }
    if token.is_none() && client.is_none() {
        return Err("printed neither a token nor a certificate".to_owned());
    }
    let expires = match field("expirationTimestamp")? {
        // The second one is Go's zero time, which plugins in Go print where they have none.
        "" | "0001-01-01T00:00:00Z" => None,
        time => Some(rfc3339(time).ok_or("printed an expirationTimestamp that is no RFC 3339 time")?),
    };
    Ok(Printed { login: Login { token: token.map(Secret::new), client }, expires })
}

/// Reads a time with any offset: `2026-01-01T00:00:00Z`, `2026-01-01T02:00:00.5+02:00`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let split = text.len().checked_sub("+02:00".len())?;
    let Some((local, offset)) = text.split_at_checked(split).filter(|(_, offset)| offset.starts_with(['+', '-']))
    else {
        return humantime::parse_rfc3339(text).ok();
    };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let offset_size = Duration::from_secs(seconds);
    if offset.starts_with('+') { local.checked_sub(offset_size) } else { local.checked_add(offset_size) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const V1: &str = API_VERSIONS[0];

    fn refusal(value: &Value) -> String {
        parse(value.to_string().as_bytes(), V1).err().expect("a refusal")
    }

    #[test]
    fn a_plugin_is_given_the_same_as_by_client_go() {
        assert_eq!(
            info(V1, None),
            r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#
        );
    }

    #[test]
    fn times_may_have_any_offset() {
        let utc = rfc3339("2026-01-01T00:00:00Z").expect("a time");
        assert_eq!(rfc3339("2026-01-01T02:30:00+02:30"), Some(utc));
        assert_eq!(rfc3339("2025-12-31T19:00:00-05:00"), Some(utc));
        assert_eq!(rfc3339("2026-01-01T00:00:00.000Z"), Some(utc));
        for text in ["", "now", "2026-01-01", "2026-01-01T00:00:00+0200", "2026-01-01T00:00:00+aa:bb", "é2026-01"] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_kept_until_they_expire() {
        let told = |status: Value| {
            let text = json!({"kind": KIND, "apiVersion": V1, "status": status}).to_string();
            parse(text.as_bytes(), V1).unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        let time = "2026-01-01T00:00:00Z";
        let with_end = told(json!({"token": "sesame", "expirationTimestamp": time}));
        assert_eq!(with_end.expires, rfc3339(time));
        assert_eq!(with_end.login.token.map(|token| token.reveal().to_owned()).as_deref(), Some("sesame"));
        for end in [Value::Null, "0001-01-01T00:00:00Z".into()] {
            assert_eq!(told(json!({"token": "sesame", "expirationTimestamp": end})).expires, None);
        }
    }

    /// Any output makes a login or a message, and there is no secret in the message.
    #[test]
    fn any_output_is_a_login_or_an_error() {
        let whole = json!({
            "kind": KIND, "apiVersion": V1,
            "status": {"token": "sesame", "expirationTimestamp": "2026-01-01T00:00:00+02:00", "clientKeyData": ""},
        });
        let whole = whole.to_string().into_bytes();
        arbtest::arbtest(|u| {
            let mut printed = whole.clone();
            for _ in 0..u.int_in_range(1..=3)? {
                let at = u.choose_index(printed.len() + 1)?;
                let end = (at + u.int_in_range(0..=6)?).min(printed.len());
                let length = u.int_in_range(0..=4)?.min(u.len());
                let new = u.bytes(length)?.to_vec();
                printed.splice(at..end, new);
            }
            if let Err(message) = parse(&printed, V1) {
                assert!(!message.contains("sesame"), "{message}");
            }
            Ok(())
        })
        .budget_ms(1_000);
    }

    #[test]
    fn a_message_does_not_show_the_output() {
        let with = |status: Value| json!({"kind": KIND, "apiVersion": V1, "status": status});
        for (printed, told) in [
            (json!("sesame"), "no ExecCredential"),
            (json!({"kind": "sesame", "apiVersion": V1}), "no ExecCredential"),
            (json!({"kind": KIND, "apiVersion": API_VERSIONS[1]}), API_VERSIONS[1]),
            (json!({"kind": KIND, "apiVersion": "sesame"}), "another apiVersion"),
            (json!({"kind": KIND, "apiVersion": V1}), "without a status"),
            (with("sesame".into()), "without a status"),
            (with(json!({})), "neither a token nor a certificate"),
            (with(json!({"token": ["sesame"]})), "status.token that is no text"),
            (with(json!({"token": "se\nsame"})), "in a header"),
            (with(json!({"clientKeyData": "sesame"})), "without a clientCertificateData"),
            (with(json!({"clientCertificateData": "sesame"})), "without a clientKeyData"),
            (with(json!({"clientCertificateData": "sesame", "clientKeyData": "sesame"})), "cannot be used"),
            (with(json!({"token": "x", "expirationTimestamp": "sesame"})), "RFC 3339"),
        ] {
            let message = refusal(&printed);
            assert!(message.contains(told), "{printed}: {message}");
            assert!(!message.contains("sesame"), "{message}");
        }
        for text in [&b"{\"sesame"[..], b"sesame: [", b"\xff\xfe"] {
            let message = parse(text, V1).err().expect("a refusal");
            assert!(message.contains("neither JSON nor YAML"), "{message}");
        }
    }
}
