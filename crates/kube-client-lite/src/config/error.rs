//! Errors of configurations: a sentence for the person who can mend it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest size of a file, in bytes. All authorities of the public web have 250 KiB.
const FILE_LIMIT: u64 = 16 << 20;

/// A configuration that cannot be used. Its text says why, and where.
#[derive(Debug)]
pub struct ConfigError(Kind);

#[derive(Debug)]
enum Kind {
    /// A file cannot be read.
    Read {
        /// `/home/joe/.kube/config`, or `the client-key /home/joe/key.pem of user "admin" in /home/joe/.kube/config`
        file: String,
        source: io::Error,
    },
    /// Something contradicts itself, is missing, or is not what it should be.
    Invalid(String),
    /// kubectl knows a setting that this client does not.
    Unsupported {
        /// `auth-provider`
        setting: &'static str,
        /// `user "admin" in /home/joe/.kube/config`
        place: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(message: impl Into<String>) -> ConfigError {
        ConfigError(Kind::Invalid(message.into()))
    }

    pub(crate) fn unsupported(setting: &'static str, place: &str) -> ConfigError {
        ConfigError(Kind::Unsupported { setting, place: place.to_owned() })
    }

    /// Adds to the message where the setting is: `origin` is one file, or several.
    pub(crate) fn of(self, origin: &str) -> ConfigError {
        ConfigError(match self.0 {
            Kind::Invalid(message) => Kind::Invalid(format!("{origin}: {message}")),
            Kind::Unsupported { setting, place } => {
                Kind::Unsupported { setting, place: format!("{place} in {origin}") }
            }
            Kind::Read { file, source } => Kind::Read { file: format!("{file} in {origin}"), source },
        })
    }

    /// Adds to the message which setting named the file that cannot be read.
    pub(crate) fn named_by(self, setting: &'static str, place: &str) -> ConfigError {
        ConfigError(match self.0 {
            Kind::Read { file, source } => Kind::Read { file: format!("the {setting} {file} of {place}"), source },
            other => other,
        })
    }

    /// Whether a file is not there.
    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(&self.0, Kind::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Reads a whole file.
    pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > FILE_LIMIT => {
                Err(ConfigError::invalid(format!("{} is larger than {FILE_LIMIT} bytes", path.display())))
            }
            Ok(_) => Ok(bytes),
            Err(source) => Err(ConfigError(Kind::Read { file: path.display().to_string(), source })),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Read { file, source } => write!(f, "cannot read {file}: {source}"),
            Kind::Invalid(message) => f.write_str(message),
            Kind::Unsupported { setting, place } => write!(f, "{setting} of {place} is not supported"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Read { source, .. } => Some(source),
            Kind::Invalid(_) | Kind::Unsupported { .. } => None,
        }
    }
}
