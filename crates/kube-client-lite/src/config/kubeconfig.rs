//! The files of kubectl: their settings, and how several files become one.
//!
//! The rules are those of client-go's `tools/clientcmd`. Of two entries with the same name the one in the first file
//! counts, as a whole. The first file that has a `current-context` sets it. A missing file is passed over as
//! long as another one is there. Relative paths start at the file that they are written in. Settings
//! that have no field here are ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{ConfigError, document};

/// The entries of all files, by their names.
#[derive(Debug, Default)]
pub(super) struct Kubeconfig {
    /// The files that were found, as `KUBECONFIG` lists them.
    pub origin: String,
    pub current_context: String,
    pub clusters: BTreeMap<String, Cluster>,
    pub contexts: BTreeMap<String, Context>,
    pub users: BTreeMap<String, User>,
}

/// A cluster: where its server is, and how that proves itself. An empty text is a setting that is not there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Cluster {
    pub server: String,
    pub certificate_authority: PathBuf,
    pub certificate_authority_data: String,
    pub insecure_skip_tls_verify: bool,
    pub tls_server_name: String,
    pub proxy_url: String,
    pub disable_compression: bool,
    pub extensions: Vec<Extension>,
}

/// A setting that only a plugin or a tool understands.
#[derive(Debug, Deserialize)]
pub(super) struct Extension {
    pub name: String,
    #[serde(default)]
    pub extension: Value,
}

/// A context: one user of one cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub cluster: String,
    pub user: String,
    pub namespace: String,
}

/// A user: how the client proves itself. It has no derived `Debug`, since most of it is secret.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct User {
    pub client_certificate: PathBuf,
    pub client_certificate_data: String,
    pub client_key: PathBuf,
    pub client_key_data: String,
    pub token: String,
    #[serde(rename = "tokenFile")]
    pub token_file: PathBuf,
    pub username: String,
    pub password: String,
    pub exec: Option<Exec>,
    pub auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    pub impersonate: String,
    pub as_uid: String,
    pub as_groups: Vec<IgnoredAny>,
    pub as_user_extra: BTreeMap<String, IgnoredAny>,
}

/// A credential plugin. It has no `Debug`, since its environment may be secret.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Exec {
    pub api_version: String,
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<Variable>,
    pub install_hint: String,
    pub provide_cluster_info: bool,
    pub interactive_mode: String,
}

/// A variable of a plugin's environment.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

impl Kubeconfig {
    /// Reads and merges files, the most important first.
    ///
    /// # Errors
    /// No file is there, or one cannot be read or understood.
    pub fn load<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Kubeconfig, ConfigError> {
        let mut merged = Kubeconfig::default();
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for path in paths {
            match ConfigError::read(path) {
                Ok(bytes) => {
                    merged.add(File::parse(path, &bytes)?);
                    found.push(path.display().to_string());
                }
                Err(error) if error.is_missing_file() => missing.push(path.display().to_string()),
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() {
            return Err(ConfigError::invalid(format!("no kubeconfig: {}", none_of(&missing))));
        }
        merged.origin = found.join(":");
        Ok(merged)
    }

    /// Adds the entries whose names are new.
    fn add(&mut self, file: File) {
        let File { current_context, clusters, contexts, users, .. } = file;
        if self.current_context.is_empty() {
            self.current_context = current_context;
        }
        add_all(&mut self.clusters, clusters);
        add_all(&mut self.contexts, contexts);
        add_all(&mut self.users, users);
    }
}

fn none_of(missing: &[String]) -> String {
    match missing {
        [] => "no file is named".to_owned(),
        [path] => format!("{path} does not exist"),
        paths => format!("none of {} exists", paths.join(", ")),
    }
}

/// A name that one list has twice. Nobody can say which of the two entries is meant.
fn twice<T: Default>(entries: &[Named<T>]) -> Option<&str> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn add_all<T: Default>(known: &mut BTreeMap<String, T>, entries: Vec<Named<T>>) {
    for Named { name, settings } in entries {
        known.entry(name).or_insert(settings);
    }
}

/// One file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    current_context: String,
    clusters: Vec<Named<Cluster>>,
    contexts: Vec<Named<Context>>,
    users: Vec<Named<User>>,
}

impl Default for File {
    fn default() -> File {
        File {
            api_version: "v1".to_owned(),
            kind: "Config".to_owned(),
            current_context: String::new(),
            clusters: Vec::new(),
            contexts: Vec::new(),
            users: Vec::new(),
        }
    }
}

/// An entry of one of the three lists. Its second member is called `cluster`, `context` or `user`, as its list is.
#[derive(Deserialize)]
struct Named<T: Default> {
    name: String,
    #[serde(default, alias = "cluster", alias = "context", alias = "user")]
    settings: T,
}

/// The text of an error without the value that it speaks of, which may be a token.
fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("a setting is of the wrong type: expected {expected}"),
        None => text,
    }
}

