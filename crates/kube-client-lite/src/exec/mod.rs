//! Credential plugins: programs that print who the client is (EKS, GKE, AKS, OIDC logins).
//!
//! - `process.rs`: a program run to its end, within bounds;
//! - `credential.rs`: what it is told, and what it tells;
//! - this file: when it runs.
//!
//! As in client-go's `plugin/pkg/client/auth/exec`, a login is kept until it expires, or until the server answers 401.
//! Two things are stricter, since an operator asks from many threads and for ever: all who wait for a run take what it
//! brings, be it an error, and one that was of no use is not repeated for a while. And a plugin that hangs is killed.

mod credential;
mod process;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub(crate) use credential::{API_VERSIONS, ClusterInfo};

use crate::login::Login;
use process::{Failure, Output};

/// A plugin is killed after this time, or with the deadline of the request that waits for it.
const TIME: Duration = Duration::from_secs(30);
/// No less between two runs of which the first brought nothing new.
const PAUSE: Duration = Duration::from_secs(1);
/// What a plugin may print, in bytes. A token with a certificate and its chain has some 10 KiB.
const STDOUT_LIMIT: usize = 1 << 20;
/// How much of a plugin's last words, or of its hint, goes into a message, in characters.
const EXCERPT: usize = 300;

/// A plugin, as the kubeconfig describes it.
pub(crate) struct Settings {
    /// `user "admin"`
    pub place: String,
    /// A path if there is a slash in it, else to be found in `PATH`.
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// How to install it, for people.
    pub install_hint: String,
    /// One of [`API_VERSIONS`].
    pub api_version: String,
    /// With `provideClusterInfo`.
    pub cluster: Option<ClusterInfo>,
}

/// A plugin, and what it has told.
pub(crate) struct Plugin {
    settings: Settings,
    state: Mutex<State>,
    /// A run has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// What the last run brought; after one that failed, the login before it, while it has not expired.
    last: Option<Result<Login, String>>,
    expires: Option<SystemTime>,
    is_running: bool,
    /// When one ended that brought nothing new.
    fruitless: Option<Instant>,
    /// Why no other login could be had, as it was last logged.
    complaint: String,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("command", &self.settings.command).finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(settings: Settings) -> Plugin {
        Plugin { settings, state: Mutex::default(), ended: Condvar::new() }
    }

    /// Who to be now.
    ///
    /// # Errors
    /// A message that names the plugin.
    pub(crate) fn login(&self, deadline: Instant) -> Result<Login, String> {
        self.obtain(None, deadline)
    }

    /// Who to be after `refused` met a 401; `None` where the plugin knows nobody else.
    pub(crate) fn renewed(&self, refused: &Login, deadline: Instant) -> Option<Login> {
        match self.obtain(Some(refused), deadline) {
            Ok(login) => Some(login).filter(|login| login != refused),
            Err(reason) => {
                let mut state = self.lock();
                if state.complaint != reason {
                    log::warn!("the server refuses the login, and there is no other: {reason}");
                    state.complaint = reason;
                }
                None
            }
        }
    }

    /// The last login, if it will do; else what the next run brings, be it somebody else's.
    fn obtain(&self, refused: Option<&Login>, deadline: Instant) -> Result<Login, String> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.answer(refused) {
                return result;
            }
            if !state.is_running {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.says("is still running"));
            }
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_running = true;
        drop(state);
        let told = self.run(deadline);
        let mut state = self.lock();
        let result = state.note(told);
        self.ended.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, deadline: Instant) -> Result<credential::Told, String> {
        let Settings { command, args, env, api_version, cluster, .. } = &self.settings;
        let program = find(command, std::env::var_os("PATH")).ok_or_else(|| self.says("is not in PATH"))?;
        let mut process = Command::new(program);
        process
            .arg0(command)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", credential::info(api_version, cluster.as_ref()));
        let started = Instant::now();
        let output = process::run(&mut process, deadline.min(started + TIME), STDOUT_LIMIT);
        let output = output.map_err(|failure| match failure {
            Failure::Io(error) => self.says(&format!("cannot be run: {error}")),
            Failure::TooSlow => self.says(&format!("did not end in {:.1?}, and was killed", started.elapsed())),
            Failure::TooMuch => self.says(&format!("printed more than {STDOUT_LIMIT} bytes, and was killed")),
        })?;
        if !output.status.success() {
            return Err(self.says(&format!("failed: {}{}", output.status, last_words(&output))));
        }
        log::debug!("the exec plugin {command:?} told who we are");
        credential::parse(&output.stdout, api_version).map_err(|reason| self.says(&reason))
    }

    /// A message, with the hint for people that the kubeconfig has.
    fn says(&self, what: &str) -> String {
        let Settings { place, command, install_hint, .. } = &self.settings;
        let hint = match excerpt(install_hint) {
            hint if hint.is_empty() => hint,
            hint => format!(" ({hint})"),
        };
        format!("the exec plugin {command:?} of {place} {what}{hint}")
    }
}

impl State {
    /// What to tell without another run, if anything.
    fn answer(&self, refused: Option<&Login>) -> Option<Result<Login, String>> {
        let last = self.last.as_ref()?;
        let is_pause = self.fruitless.is_some_and(|at| at.elapsed() < PAUSE);
        let will_do = |login: &Login| refused != Some(login) && !self.has_expired();
        (is_pause || last.as_ref().is_ok_and(will_do)).then(|| last.clone())
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= SystemTime::now())
    }

    /// Takes down how a run ended.
    fn note(&mut self, told: Result<credential::Told, String>) -> Result<Login, String> {
        let (result, expires) = match told {
            Ok(told) => (Ok(told.login), told.expires),
            Err(reason) => (Err(reason), None),
        };
        self.is_running = false;
        // A server that refuses a login may take it again, as one whose own authentication is down for a moment.
        let is_kept = result.is_err() && matches!(self.last, Some(Ok(_))) && !self.has_expired();
        if is_kept {
            self.fruitless = Some(Instant::now());
            return result;
        }
        let is_news = result.is_ok() && self.last.as_ref() != Some(&result);
        self.expires = expires;
        self.fruitless = (!is_news || self.has_expired()).then(Instant::now);
        if is_news {
            self.complaint.clear();
        }
        self.last.insert(result).clone()
    }
}

/// Where the program is: as a shell would find it, but never in the current directory by accident.
fn find(command: &str, path: Option<OsString>) -> Option<PathBuf> {
    if command.contains('/') {
        return Some(command.into());
    }
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let folders = path.as_deref().map(std::env::split_paths)?;
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(command)).find(is_program)
}

/// The last line of a plugin's standard error, unless it quotes what went to standard output.
fn last_words(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().map(excerpt).rfind(|line| !line.is_empty()).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || "-_.=+/".contains(c);
    let quotes = line.split(|c| !is_part(c)).any(|word| word.len() >= 16 && stdout.contains(word));
    if line.is_empty() || quotes { String::new() } else { format!(": {line}") }
}

/// A text in one line, cut.
fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(EXCERPT).collect()
}
