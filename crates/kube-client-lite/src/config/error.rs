//! Why a configuration cannot be used, in a sentence for the person who can mend it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
        /// `exec`
        setting: &'static str,
        /// `user "admin"`
        place: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(message: impl Into<String>) -> ConfigError {
        ConfigError::Invalid(message.into())
    }

    /// Reads a whole file.
    pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
        std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
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
