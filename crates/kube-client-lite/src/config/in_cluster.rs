//! The things that Kubernetes gives to every pod: two variables and a directory.

use std::path::Path;

use super::{Config, ConfigError};
use crate::credentials::{Credentials, TokenFile};
use crate::tls::TlsSettings;

/// The directory where a pod finds its ServiceAccount.
const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// Whether this process runs in a pod.
pub(super) fn is_pod() -> bool {
    variable(HOST).is_some() && variable(PORT).is_some()
}

/// The configuration of this pod, whose ServiceAccount is mounted at `service_account_dir`, if not at the usual place.
///
/// # Errors
/// A file is missing there.
pub(super) fn load(service_account_dir: Option<&Path>) -> Result<Config, ConfigError> {
    let [host, port] = [HOST, PORT].map(|name| variable(name).unwrap_or_default());
    from_parts(&host, &port, service_account_dir.unwrap_or(Path::new(SERVICE_ACCOUNT_DIR)))
}

fn from_parts(host: &str, port: &str, directory: &Path) -> Result<Config, ConfigError> {
    // An IPv6 address is given without brackets.
    let server = if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") };
    let token = directory.join("token");
    // The token is read again with the first request; now it only matters whether it can be read.
    ConfigError::read(&token)?;
    let namespace = std::fs::read_to_string(directory.join("namespace")).unwrap_or_default();
    Ok(Config {
        server,
        tls_server_name: None,
        tls: TlsSettings {
            origin: directory.display().to_string(),
            authorities: Some(ConfigError::read(&directory.join("ca.crt"))?),
            ..TlsSettings::default()
        },
        proxy: None,
        credentials: Credentials::TokenFile(TokenFile::new(token, None)),
        namespace: Some(namespace.trim().to_owned()).filter(|name| !name.is_empty()),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as Kubernetes mounts it, with these files in it.
    struct Mounted(std::path::PathBuf);

    impl Mounted {
        fn new(test: &str, files: &[(&str, &str)]) -> Mounted {
            let directory = std::env::temp_dir().join(format!("kube-client-lite-{}-{test}", std::process::id()));
            std::fs::create_dir_all(&directory).expect("a directory for temporary files");
            for (name, text) in files {
                std::fs::write(directory.join(name), text).expect("a writable directory");
            }
            Mounted(directory)
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_pod_finds_server_and_namespace() {
        let mounted = Mounted::new("pod", &[("token", "t"), ("ca.crt", "c"), ("namespace", "shop\n")]);
        let config = from_parts("10.43.0.1", "443", &mounted.0).expect("a pod");
        assert_eq!((config.server(), config.namespace()), ("https://10.43.0.1:443", Some("shop")));
        let config = from_parts("fd00::1", "6443", &mounted.0).expect("a pod");
        assert_eq!(config.server(), "https://[fd00::1]:6443");
    }

    #[test]
    fn a_mount_without_token_or_authority_is_refused() {
        for (test, file) in [("no-ca", "token"), ("no-token", "ca.crt")] {
            let mounted = Mounted::new(test, &[(file, "x")]);
            let error = from_parts("10.43.0.1", "443", &mounted.0).expect_err("a refusal");
            assert!(error.is_missing_file(), "{error}");
        }
    }
}
