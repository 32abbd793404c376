//! Clients and files for tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube_client_lite::{Client, ClientOptions, Config};

use crate::server::Server;

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kube-client-lite-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Directory(path)
    }

    /// Writes a file, and says where it is.
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

/// Loads such a kubeconfig.
pub fn config(cluster: &str, user: &str) -> Config {
    let directory = Directory::new();
    let file = directory.file("config", kubeconfig(cluster, user));
    Config::load(Some(&file), None).expect("a usable kubeconfig")
}

/// A client of a server without TLS.
pub fn client(server: &Server) -> Client {
    let config = config(&format!("server: 'http://{}'", server.address()), "");
    Client::new(config, "test/1").expect("a usable configuration")
}

/// Likewise, with little patience.
pub fn hasty_client(server: &Server, timeout: Duration) -> Client {
    let config = config(&format!("server: 'http://{}'", server.address()), "");
    let options = ClientOptions { timeout, ..ClientOptions::new("test/1") };
    Client::with_options(config, &options).expect("a usable configuration")
}

/// Where a file of `tests/fixtures` is.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}
