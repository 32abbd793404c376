//! The sources of logins: a fixed token, a token in a file that others replace, or a plugin. A client may also have none.
//!
//! The token of a ServiceAccount is bound to its pod and good for about an hour; the kubelet writes a new
//! one in time. So a token from a file is read again each minute, as client-go does, and at once
//! when the server refuses it. Plugins are in `exec/`, client certificates in `identity.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::exec::Plugin;
use crate::login::{Login, Secret};

/// A file with a token or a certificate is read again after this time: the period of client-go in `transport/token_source.go`.
pub(crate) const FILE_PERIOD: Duration = Duration::from_secs(60);

/// The source of logins.
#[derive(Debug, Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    Token(Secret),
    TokenFile(TokenFile),
    Plugin(Box<Plugin>),
}

impl Credentials {
    /// The login to use now.
    ///
    /// # Errors
    /// A message where there should be a login and none could be had by the deadline.
    pub(crate) fn login(&self, deadline: Instant) -> Result<Login, String> {
        match self {
            Credentials::None => Ok(Login::default()),
            Credentials::Token(token) => Ok(Login::with_token(token.clone())),
            Credentials::TokenFile(file) => file.token().map(Login::with_token),
            Credentials::Plugin(plugin) => plugin.login(deadline),
        }
    }

    /// The login to use after the server answered 401 to `refused`; `None` where there is no other one.
    pub(crate) fn renewed(&self, refused: &Login, deadline: Instant) -> Option<Login> {
        match (self, &refused.token) {
            (Credentials::TokenFile(file), Some(token)) => file.renewed(token).map(Login::with_token),
            (Credentials::Plugin(plugin), _) => plugin.renewed(refused, deadline),
            _ => None,
        }
    }
}

/// A token in a file.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    last: Mutex<Last>,
}

/// The result of the last reading of a token file.
#[derive(Debug, Default)]
struct Last {
    token: Option<Secret>,
    read_at: Option<Instant>,
}

impl TokenFile {
    /// `fallback` is used until the file can be read for the first time.
    pub(crate) fn new(path: PathBuf, fallback: Option<Secret>) -> TokenFile {
        let last = Last { token: fallback, read_at: None };
        TokenFile { path, last: Mutex::new(last) }
    }

    fn token(&self) -> Result<Secret, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.read_at.is_none_or(|at| at.elapsed() >= FILE_PERIOD);
        if due {
            last.refresh(&self.path)?;
        }
        last.token.clone().ok_or_else(|| format!("no token in {}", self.path.display()))
    }

    fn renewed(&self, refused: &Secret) -> Option<Secret> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have renewed it while this one's request was under way.
        if last.token.as_ref() == Some(refused) {
            last.refresh(&self.path).ok()?;
        }
        last.token.clone().filter(|token| token != refused)
    }
}

impl Last {
    /// Reads the file. If it cannot be read now, since it is being replaced, the last token stays in use.
    fn refresh(&mut self, path: &Path) -> Result<(), String> {
        match read_token(path) {
            Ok(token) => {
                self.token = Some(token);
                self.read_at = Some(Instant::now());
                Ok(())
            }
            Err(reason) if self.token.is_some() => {
                log::warn!("{reason}; the last token is still used");
                self.read_at = Some(Instant::now());
                Ok(())
            }
            Err(reason) => Err(reason),
        }
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the token in {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty", path.display())),
        token => Ok(Secret::new(token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_file_is_read_again_each_minute() {
        let path = std::env::temp_dir().join(format!("kube-client-lite-{}-token", std::process::id()));
        std::fs::write(&path, "first\n").expect("a writable directory");
        let file = TokenFile::new(path.clone(), None);
        let token = || file.token().expect("a token").reveal().to_owned();
        let a_minute_passes = || {
            let mut last = file.last.lock().expect("no panic");
            last.read_at = last.read_at.and_then(|at| at.checked_sub(FILE_PERIOD));
        };

        assert_eq!(token(), "first");
        std::fs::write(&path, "second\n").expect("a writable directory");
        assert_eq!(token(), "first");
        a_minute_passes();
        assert_eq!(token(), "second");
        std::fs::remove_file(&path).expect("a file");
        a_minute_passes();
        assert_eq!(token(), "second", "a file that is being replaced does no harm");
    }
}