impl File {
    fn parse(path: &Path, bytes: &[u8]) -> Result<File, ConfigError> {
        let wrong = |reason: String| ConfigError::invalid(format!("{}: {reason}", path.display()));
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let value = document::parse(text).map_err(wrong)?;
        let mut file: File = serde_json::from_value(value).map_err(|error| wrong(without_value(&error)))?;
        if (file.kind.as_str(), file.api_version.as_str()) != ("Config", "v1") {
            return Err(wrong(format!("is a {} {}, not a v1 Config", file.api_version, file.kind)));
        }
        let repeated = twice(&file.clusters).or(twice(&file.contexts)).or(twice(&file.users));
        if let Some(name) = repeated {
            return Err(wrong(format!("one list has {name:?} twice")));
        }
        file.make_absolute(path.parent().unwrap_or(Path::new("")));
        Ok(file)
    }

    fn make_absolute(&mut self, directory: &Path) {
        let in_clusters = self.clusters.iter_mut().map(|entry| &mut entry.settings.certificate_authority);
        let in_users = self.users.iter_mut().flat_map(|Named { settings, .. }| {
            [&mut settings.client_certificate, &mut settings.client_key, &mut settings.token_file]
        });
        for path in in_clusters.chain(in_users) {
            if !path.as_os_str().is_empty() {
                *path = directory.join(&path);
            }
        }
        let plugins = self.users.iter_mut().filter_map(|entry| entry.settings.exec.as_mut());
        // A command without a slash is looked for in PATH.
        for exec in plugins.filter(|exec| exec.command.contains('/')) {
            exec.command = directory.join(&exec.command).to_string_lossy().into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File::parse(Path::new(path), text.as_bytes()).expect("a kubeconfig")
    }

    #[test]
    fn the_first_file_wins_entry_by_entry() {
        let mut merged = Kubeconfig::default();
        merged.add(file("/a", "users: [{name: u, user: {token: first}}]"));
        merged.add(file(
            "/b",
            "current-context: b\nusers: [{name: u, user: {token: second, tokenFile: f}}, {name: v, user: {}}]",
        ));
        merged.add(file("/c", "current-context: c\ncontexts: [{name: c, context: {user: v}}]"));
        assert_eq!(merged.users["u"].token, "first");
        assert_eq!(merged.users["u"].token_file, Path::new(""));
        assert!(merged.users.contains_key("v"));
        assert_eq!(merged.current_context, "b");
        assert_eq!(merged.contexts["c"].user, "v");
    }

    #[test]
    fn relative_paths_start_at_their_file() {
        let file = file(
            "/home/joe/.kube/config",
            "clusters: [{name: k, cluster: {certificate-authority: pki/ca.crt}}]\n\
             users: [{name: u, user: {client-certificate: ../u.crt, client-key: /etc/u.key}}]",
        );
        let user = &file.users[0].settings;
        assert_eq!(file.clusters[0].settings.certificate_authority, Path::new("/home/joe/.kube/pki/ca.crt"));
        assert_eq!(user.client_certificate, Path::new("/home/joe/.kube/../u.crt"));
        assert_eq!(user.client_key, Path::new("/etc/u.key"));
        assert_eq!(user.token_file, Path::new(""));
    }

    /// kubectl 1.32 refuses them, too.
    #[test]
    fn files_that_kubectl_refuses_are_refused() {
        for text in [
            "users: [{name: u, user: {token: 12345}}]",
            "clusters: [{name: k, cluster: {insecure-skip-tls-verify: \"true\"}}]",
            "kind: Pod",
            "apiVersion: v2",
            "users: {}",
            "users: [{name: u}, {name: v}, {name: u}]",
            "- a",
        ] {
            assert!(File::parse(Path::new("config"), text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_passed_over_unless_it_is_the_only_one() {
        let missing = [Path::new("/nowhere/a"), Path::new("/nowhere/b")];
        let error = Kubeconfig::load(missing.into_iter()).expect_err("no file");
        assert_eq!(error.to_string(), "no kubeconfig: none of /nowhere/a, /nowhere/b exists");
    }
}
