//! The images that the nodes know. The lab has no registry, so the contents of the images stand here.

use std::path::PathBuf;

use crate::parts::Parts;

/// The program that a known image runs.
pub(crate) enum Image {
    /// A program, and the image's settings of how to start it.
    Program(Program),
    /// The backend of `echo.rs`, a task of the lab.
    Echo,
}

pub(crate) struct Program {
    /// The program's name. `command` may have it with any folder before it.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// Whether the image has a shell and the tools that go with it, for probes that run a command.
    pub(crate) shell: bool,
    /// The image's `CMD`, for a container without `command` and `args`.
    pub(crate) default_args: &'static [&'static str],
    /// The image's `ENV`, which the container's own `env` overrides. Each variable spells out a default of the program
    /// that would reach out of the container's root or address. Spelt out, it gets mapped like any other variable.
    pub(crate) env: &'static [(&'static str, &'static str)],
}

impl Image {
    /// Finds an image; `None` means that no registry has it. `operator` is the built operator, if this lab has one.
    pub(crate) fn find(reference: &str, parts: &Parts, operator: Option<&PathBuf>) -> Option<Image> {
        let repository = repository(reference);
        if repository.ends_with("frpc") {
            return Some(Image::Program(Program {
                name: "frpc",
                path: parts.frp_of(reference).frpc.clone(),
                shell: !repository.contains("distroless"),
                default_args: &["-c", "/etc/frp/frpc.toml"],
                env: &[],
            }));
        }
        if repository.ends_with("fly-tunnel-operator") {
            return Some(Image::Program(Program {
                name: "fly-tunnel-operator",
                path: operator?.clone(),
                shell: false,
                default_args: &[],
                env: &[
                    ("HTTP_BIND_ADDRESS", ":8080"),
                    ("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"),
                ],
            }));
        }
        (repository == "echo").then_some(Image::Echo)
    }
}

/// The reference `ghcr.io:443/owner/name:tag@sha256:...` without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_what_precedes_tag_and_digest() {
        for (reference, expected) in [
            ("echo", "echo"),
            ("echo:1", "echo"),
            ("snowdreamtech/frpc:0.61.1", "snowdreamtech/frpc"),
            ("localhost:5000/frpc", "localhost:5000/frpc"),
            ("localhost:5000/frpc:1@sha256:00", "localhost:5000/frpc"),
            ("frpc@sha256:00", "frpc"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }
}
