//! All randomness of the process: it is passed in, so that a test can repeat what happened.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use ring::rand::{SecureRandom, SystemRandom};

use crate::tunnel::keys::{
    CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE, SERVER_KEY, SERVER_NAME, TOKEN, TunnelKeys,
};

/// A source of randomness.
pub trait Random: Send + Sync {
    /// A random byte.
    fn byte(&self) -> u8;

    /// New keys for the tunnel of this App.
    ///
    /// # Errors
    /// The system gives no randomness, or the clock is before 1970.
    fn tunnel_keys(&self, app: &str, now: SystemTime) -> Result<TunnelKeys, String>;
}

/// The system's own randomness.
pub struct System;

/// From a day ago: a Raspberry Pi has no clock at boot.
const VALID_BEFORE_NOW: Duration = Duration::from_secs(24 * 3600);
/// Ten years.
const VALID_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Random for System {
    fn byte(&self) -> u8 {
        let mut byte = [128];
        let _ = SystemRandom::new().fill(&mut byte); // without randomness: the middle
        byte[0]
    }

    fn tunnel_keys(&self, app: &str, now: SystemTime) -> Result<TunnelKeys, String> {
        let (server_certificate, server_key) = leaf(app, SERVER_NAME, now)?;
        let (client_certificate, client_key) = leaf(app, "frpc", now)?;
        let mut token = [0; 32];
        SystemRandom::new().fill(&mut token).map_err(|_| "the system gives no randomness")?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut entries = [
            (SERVER_CERTIFICATE, server_certificate),
            (SERVER_KEY, server_key),
            (CLIENT_CERTIFICATE, client_certificate),
            (CLIENT_KEY, client_key),
            (TOKEN, token),
        ]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>();
        TunnelKeys::read(|name| entries.remove(name)).ok_or_else(|| "a key was made empty".to_owned())
    }
}

/// A self-signed certificate that is nobody's CA, and its P-256 key: both PEM.
fn leaf(app: &str, name: &str, now: SystemTime) -> Result<(String, String), String> {
    let text = |error: rcgen::Error| format!("no certificate can be made: {error}");
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(text)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, app);
    params.not_before = (now - VALID_BEFORE_NOW).into();
    params.not_after = (now + VALID_FOR).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).map_err(text)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_and_differ_each_time() {
        let keys = System.tunnel_keys("app", SystemTime::now()).expect("keys");
        let read = TunnelKeys::read(|name| keys.entries().find(|(n, _)| *n == name).map(|(_, text)| text.to_owned()));
        assert_eq!(read.as_ref(), Some(&keys));
        let others = System.tunnel_keys("app", SystemTime::now()).expect("keys");
        assert_ne!(keys.fingerprint(), others.fingerprint());
        assert_ne!(keys.get(TOKEN), others.get(TOKEN));
        assert_eq!(keys.get(TOKEN).len(), 64);
        assert!(TunnelKeys::read(|name| (name != TOKEN).then(|| "x".into())).is_none());
        assert!(!format!("{keys:?}").contains(keys.get(TOKEN)));
    }
}
