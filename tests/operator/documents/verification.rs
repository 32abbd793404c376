//! The commands that verify a release need a release and the Internet, so they do not run here. They are compared with the
//! workflow that signs releases.

use regex::Regex;

use crate::support::documents::{PUBLISHED_CHART, commands};

const WORKFLOW: &str = include_str!("../../../.github/workflows/release.yml");

/// The value of a variable in the workflow's `env`.
fn variable(name: &str) -> &'static str {
    let line = WORKFLOW.lines().find_map(|line| line.strip_prefix(&format!("  {name}: ")));
    line.unwrap_or_else(|| panic!("release.yml sets {name}"))
}

#[test]
fn the_chart_of_the_pages_is_the_one_that_is_pushed() {
    assert!(WORKFLOW.contains("helm package charts/fly-tunnel-operator\n"));
    assert!(WORKFLOW.contains("\"oci://$REGISTRY/charts\""));
    assert_eq!(format!("oci://{}/charts/fly-tunnel-operator", variable("REGISTRY")), PUBLISHED_CHART);
}

#[test]
fn what_is_verified_is_what_the_workflow_signs_and_attests() {
    let commands = commands("verify").replace("\\\n", "");
    let chart = PUBLISHED_CHART.trim_start_matches("oci://");
    let image = variable("IMAGE");
    let [of_image, of_chart, attestation] = commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
    for (command, signed, artifact) in [
        (of_image, "cosign sign --yes --recursive \"$IMAGE@", image),
        (of_chart, "cosign sign --yes \"$REGISTRY/charts/", chart),
    ] {
        assert!(WORKFLOW.contains(signed), "{signed}");
        assert!(command.starts_with("cosign verify ") && command.ends_with(&format!(" {artifact}:X.Y.Z")), "{command}");
        // Sigstore names a workflow that runs for a tag like this.
        let identity = format!("{}/.github/workflows/release.yml@refs/tags/v0.1.0", env!("CARGO_PKG_REPOSITORY"));
        let pattern = command.split('\'').nth(1).expect("a quoted pattern");
        assert!(Regex::new(pattern).expect("a pattern").is_match(&identity), "{pattern}");
        assert!(
            command.contains("--certificate-oidc-issuer https://token.actions.githubusercontent.com "),
            "{command}"
        );
    }
    assert!(WORKFLOW.contains("subject-name: ${{ env.IMAGE }}"));
    let repository = env!("CARGO_PKG_REPOSITORY").trim_start_matches("https://github.com/");
    assert_eq!(attestation, format!("gh attestation verify oci://{image}:X.Y.Z --repo {repository}"));
}
