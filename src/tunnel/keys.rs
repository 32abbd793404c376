//! The keys of a tunnel: two key pairs, each side pinning the other's self-signed certificate, and a token.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use ring::rand::{SecureRandom, SystemRandom};

use super::names;

/// From a day ago: a Raspberry Pi has no clock at boot.
const VALID_BEFORE_NOW: Duration = Duration::from_secs(24 * 3600);
/// Ten years.
const VALID_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// In frps' certificate, and what frpc expects there.
pub const SERVER_NAME: &str = "frps";

/// Names of the entries in the Secret, and of the files that they become.
pub const SERVER_CERTIFICATE: &str = "frps.crt";
pub const SERVER_KEY: &str = "frps.key";
pub const CLIENT_CERTIFICATE: &str = "frpc.crt";
pub const CLIENT_KEY: &str = "frpc.key";
pub const TOKEN: &str = "token";

const ENTRIES: [&str; 5] = [SERVER_CERTIFICATE, SERVER_KEY, CLIENT_CERTIFICATE, CLIENT_KEY, TOKEN];

/// The five entries, PEM and text.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelKeys(BTreeMap<&'static str, String>);

/// Shows the fingerprint only.
impl fmt::Debug for TunnelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelKeys({})", self.fingerprint())
    }
}

impl TunnelKeys {
    /// New keys for the tunnel of this App.
    ///
    /// # Errors
    /// The system gives no randomness, or the clock is before 1970.
    pub fn generate(app: &str, now: SystemTime) -> Result<TunnelKeys, String> {
        let (server_certificate, server_key) = leaf(app, SERVER_NAME, now)?;
        let (client_certificate, client_key) = leaf(app, "frpc", now)?;
        let mut token = [0; 32];
        SystemRandom::new().fill(&mut token).map_err(|_| "the system gives no randomness")?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(TunnelKeys(
            ENTRIES.into_iter().zip([server_certificate, server_key, client_certificate, client_key, token]).collect(),
        ))
    }

    /// Keys read back; `None` if one is missing or is no text.
    pub fn read(mut entry: impl FnMut(&str) -> Option<String>) -> Option<TunnelKeys> {
        let read = |name: &'static str| Some((name, entry(name).filter(|text| !text.trim().is_empty())?));
        ENTRIES.into_iter().map(read).collect::<Option<_>>().map(TunnelKeys)
    }

    pub fn get(&self, entry: &'static str) -> &str {
        self.0.get(entry).map(String::as_str).unwrap_or_default()
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Eight hex digits that tell these keys from any others. They say nothing of the keys themselves.
    pub fn fingerprint(&self) -> String {
        names::hash(&ENTRIES.map(|name| self.get(name)), 8)
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
        let keys = TunnelKeys::generate("app", SystemTime::now()).expect("keys");
        let read = TunnelKeys::read(|name| keys.entries().find(|(n, _)| *n == name).map(|(_, text)| text.to_owned()));
        assert_eq!(read.as_ref(), Some(&keys));
        let others = TunnelKeys::generate("app", SystemTime::now()).expect("keys");
        assert_ne!(keys.fingerprint(), others.fingerprint());
        assert_ne!(keys.get(TOKEN), others.get(TOKEN));
        assert_eq!(keys.get(TOKEN).len(), 64);
        assert!(TunnelKeys::read(|name| (name != TOKEN).then(|| "x".into())).is_none());
        assert!(!format!("{keys:?}").contains(keys.get(TOKEN)));
    }
}
