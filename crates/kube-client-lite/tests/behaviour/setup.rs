//! Clients and files for tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube_client_lite::{Client, ClientOptions, Config, ConfigError, Error, Sources};

use crate::server::Server;

/// A directory that is removed when it is dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kube-client-lite-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Directory(path)
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a writable directory");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A kubeconfig with one context, whose cluster and user have these settings (YAML, in flow style).
pub fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "current-context: test\n\
         contexts: [{{name: test, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    )
}

/// Loads the kubeconfig in these files.
pub fn load(files: &str) -> Result<Config, ConfigError> {
    Config::load(&Sources { kubeconfig: Some(files), ..Sources::default() })
}

/// Loads a kubeconfig with these settings.
pub fn config(cluster: &str, user: &str) -> Config {
    let directory = Directory::new();
    let file = directory.file("config", kubeconfig(cluster, user));
    load(&file).expect("a usable kubeconfig")
}

/// Options whose requests have this deadline.
pub fn options(timeout: Duration) -> ClientOptions {
    ClientOptions { timeout, ..ClientOptions::new("test/1") }
}

/// A client with the default options.
pub fn client_of(config: Config) -> Client {
    Client::new(config, &ClientOptions::new("test/1")).expect("a usable configuration")
}

/// Whether the server answered with this status.
pub fn is_refusal(error: &Error, code: u16) -> bool {
    let text = error.to_string();
    let (_, cause) = text.split_once(": ").expect("the request and the cause");
    cause == code.to_string() || [' ', ':'].iter().any(|end| cause.starts_with(&format!("{code}{end}")))
}

/// A client of a server without TLS.
pub fn client(server: &Server) -> Client {
    client_of(config(&format!("server: 'http://{}'", server.address()), ""))
}

/// A client of a server without TLS, with another deadline for its requests.
pub fn hasty_client(server: &Server, timeout: Duration) -> Client {
    let config = config(&format!("server: 'http://{}'", server.address()), "");
    Client::new(config, &options(timeout)).expect("a usable configuration")
}

/// The path of a file in `tests/fixtures`.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}
