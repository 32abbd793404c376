//! The images that the nodes know. There is no registry in the lab: what an image would bring stands here.

use std::path::PathBuf;

use crate::parts::Parts;

/// What a known image runs.
pub(crate) enum Image {
    /// A program and what the image says about how to start it.
    Program(Program),
    /// The backend of `echo.rs`, a task of the lab.
    Echo,
}

pub(crate) struct Program {
    /// The name that `command` may call it by, under any folder.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// `CMD`, for a container without `command` and `args`.
    pub(crate) default_args: &'static [&'static str],
    /// `ENV`, which the container's own `env` overrides. Each is a default of the program that would reach out of the
    /// container's root or address; spelt out, it gets mapped as if the container had said it.
    pub(crate) env: &'static [(&'static str, &'static str)],
}

impl Image {
    /// `None`: no registry has it. `operator` is the built operator, if this lab has one.
    pub(crate) fn find(reference: &str, parts: &Parts, operator: Option<&PathBuf>) -> Option<Image> {
        let repository = repository(reference);
        if repository.ends_with("frpc") {
            // facts/frp.md §9
            return Some(Image::Program(Program {
                name: "frpc",
                path: parts.frpc.clone(),
                default_args: &["-c", "/etc/frp/frpc.toml"],
                env: &[],
            }));
        }
        if repository.ends_with("fly-tunnel-operator") {
            return Some(Image::Program(Program {
                name: "fly-tunnel-operator",
                path: operator?.clone(),
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

/// `ghcr.io:443/owner/name:tag@sha256:...` without tag and digest.
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
