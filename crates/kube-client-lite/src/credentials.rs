//! Who the client says it is: nobody, a fixed token, a token in a file that others replace, or whom a plugin names.
//!
//! A ServiceAccount's token is bound to its pod and good for about an hour; the kubelet writes a new
//! one in time. So a token from a file is read again each minute, as client-go does, and at once
//! when the server refuses it. Plugins are in `exec/`. (A client certificate that stays is a matter of
//! TLS, see `tls.rs`.)

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::exec::Plugin;
use crate::login::{Login, Secret};

/// client-go's period in `transport/token_source.go`.
const TOKEN_FILE_PERIOD: Duration = Duration::from_secs(60);

/// Where the login comes from.
#[derive(Debug, Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    Token(Secret),
    TokenFile(TokenFile),
    Plugin(Box<Plugin>),
}

impl Credentials {
    /// Who to be now.
    ///
    /// # Errors
    /// A message, where there should be a login and there is none, by the deadline.
    pub(crate) fn login(&self, deadline: Instant) -> Result<Login, String> {
        match self {
            Credentials::None => Ok(Login::default()),
            Credentials::Token(token) => Ok(Login::with_token(token.clone())),
            Credentials::TokenFile(file) => file.token().map(Login::with_token),
            Credentials::Plugin(plugin) => plugin.login(deadline),
        }
    }

    /// Who to be after `refused` met a 401; `None` where there is nobody else to be.
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

/// What is known of the file.
#[derive(Debug, Default)]
struct Last {
    token: Option<Secret>,
    read_at: Option<Instant>,
}

impl TokenFile {
    /// `fallback` is used for as long as the file has never been readable.
    pub(crate) fn new(path: PathBuf, fallback: Option<Secret>) -> TokenFile {
        let last = Last { token: fallback, read_at: None };
        TokenFile { path, last: Mutex::new(last) }
    }

    fn token(&self) -> Result<Secret, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.read_at.is_none_or(|at| at.elapsed() >= TOKEN_FILE_PERIOD);
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
    /// Reads the file. One that cannot be read now (it is being replaced) leaves the last token in use.
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
            last.read_at = last.read_at.and_then(|at| at.checked_sub(TOKEN_FILE_PERIOD));
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
