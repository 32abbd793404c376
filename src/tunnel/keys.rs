//! The keys of a tunnel: two key pairs, each side pinning the other's self-signed certificate, and a token. They are made in
//! `crate::random`.

use std::collections::BTreeMap;
use std::fmt;

use super::hash::hash;

/// frps' certificate has this name, and frpc expects it there.
pub const SERVER_NAME: &str = "frps";

/// Names of the entries in the Secret, and of the files that they become.
pub const SERVER_CERTIFICATE: &str = "frps.crt";
pub const SERVER_KEY: &str = "frps.key";
pub const CLIENT_CERTIFICATE: &str = "frpc.crt";
pub const CLIENT_KEY: &str = "frpc.key";
pub const TOKEN: &str = "token";

/// All entries, in the order in which they are hashed.
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
        hash(&ENTRIES.map(|name| self.get(name)), 8)
    }
}
