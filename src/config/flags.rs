//! The table of flags: parsing, the environment, `--help` and the README all come from it.

use std::collections::BTreeMap;

/// One setting, as a user may give it.
pub struct Flag {
    /// Long name without the dashes; empty where only the environment may carry the value.
    pub name: &'static str,
    /// Environment variable, read where the flag is not given; empty where there is none.
    pub env: &'static str,
    /// What stands for the value in `--help`; empty for a switch, which takes none.
    pub value: &'static str,
    pub default: Option<&'static str>,
    pub help: &'static str,
}

const fn flag(
    name: &'static str,
    env: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag { name, env, value, default, help }
}

/// All settings, in the order of `--help`.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    flag("fly-api-token-file", "FLY_API_TOKEN_FILE", "FILE", None,
        "File with the Fly token; read again when it changes, so that a rotated Secret needs no restart"),
    flag("", "FLY_API_TOKEN", "TOKEN", None,
        "The Fly token itself, where no file is given. No flag: arguments show in process lists"),
    flag("fly-org", "FLY_ORG", "SLUG", None,
        "Organisation that owns and pays for the Fly Apps, such as personal (required)"),
    flag("fly-region", "FLY_REGION", "REGIONS", None,
        "Fly region, or a list in order of preference, such as ord or ord,iad (required)"),
    flag("fly-machine-size", "FLY_MACHINE_SIZE", "SIZE", Some("shared-cpu-1x"),
        "Size of a Fly Machine"),
    flag("fly-api-url", "FLY_FLAPS_BASE_URL", "URL", Some("https://api.machines.dev"),
        "Fly's Machines API"),
    flag("fly-service-checks", "FLY_SERVICE_CHECKS", "BOOL", Some("true"),
        "Let Fly check each Service port before it routes to it. false: the address is shown once the Machine has started and frpc is available"),
    flag("fly-settle-time", "FLY_SETTLE_TIME", "DURATION", Some("10s"),
        "How long Fly's edges take to learn of a change: waited between a new lane healthy and an old one cordoned"),
    flag("load-balancer-class", "LOAD_BALANCER_CLASS", "CLASS", Some("fly-tunnel-operator.dev/lb"),
        "The spec.loadBalancerClass to serve"),
    flag("frps-image", "FRPS_IMAGE", "IMAGE", Some("snowdreamtech/frps:0.61.1"),
        "frp server, run on the Machine"),
    flag("frpc-image", "FRPC_IMAGE", "IMAGE", Some("snowdreamtech/frpc:0.61.1"),
        "frp client, run in the cluster"),
    flag("frpc-pod-file", "FRPC_POD_FILE", "FILE", None,
        "JSON file with any of tolerations, nodeSelector, affinity, imagePullSecrets, priorityClassName for the frpc pods"),
    flag("control-port-base", "CONTROL_PORT_BASE", "PORT", Some("7000"),
        "frps listens for frpc on the first free port from here"),
    flag("namespace", "OPERATOR_NAMESPACE", "NAME", None,
        "Where frpc, its Secrets and the Lease live: one for all operators of a class (default: the pod's own, else fly-tunnel-operator-system)"),
    flag("cluster-name", "CLUSTER_NAME", "NAME", None,
        "With the class, the owner of the Fly Apps (default: the UID of the namespace kube-system)"),
    flag("poll-interval", "POLL_INTERVAL", "DURATION", Some("5s"),
        "How often Services are listed"),
    flag("resync-interval", "RESYNC_INTERVAL", "DURATION", Some("60s"),
        "How often each tunnel is compared with Fly and the cluster"),
    flag("drain-timeout", "DRAIN_TIMEOUT", "DURATION", Some("60s"),
        "How long a replaced lane keeps its established connections; at least the settle time"),
    flag("workers", "WORKERS", "COUNT", Some("32"),
        "Tunnels worked on at once"),
    flag("leader-elect", "LEADER_ELECT", "BOOL", Some("true"),
        "Work only while holding the Lease fly-tunnel-operator (and a hash of the class, for another than the default) in --namespace, so that several may run. false: nothing else may run"),
    flag("leader-elect-lease-duration", "LEADER_ELECT_LEASE_DURATION", "DURATION", Some("60s"),
        "How long a leader that gives no sign of life is waited for"),
    flag("leader-elect-renew-deadline", "LEADER_ELECT_RENEW_DEADLINE", "DURATION", Some("40s"),
        "A leader that cannot renew the Lease for so long stands by. No request takes longer than the lease duration less this"),
    flag("leader-elect-retry-period", "LEADER_ELECT_RETRY_PERIOD", "DURATION", Some("10s"),
        "How often the leader renews the Lease, and the others look at it"),
    flag("http-bind-address", "HTTP_BIND_ADDRESS", "ADDRESS", Some(":8080"),
        "Where /healthz, /readyz and /metrics are served"),
    flag("kubeconfig", "KUBECONFIG", "FILES", None,
        "kubeconfig files, as kubectl reads them (default: in-cluster, else ~/.kube/config)"),
    flag("context", "", "NAME", None,
        "Context of the kubeconfig (default: its current-context)"),
    flag("service-account-dir", "SERVICE_ACCOUNT_DIR", "DIR", Some("/var/run/secrets/kubernetes.io/serviceaccount"),
        "Where the ServiceAccount's token, CA and namespace are mounted"),
    flag("log-format", "LOG_FORMAT", "FORMAT", Some("text"),
        "text or json; the level is RUST_LOG's, else info"),
    flag("once", "", "", None,
        "Work until nothing is left to do or to wait for, then exit: 0, or 1 where a tunnel failed, a Service was refused or another operator leads"),
    flag("dry-run", "", "", None,
        "Print what would be done, and do nothing"),
    flag("drain", "", "", None,
        "Before an uninstall: take the Lease from whoever holds it, wait until that operator must have stopped, take down every tunnel of this owner, then exit 0, or 1 where something is left. No operator that runs makes them again"),
];

