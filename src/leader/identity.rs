//! The name of this process in the Lease.
//!
//! A container that is restarted in its pod follows a process that is dead, so it has that process's name, and takes the Lease of its
//! own pod without waiting. The token of the pod's ServiceAccount tells which pod that is. Every other process has a name that
//! nobody else has.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use crate::tunnel::hash::hash;

/// The claims of a token that the kubelet mounted, as far as they tell of the pod.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: PrivateClaims,
}

#[derive(Deserialize)]
struct PrivateClaims {
    pod: Pod,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
}

/// The identity of the process that serves in the pod of this token, or one that no other process has.
pub fn identity(token: Option<&str>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let unique = token.and_then(pod_uid).unwrap_or_else(random);
    match host.trim() {
        "" => format!("fly-tunnel-operator_{unique}"),
        host => format!("{host}_{unique}"),
    }
}

/// The UID of the pod that a token is for; `None` for a token that says nothing of a pod. Nobody has to verify it: whoever mounts a wrong
/// one hurts himself alone, as the API server refuses it.
fn pod_uid(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(claims.kubernetes.pod.uid).filter(|uid| !uid.is_empty())
}

fn random() -> String {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).expect("the system has randomness: TLS needs it, too");
    hash(&[&u64::from_le_bytes(random).to_string()], 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_pod_keeps_its_identity_and_nobody_else_has_it() {
        let ours = token(r#"{"iss":"x","kubernetes.io":{"namespace":"n","pod":{"name":"p","uid":"u-1"}}}"#);
        assert!(identity(Some(&ours)).ends_with("_u-1"));
        assert_eq!(identity(Some(&ours)), identity(Some(&ours)));
        for other in [
            None,
            Some(token(r#"{"kubernetes.io":{"namespace":"n"}}"#)),
            Some(token(r#"{"kubernetes.io":{"pod":{"uid":""}}}"#)),
            Some("no JWT".to_owned()),
        ] {
            assert_ne!(identity(other.as_deref()), identity(other.as_deref()), "{other:?}");
        }
    }
}
