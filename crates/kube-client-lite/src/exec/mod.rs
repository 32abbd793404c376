//! Credential plugins: programs that print who the client is (EKS, GKE, AKS, OIDC logins).
//!
//! - `process.rs` runs a program to its end, within bounds;
//! - `credential.rs` writes the input of a plugin and reads its output;
//! - this file decides when a plugin runs.
//!
//! As in client-go's `plugin/pkg/client/auth/exec`, a login is kept until it expires, or until the server answers 401.
//! Three things are stricter, since an operator asks from many threads and for ever. All threads that wait for a run take
//! its result, be it an error. A run that brought nothing new is not repeated for a while. And a plugin that hangs is
//! killed.

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
/// After a run that brought nothing new, the next one begins no sooner than after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// The largest output of a plugin, in bytes. A token with a certificate and its chain has some 10 KiB.
const STDOUT_LIMIT: usize = 1 << 20;
/// So much of a plugin's last line on standard error, or of its hint, goes into a message, in characters.
const EXCERPT: usize = 300;

/// The settings of a plugin in the kubeconfig.
pub(crate) struct Settings {
    /// `user "admin"`
    pub place: String,
    /// With a slash in it, it is a path; otherwise the program is looked for in `PATH`.
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// A text for people: how to install the plugin.
    pub install_hint: String,
    /// One of [`API_VERSIONS`].
    pub api_version: String,
    /// The facts that a plugin with `provideClusterInfo` is given.
    pub cluster: Option<ClusterInfo>,
}

/// A plugin, and the login that it printed last.
pub(crate) struct Plugin {
    settings: Settings,
    state: Mutex<State>,
    /// Woken when a run has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The result of the last run. If that failed, it is the login before it for as long as that has not expired.
    last: Option<Result<Login, String>>,
    expires: Option<SystemTime>,
    is_running: bool,
    /// When a run ended that brought nothing new.
    fruitless: Option<Instant>,
    /// The reason why no other login could be had, as it was logged last.
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

    /// The login to use now.
    ///
    /// # Errors
    /// A message that names the plugin.
    pub(crate) fn login(&self, deadline: Instant) -> Result<Login, String> {
        self.obtain(None, deadline)
    }

    /// The login to use after the server answered 401 to `refused`; `None` where the plugin has no other one.
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

    /// The last login, if it will do; otherwise the result of the next run, even if another thread began it.
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
        let printed = self.run(deadline);
        let mut state = self.lock();
        let result = state.note(printed);
        self.ended.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, deadline: Instant) -> Result<credential::Printed, String> {
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

    /// A message about this plugin, with the hint for people from the kubeconfig.
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
    /// The answer that needs no other run, if there is one.
    fn answer(&self, refused: Option<&Login>) -> Option<Result<Login, String>> {
        let last = self.last.as_ref()?;
        let is_pause = self.fruitless.is_some_and(|at| at.elapsed() < PAUSE);
        let will_do = |login: &Login| refused != Some(login) && !self.has_expired();
        (is_pause || last.as_ref().is_ok_and(will_do)).then(|| last.clone())
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= SystemTime::now())
    }

    /// Keeps the result of a run.
    fn note(&mut self, printed: Result<credential::Printed, String>) -> Result<Login, String> {
        let (result, expires) = match printed {
            Ok(printed) => (Ok(printed.login), printed.expires),
            Err(reason) => (Err(reason), None),
        };
        self.is_running = false;
        // A server may take a login again that it refused: its own authentication may be down for a moment.
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

/// The path of the program: the one that a shell would find, but never one in the current directory by accident.
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

/// The last line of a plugin's standard error, unless it quotes its standard output, which is secret.
fn last_words(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().map(excerpt).rfind(|line| !line.is_empty()).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || "-_.=+/".contains(c);
    let quotes = line.split(|c| !is_part(c)).any(|word| word.len() >= 16 && stdout.contains(word));
    if line.is_empty() || quotes { String::new() } else { format!(": {line}") }
}

/// The beginning of a text, in one line.
fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(EXCERPT).collect()
}
