//! How to reach a cluster, and as whom: what kubectl or a pod would use.
//!
//! - `in_cluster.rs`: what Kubernetes gives to every pod;
//! - `kubeconfig.rs`: what is written in the files of kubectl, and how several become one;
//! - `resolve.rs`: one context of them, with its files read: a [`Config`];
//! - `document.rs`: YAML and JSON.

pub(crate) mod document;
pub(crate) mod error;
mod in_cluster;
mod kubeconfig;
mod resolve;

use std::path::Path;

use ureq::Proxy;
use ureq::http::Uri;

pub use error::ConfigError;

use crate::credentials::Credentials;
use crate::tls::TlsSettings;

use kubeconfig::Kubeconfig;

/// All that it takes to speak to one API server. Tokens and keys in it are never printed.
#[derive(Debug)]
pub struct Config {
    /// `https://host:port`, perhaps with a path, without a slash at the end.
    pub(crate) server: String,
    /// `https://` and the name that the server's certificate has, if it is another.
    pub(crate) tls_server_name: Option<Uri>,
    pub(crate) tls: TlsSettings,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) credentials: Credentials,
    pub(crate) namespace: Option<String>,
}

impl Config {
    /// Reads the configuration as kubectl does.
    ///
    /// `kubeconfig` is a list of files, separated by colons (kubectl's `KUBECONFIG`); the first that
    /// sets a value wins, and missing files count for nothing as long as one is there. Without it, or empty: what the pod
    /// has ([`Config::in_cluster`], at the usual place) if this is one, else `~/.kube/config`.
    /// `context` is the name of one, else it is the `current-context`.
    ///
    /// # Errors
    /// Files that cannot be read or understood, names that lead nowhere, and settings that are not supported,
    /// which the message names.
    pub fn load(kubeconfig: Option<&str>, context: Option<&str>) -> Result<Config, ConfigError> {
        match kubeconfig.filter(|list| !list.is_empty()) {
            Some(list) => {
                let files = list.split(':').filter(|file| !file.is_empty()).map(Path::new);
                resolve::resolve(Kubeconfig::load(files)?, context)
            }
            // A context is a thing of kubeconfigs only.
            None if in_cluster::is_pod() && context.is_none() => {
                Config::in_cluster(Path::new(Config::SERVICE_ACCOUNT_DIR))
            }
            None => {
                let home = std::env::home_dir().unwrap_or_default();
                let file = home.join(".kube/config");
                resolve::resolve(Kubeconfig::load([file.as_path()].into_iter())?, context)
            }
        }
    }

    /// Reads the configuration of a pod.
    ///
    /// The server comes from `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, all else from the directory where the
    /// ServiceAccount is mounted ([`Config::SERVICE_ACCOUNT_DIR`]): `ca.crt`, `token`, `namespace`.
    /// The token is read again each minute, for it changes.
    ///
    /// # Errors
    /// Where this is no pod, or a file is missing.
    pub fn in_cluster(service_account_dir: &Path) -> Result<Config, ConfigError> {
        in_cluster::from_environment(service_account_dir)
    }

    /// Where a pod finds its ServiceAccount.
    pub const SERVICE_ACCOUNT_DIR: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount";

    /// The namespace of the pod or of the context, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }
}
