//! The images that Machines can run: any repository that ends in `frps`. Their contents follow the Dockerfiles of the
//! real ones.
//!
//! The lab has two versions of frps, see [`Parts::frp_of`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::types::MachineConfig;
use crate::parts::Parts;

/// A process of a Machine. `argv` is never empty.
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

/// Files by their path in the Machine, with mode and content.
pub(crate) type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// Whether the lab can run this image.
pub(crate) fn is_known(image: &str) -> bool {
    repository(image).ends_with("frps")
}

/// The `registry/repository` of an image, without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(repository, _)| repository)
}

fn is_snowdreamtech(image: &str) -> bool {
    repository(image).contains("snowdreamtech/")
}

/// The files that an image brings. `snowdreamtech/frps` ships a configuration without a token; `fatedier/frps` ships
/// none.
pub(crate) fn files(image: &str) -> Files {
    let shipped = ("/etc/frp/frps.toml".to_owned(), (0o644, b"bindPort = 7000\n".to_vec()));
    is_snowdreamtech(image).then_some(shipped).into_iter().collect()
}

/// The image's `ENTRYPOINT` and `CMD`.
fn defaults(image: &str) -> (Vec<String>, Vec<String>) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    if is_snowdreamtech(image) {
        (words(&["/usr/bin/frps"]), words(&["-c", "/etc/frp/frps.toml"]))
    } else {
        (words(&["/usr/bin/frps"]), Vec::new())
    }
}

/// The processes to start: one, or each of `processes`. `exec` overrides everything else; an `entrypoint` removes the
/// image's `CMD`, as in Docker.
///
/// # Errors
/// A process has no command.
pub(crate) fn commands(config: &MachineConfig) -> io::Result<Vec<Command>> {
    let image_defaults = defaults(config.image.as_deref().unwrap_or_default());
    let command = |exec: &Option<Vec<String>>, entrypoint: &Option<Vec<String>>, cmd: &Option<Vec<String>>, env| {
        let given = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
        let argv = given(exec).unwrap_or_else(|| {
            let default_cmd = if given(entrypoint).is_some() { Vec::new() } else { image_defaults.1.clone() };
            let mut argv = given(entrypoint).unwrap_or_else(|| image_defaults.0.clone());
            argv.extend(given(cmd).unwrap_or(default_cmd));
            argv
        });
        Command { argv, env }
    };
    let commands: Vec<Command> = match config.processes.as_deref() {
        Some(processes) if !processes.is_empty() => processes
            .iter()
            .map(|process| {
                let env = process.env.clone().unwrap_or_default();
                command(&process.exec, &process.entrypoint, &process.cmd, env)
            })
            .collect(),
        _ => {
            let init = config.init.clone().unwrap_or_default();
            vec![command(&init.exec, &init.entrypoint, &init.cmd, BTreeMap::new())]
        }
    };
    if commands.iter().any(|command| command.argv.is_empty()) {
        return Err(io::Error::other("a process without a command"));
    }
    Ok(commands)
}

/// The real program behind a path in the image.
///
/// # Errors
/// The image has no such program.
pub(crate) fn program(path: &str, image: &str, parts: &Parts) -> io::Result<PathBuf> {
    match path {
        "/usr/bin/frps" | "frps" => Ok(parts.frp_of(image).frps.clone()),
        other => Err(io::Error::new(io::ErrorKind::NotFound, format!("the image has no program {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Init, ProcessConfig};
    use super::*;

    fn argv(config: MachineConfig) -> Vec<String> {
        let commands = commands(&config).expect("commands");
        commands.iter().map(|command| command.argv.join(" ")).collect()
    }

    #[test]
    fn any_repository_that_ends_in_frps_is_known() {
        for known in ["snowdreamtech/frps:0.61.1", "registry.example:5000/me/my-frps", "fatedier/frps@sha256:00"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["nginx:latest", "frps/nginx", "me/frps-proxy"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }

    #[test]
    fn what_is_not_overridden_comes_from_the_image() {
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let config = |image: &str, init| MachineConfig {
            image: Some(image.to_owned()),
            init: Some(init),
            ..MachineConfig::default()
        };
        let snow = "snowdreamtech/frps:0.61.1";
        assert_eq!(argv(config("fatedier/frps", Init::default())), ["/usr/bin/frps"]);
        assert_eq!(argv(config(snow, Init::default())), ["/usr/bin/frps -c /etc/frp/frps.toml"]);
        assert_eq!(argv(config(snow, Init { cmd: words("-c /x"), ..Init::default() })), ["/usr/bin/frps -c /x"]);
        assert_eq!(argv(config(snow, Init { entrypoint: words("frps"), ..Init::default() })), ["frps"]);
        assert_eq!(
            argv(config(snow, Init { exec: words("frps -v"), cmd: words("x"), ..Init::default() })),
            ["frps -v"]
        );
        let process = |exec| ProcessConfig { exec: words(exec), ..ProcessConfig::default() };
        let two =
            MachineConfig { processes: Some(vec![process("frps a"), process("frps b")]), ..MachineConfig::default() };
        assert_eq!(argv(two), ["frps a", "frps b"]);
    }
}
