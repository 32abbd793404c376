//! The version of the server.

use serde::Deserialize;

/// The reply of `/version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// `1`
    pub major: String,
    /// `31`; some providers write `31+`.
    pub minor: String,
    /// `v1.31.2`, `v1.31.2+k3s1`
    pub git_version: String,
}

impl Version {
    /// Whether the server has this version or a newer one. A version that cannot be read counts as older.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        match (number(&self.major), number(&self.minor)) {
            (Some(ours), Some(theirs)) => (ours, theirs) >= (major, minor),
            _ => false,
        }
    }
}

/// The leading number: `31+` is 31.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: &str, minor: &str) -> Version {
        Version { major: major.into(), minor: minor.into(), ..Version::default() }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("1", "31").is_at_least(1, 31));
        assert!(version("1", "31+").is_at_least(1, 31));
        assert!(version("1", "100").is_at_least(1, 31));
        assert!(version("2", "0").is_at_least(1, 31));
        assert!(!version("1", "9").is_at_least(1, 31));
        assert!(!version("", "").is_at_least(1, 31));
    }
}
