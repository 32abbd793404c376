//! Why a configuration cannot be used, in a sentence for the person who can mend it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a file may weigh, in bytes. All authorities of the public web have 250 KiB.
const FILE_LIMIT: u64 = 16 << 20;

/// A configuration that cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that is named cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// Something contradicts itself, is missing, or is not what it should be.
    Invalid(String),
    /// A setting that kubectl knows and this client does not.
    Unsupported {
        /// `auth-provider`
        setting: &'static str,
        /// `user "admin" in /home/joe/.kube/config`
        place: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(message: impl Into<String>) -> ConfigError {
        ConfigError::Invalid(message.into())
    }

    /// Says whose the trouble is: `origin` is a file, or several.
    pub(crate) fn of(self, origin: &str) -> ConfigError {
        match self {
            ConfigError::Invalid(message) => ConfigError::Invalid(format!("{origin}: {message}")),
            ConfigError::Unsupported { setting, place } => {
                ConfigError::Unsupported { setting, place: format!("{place} in {origin}") }
            }
            // Its path says more.
            read @ ConfigError::Read { .. } => read,
        }
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
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { path, source } => {
                write!(f, "cannot read {}: {source}", path.display())
            }
            ConfigError::Invalid(message) => f.write_str(message),
            ConfigError::Unsupported { setting, place } => {
                write!(f, "{setting} of {place} is not supported")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Read { source, .. } => Some(source),
            ConfigError::Invalid(_) | ConfigError::Unsupported { .. } => None,
        }
    }
}
