//! The real helm, for tests of the chart.

use std::path::Path;
use std::process::Command;

use crate::parts::{self, HELM};

/// Helm with a home of its own, where it may keep its caches: it sees no plugin, repository or kubeconfig of the user.
/// Set `KUBECONFIG` if it needs a cluster.
///
/// # Panics
/// It panics if helm cannot be built.
pub fn helm(home: &Path) -> Command {
    let program = parts::on_first_use(HELM).expect("helm can be built");
    let mut helm = Command::new(program);
    helm.env_clear().env("HOME", home);
    helm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Charts may ask helm for its version.
    #[test]
    fn it_tells_the_version_that_it_was_built_from() {
        let output = helm(Path::new("/nowhere")).args(["version", "--template", "{{.Version}}"]).output();
        let output = output.expect("helm starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "v4.3.1", "{output:?}");
        let go_mod = include_str!("../tools/helm/go.mod");
        assert!(go_mod.contains("helm.sh/helm/v4 v4.3.1"), "go.mod has another version");
    }
}
