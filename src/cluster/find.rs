//! Finds the cluster, and asks it what must be known before the work begins.

use kube_client_lite::{Client, Error, PartialObject, Resource, Sources, Version};

use crate::backoff::until_answered;
use crate::config::{KubernetesConfig, flags};

/// The oldest Kubernetes that can do everything we need: it lists Services by their type.
const OLDEST: (u32, u32) = (1, 31);

/// How to reach the cluster.
pub struct Found {
    pub config: kube_client_lite::Config,
    /// It is the configuration of the pod that we run in, with its ServiceAccount.
    pub in_pod: bool,
}

/// Reads the kubeconfig that is given, else the pod's own ServiceAccount, else `~/.kube/config`.
///
/// # Errors
/// Nothing usable is there: a message for the user.
pub fn find(config: &KubernetesConfig) -> Result<Found, String> {
    let sources = Sources {
        kubeconfig: config.kubeconfig.as_deref(),
        context: config.context.as_deref(),
        service_account_dir: Some(&config.service_account_dir),
    };
    let in_pod = sources.is_pod();
    let flag = if in_pod { &flags::SERVICE_ACCOUNT_DIR } else { &flags::KUBECONFIG };
    match kube_client_lite::Config::load(&sources) {
        Ok(config) => Ok(Found { config, in_pod }),
        Err(error) => Err(format!("{}: {error}", flag.label())),
    }
}

/// The reason why the work did not begin: a message that says what is wrong, and what to do.
pub struct NotBegun(pub String);

/// Makes sure that the cluster is new enough, and asks for its name where the user gave none. It asks until there is an
/// answer, or as often as `tries` says.
///
/// # Errors
/// See [`NotBegun`].
pub fn meet(kube: &Client, name: Option<String>, tries: Option<u32>) -> Result<String, NotBegun> {
    ask("version", tries, || match kube.version() {
        Ok(version) => Ok(refusal(&version)),
        // An operator without the right to ask for the version may have all other rights.
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

fn ask<T>(what: &str, tries: Option<u32>, request: impl FnMut() -> Result<T, Error>) -> Result<T, NotBegun> {
    let say = |error: &Error| format!("the cluster cannot be asked: {error}");
    until_answered(tries, say, request).map_err(|error| {
        let hint =
            if error.is_forbidden() { "; give that right, or --cluster-name as the operator has it" } else { "" };
        NotBegun(format!("the cluster cannot be asked for its {what}: {error}{hint}"))
    })
}

/// A message that says why a server of this version is too old. A version that cannot be read is given a try.
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