/// What a switch that is given has as its value.
pub const ON: &str = "on";

impl Flag {
    /// How a message names the setting.
    pub fn label(&self) -> String {
        match (self.name, self.env) {
            ("", env) => env.to_owned(),
            (name, "") => format!("--{name}"),
            (name, env) => format!("--{name} ({env})"),
        }
    }
}

/// What the command line asks for.
pub enum Command {
    Run(Given),
    Help,
    Version,
}

/// The values as given, before anything is checked.
pub struct Given {
    values: BTreeMap<&'static str, String>,
}

impl Given {
    /// Reads the command line, then the environment for what it leaves open. An empty variable counts as not set.
    ///
    /// # Errors
    /// An unknown argument, a flag without its value, or a value that is not UTF-8: a message for the user.
    pub fn read(
        arguments: impl IntoIterator<Item = std::ffi::OsString>,
        environment: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Command, String> {
        let mut values = BTreeMap::new();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
            let name = match argument {
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(Command::Help),
                lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => return Ok(Command::Version),
                lexopt::Arg::Long(name) => name.to_owned(),
                other => return Err(format!("{}; --help lists all flags", other.unexpected())),
            };
            let flag = FLAGS
                .iter()
                .find(|flag| !flag.name.is_empty() && flag.name == name)
                .ok_or_else(|| format!("--{name}: no such flag; --help lists all"))?;
            if flag.value.is_empty() {
                if parser.optional_value().is_some() {
                    return Err(format!("--{name} takes no value"));
                }
                values.insert(key(flag), ON.to_owned());
                continue;
            }
            let value = parser.value().map_err(|_| format!("--{name}: give {}", flag.value))?;
            let value = value.into_string().map_err(|_| format!("--{name}: the value is not UTF-8"))?;
            values.insert(key(flag), value);
        }
        for flag in FLAGS.iter().filter(|flag| !flag.env.is_empty()) {
            if values.contains_key(key(flag)) {
                continue;
            }
            match environment(flag.env) {
                Some(value) if !value.is_empty() => {
                    let value = value.into_string().map_err(|_| format!("{}: the value is not UTF-8", flag.env))?;
                    values.insert(key(flag), value);
                }
                _ => {}
            }
        }
        Ok(Command::Run(Given { values }))
    }

    /// The value of the flag of that name (or of that variable, where there is no flag), else its default.
    pub fn value(&self, name: &'static str) -> Option<&str> {
        self.values.get(name).map(String::as_str).or_else(|| find(name).default)
    }
}

/// The flag of that name, or the setting of that environment variable where it has no flag.
pub fn find(name: &str) -> &'static Flag {
    FLAGS.iter().find(|flag| key(flag) == name).expect("every name in the code is a row of FLAGS")
}

