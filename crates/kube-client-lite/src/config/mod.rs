//! Where a cluster is and as whom to reach it, as kubectl or a pod would.
//!
//! - `in_cluster.rs`: the things that Kubernetes gives to every pod;
//! - `kubeconfig.rs`: the files of kubectl, and how several become one;
//! - `resolve.rs`: one context of them becomes a [`Config`], and the files that it names are read;
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

/// The places that a configuration may come from. By default a pod has its ServiceAccount, and anybody else
/// `~/.kube/config`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// A list of files, separated by colons: the `KUBECONFIG` of kubectl. The first file that sets a value wins, and
    /// missing files count for nothing as long as one is there. An empty list is none.
    pub kubeconfig: Option<&'a str>,
    /// The name of a context; `None`: the `current-context`.
    pub context: Option<&'a str>,
    /// The directory where the ServiceAccount of a pod is mounted; `None`: where Kubernetes mounts it.
    pub service_account_dir: Option<&'a Path>,
}

impl Sources<'_> {
    /// Whether the configuration is the one that Kubernetes gives to a pod: this process runs in one, and neither a kubeconfig
    /// nor a context is named.
    pub fn is_pod(&self) -> bool {
        self.files().is_none() && self.context.is_none() && in_cluster::is_pod()
    }

    fn files(&self) -> Option<&str> {
        self.kubeconfig.filter(|list| !list.is_empty())
    }
}

/// Everything that is needed to speak to one API server. Tokens and keys in it are never printed.
#[derive(Debug)]
pub struct Config {
    /// `https://host:port`, perhaps with a path, without a slash at the end.
    pub(crate) server: String,
    /// `https://` and the name in the server's certificate, if that is another one.
    pub(crate) tls_server_name: Option<Uri>,
    pub(crate) tls: TlsSettings,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) credentials: Credentials,
    pub(crate) namespace: Option<String>,
}

impl Config {
    /// Reads the configuration: from the kubeconfig that is named, else from the pod ([`Sources::is_pod`]), else from
    /// `~/.kube/config`. The files mean the same as to kubectl.
    ///
    /// In a pod the server comes from the variables `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. The token, the
    /// authority and the namespace are files of the ServiceAccount's directory. The token is read again each minute, since it
    /// changes.
    ///
    /// # Errors
    /// A file cannot be read or understood, a name leads nowhere, or a setting is not supported. The message names it.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        if sources.is_pod() {
            return in_cluster::load(sources.service_account_dir);
        }
        let kubeconfig = match sources.files() {
            Some(list) => Kubeconfig::load(list.split(':').filter(|file| !file.is_empty()).map(Path::new))?,
            None => {
                let file = std::env::home_dir().unwrap_or_default().join(".kube/config");
                Kubeconfig::load([file.as_path()].into_iter())?
            }
        };
        resolve::resolve(kubeconfig, sources.context)
    }

    /// The namespace of the pod or of the context, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }
}
