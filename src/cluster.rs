//! How the cluster is found, and what must be known of it before the work begins.

use std::thread;

use kube_client_lite::{Client, Error, PartialObject, Resource, Version};
use serde::de::IgnoredAny;

use crate::backoff::Repeating;
use crate::config::{KubernetesConfig, flags};

/// The oldest Kubernetes that has all that we need: it lists Services by their type.
const OLDEST: (u32, u32) = (1, 31);

/// How the cluster is reached.
pub struct Found {
    pub config: kube_client_lite::Config,
    /// By the ServiceAccount of the pod that we run in.
    pub in_pod: bool,
}

/// A kubeconfig that is given, else the pod's own ServiceAccount, else `~/.kube/config`.
///
/// # Errors
/// Nothing usable is there: a message for the user.
pub fn find(config: &KubernetesConfig) -> Result<Found, String> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let in_pod = config.kubeconfig.is_none()
        && config.context.is_none()
        && set("KUBERNETES_SERVICE_HOST")
        && set("KUBERNETES_SERVICE_PORT");
    let (read, flag) = match in_pod {
        true => (kube_client_lite::Config::in_cluster(&config.service_account_dir), "service-account-dir"),
        false => {
            (kube_client_lite::Config::load(config.kubeconfig.as_deref(), config.context.as_deref()), "kubeconfig")
        }
    };
    match read {
        Ok(config) => Ok(Found { config, in_pod }),
        Err(error) => Err(format!("{}: {error}", flags::find(flag).label())),
    }
}

/// Why the work did not begin: what is wrong, and what to do.
pub struct NotBegun(pub String);

/// Makes sure that the cluster is new enough, and asks for its name where the user gave none. Asked until it is answered, or
/// for as often as `tries` says.
///
/// # Errors
/// See [`NotBegun`].
pub fn meet(kube: &Client, name: Option<String>, tries: Option<u32>) -> Result<String, NotBegun> {
    ask("version", tries, || match kube.version() {
        Ok(version) => Ok(refusal(&version)),
        // Who may not know the version may do the rest all the same.
        Err(error) if error.is_forbidden() || error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    })?
    .map_or(Ok(()), |refusal| Err(NotBegun(refusal)))?;
    match name {
        Some(name) => Ok(name),
        None => ask("name", tries, || uid(kube)),
    }
}

/// The UID of the namespace `kube-system`, which stands for the cluster.
fn uid(kube: &Client) -> Result<String, Error> {
    kube.get::<PartialObject>(&Resource::NAMESPACES.named("", "kube-system")).map(|namespace| namespace.metadata.uid)
}

fn ask<T>(what: &str, tries: Option<u32>, request: impl Fn() -> Result<T, Error>) -> Result<T, NotBegun> {
    let mut failures = Repeating::default();
    loop {
        let error = match request() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (delay, new) = failures.failed(&error.to_string());
        if tries.is_some_and(|tries| failures.count() >= tries) {
            let hint =
                if error.is_forbidden() { "; give that right, or --cluster-name as the operator has it" } else { "" };
            return Err(NotBegun(format!("the cluster cannot be asked for its {what}: {error}{hint}")));
        }
        if new {
            log::warn!("the cluster cannot be asked: {error}; trying again");
        }
        thread::sleep(delay);
    }
}

/// Why a server of this version cannot be served. One whose version is not understood is given a try.
fn refusal(version: &Version) -> Option<String> {
    let (major, minor) = OLDEST;
    let known = version.major.parse::<u32>().is_ok();
    (known && !version.is_at_least(major, minor)).then(|| {
        format!(
            "the cluster runs Kubernetes {}, and {major}.{minor} or newer is needed: upgrade the cluster",
            version.git_version
        )
    })
}

/// Makes a namespace. A chart makes it beforehand; a person who tries the operator with a kubeconfig may not know.
///
/// # Errors
/// As any request.
pub fn make_namespace(kube: &Client, name: &str) -> Result<(), Error> {
    let namespace = serde_json::json!({ "metadata": { "name": name } });
    match kube.create::<IgnoredAny>(&Resource::NAMESPACES.all(), &namespace) {
        Err(error) if !error.is_already_exists() => return Err(error),
        _ => {}
    }
    log::warn!(
        "the namespace {name} was missing, and is made: if an operator of this class was installed, give its --namespace instead"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_server_is_refused_by_its_version() {
        for (major, minor, git_version, refused) in [
            ("1", "31", "v1.31.0", false),
            ("1", "36+", "v1.36.3-eks", false),
            ("1", "30", "v1.30.4+k3s1", true),
            ("", "", "", false),
            ("devel", "", "devel", false),
        ] {
            let version = Version { major: major.into(), minor: minor.into(), git_version: git_version.into() };
            let refusal = refusal(&version);
            assert_eq!(refusal.is_some(), refused, "{git_version}");
            assert!(refusal.is_none_or(|text| text.contains(git_version) && text.contains("1.31")));
        }
    }
}