fn key(flag: &Flag) -> &'static str {
    if flag.name.is_empty() { flag.env } else { flag.name }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "fly-tunnel-operator: public addresses for Services, through frp tunnels and Fly.io Machines\n\n\
         Usage: fly-tunnel-operator [FLAGS]\n\n\
         Each flag may be given by its environment variable instead; a flag wins.\n\n",
    );
    for flag in FLAGS {
        match flag.name {
            "" => text.push_str(&format!("  {}={}\n", flag.env, flag.value)),
            name => {
                text.push_str(format!("  --{name} {}", flag.value).trim_end());
                if !flag.env.is_empty() {
                    text.push_str(&format!("  [{}]", flag.env));
                }
                text.push('\n');
            }
        }
        text.push_str(&format!("      {}", flag.help));
        if let Some(default) = flag.default {
            text.push_str(&format!(" (default: {default})"));
        }
        text.push('\n');
    }
    text.push_str("  --help, --version\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, String> {
        let environment = environment.to_vec();
        Given::read(arguments.iter().map(Into::into), move |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    fn given(arguments: &[&str], environment: &[(&str, &str)]) -> Given {
        match read(arguments, environment) {
            Ok(Command::Run(given)) => given,
            Ok(_) => panic!("not a run"),
            Err(message) => panic!("{message}"),
        }
    }

    #[test]
    fn every_flag_is_taken_in_all_its_forms() {
        for flag in FLAGS {
            if flag.value.is_empty() {
                let name = format!("--{}", flag.name);
                assert_eq!(given(&[&name], &[]).value(key(flag)), Some(ON), "{name}");
                let with_value = read(&[&format!("{name}=true")], &[]).err().expect("refused");
                assert!(with_value.contains("takes no value"), "{with_value}");
            } else if !flag.name.is_empty() {
                let name = format!("--{}", flag.name);
                assert_eq!(given(&[&name, "v"], &[]).value(key(flag)), Some("v"), "{name} v");
                assert_eq!(given(&[&format!("{name}=v")], &[]).value(key(flag)), Some("v"), "{name}=v");
                if !flag.env.is_empty() {
                    let both = given(&[&name, "v"], &[(flag.env, "e")]);
                    assert_eq!(both.value(key(flag)), Some("v"), "a flag wins over {}", flag.env);
                }
            }
            if !flag.env.is_empty() {
                assert_eq!(given(&[], &[(flag.env, "e")]).value(key(flag)), Some("e"), "{}", flag.env);
                assert_eq!(given(&[], &[(flag.env, "")]).value(key(flag)), flag.default, "{} empty", flag.env);
            }
            assert_eq!(given(&[], &[]).value(key(flag)), flag.default);
            assert!(help().contains(flag.help), "--help tells of {}", flag.label());
        }
    }

    /// Compares the table in README.md with ours; with `UPDATE=1` in the environment writes it.
    #[test]
    fn readme_has_this_table() {
        const BEGIN: &str = "<!-- flags: this table is written by `UPDATE=1 cargo test readme` -->\n";
        const END: &str = "<!-- end of flags -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).expect("README.md");
        let (before, rest) = readme.split_once(BEGIN).expect("the table's begin");
        let (table, after) = rest.split_once(END).expect("the table's end");
        let mut expected = String::from("| flag | environment | default | meaning |\n|---|---|---|---|\n");
        for Flag { name, env, default, help, .. } in FLAGS {
            let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
            let flag = if name.is_empty() { String::new() } else { format!("`--{name}`") };
            expected.push_str(&format!(
                "| {flag} | {} | {} | {help} |\n",
                code(env),
                code(default.unwrap_or_default())
            ));
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("README.md can be written");
        } else {
            assert_eq!(table, expected, "run UPDATE=1 cargo test readme");
        }
    }

    #[test]
    fn what_is_no_flag_is_refused_by_name() {
        for (arguments, named) in [
            (&["--fly-regoin", "ord"][..], "--fly-regoin"),
            (&["--fly-region"][..], "--fly-region"),
            (&["ord"][..], "ord"),
            (&["-x"][..], "-x"),
        ] {
            let message = read(arguments, &[]).err().expect("refused");
            assert!(message.contains(named), "{message}");
        }
    }
}
