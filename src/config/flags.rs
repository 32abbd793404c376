//! The table of flags: parsing, the environment, `--help` and docs/flags.md all come from it.
//!
//! Each row is a constant too, and the code asks for a value by that constant. So the compiler finds a name that is no row,
//! and warns of a row that no code reads.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::text::wrapped;

/// One setting, as a user may give it.
pub struct Flag {
    /// Long name without the dashes; empty where only the environment may carry the value.
    pub name: &'static str,
    /// Environment variable, read where the flag is not given; empty where there is none.
    pub env: &'static str,
    /// The word that stands for the value in `--help`; empty for a switch, which takes none.
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

macro_rules! flags {
    ($($constant:ident $row:tt)*) => {
        $(pub const $constant: Flag = flag $row;)*
        /// All settings, in the order of `--help`.
        const FLAGS: &[Flag] = &[$(flag $row),*];
    };
}

flags! {
    FLY_API_TOKEN_FILE("fly-api-token-file", "FLY_API_TOKEN_FILE", "FILE", None,
        "File with the Fly token; read again when it changes, so that a rotated Secret needs no restart (a pipe is read once)")
    FLY_API_TOKEN("", "FLY_API_TOKEN", "TOKEN", None,
        "The Fly token itself, where no file is given. No flag: arguments show in process lists")
    FLY_ORG("fly-org", "FLY_ORG", "SLUG", None,
        "Organisation that owns and pays for the Fly Apps, such as personal (required)")
    FLY_REGION("fly-region", "FLY_REGION", "REGIONS", None,
        "Fly region, or a list in order of preference, such as ord or ord,iad (required)")
    FLY_MACHINE_SIZE("fly-machine-size", "FLY_MACHINE_SIZE", "SIZE", Some("shared-cpu-1x"),
        "Size of a Fly Machine")
    FLY_API_URL("fly-api-url", "FLY_FLAPS_BASE_URL", "URL", Some("https://api.machines.dev"),
        "Fly's Machines API")
    FLY_SERVICE_CHECKS("fly-service-checks", "FLY_SERVICE_CHECKS", "true|tcp|false", Some("true"),
        "Let Fly check each Service port before it routes to it: through the tunnel and by a knock at the port. tcp: by the knock alone. false: the address is shown once the Machine has started and frpc is available")
    FLY_SETTLE_TIME("fly-settle-time", "FLY_SETTLE_TIME", "DURATION", Some("10s"),
        "How long Fly's edges take to learn of a change: waited between a new lane healthy and an old one cordoned")
    LOAD_BALANCER_CLASS("load-balancer-class", "LOAD_BALANCER_CLASS", "CLASS", Some("fly-tunnel-operator.dev/lb"),
        "The spec.loadBalancerClass to serve")
    FRPS_IMAGE("frps-image", "FRPS_IMAGE", "IMAGE", Some("fatedier/frps:v0.71.0"),
        "frp server, run on the Machine")
    FRPC_IMAGE("frpc-image", "FRPC_IMAGE", "IMAGE", Some("fatedier/frpc:v0.71.0"),
        "frp client, run in the cluster")
    FRPC_POD_FILE("frpc-pod-file", "FRPC_POD_FILE", "FILE", None,
        "JSON file with any of tolerations, nodeSelector, affinity, imagePullSecrets, priorityClassName, annotations, labels for the frpc pods")
    CONTROL_PORT_BASE("control-port-base", "CONTROL_PORT_BASE", "PORT", Some("7000"),
        "frps listens for frpc on the first free port from here")
    NAMESPACE("namespace", "OPERATOR_NAMESPACE", "NAME", None,
        "Where frpc, its Secrets and the Lease live: one for all operators of a class (default: the pod's own, else fly-tunnel-operator-system)")
    CLUSTER_NAME("cluster-name", "CLUSTER_NAME", "NAME", None,
        "With the class, the owner of the Fly Apps (default: the UID of the namespace kube-system)")
    POLL_INTERVAL("poll-interval", "POLL_INTERVAL", "DURATION", Some("5s"),
        "How often Services are listed")
    RESYNC_INTERVAL("resync-interval", "RESYNC_INTERVAL", "DURATION", Some("60s"),
        "Fly and the cluster are swept twice in this time for what is not as it was left")
    DRAIN_TIMEOUT("drain-timeout", "DRAIN_TIMEOUT", "DURATION", Some("5m"),
        "How long a replaced lane keeps its established connections; at least the settle time. A tunnel has at most three lanes that retire")
    WORKERS("workers", "WORKERS", "COUNT", Some("32"),
        "Tunnels worked on at once")
    LEADER_ELECT("leader-elect", "LEADER_ELECT", BOOL, Some("true"),
        "Work only while holding the Lease in --namespace, so that several operators may run. false: no other may run")
    LEADER_ELECT_LEASE_DURATION("leader-elect-lease-duration", "LEADER_ELECT_LEASE_DURATION", "DURATION", Some("60s"),
        "How long a leader that gives no sign of life is waited for")
    LEADER_ELECT_RENEW_DEADLINE("leader-elect-renew-deadline", "LEADER_ELECT_RENEW_DEADLINE", "DURATION", Some("40s"),
        "A leader that cannot renew the Lease for so long stands by. No request takes longer than the lease duration less this")
    LEADER_ELECT_RETRY_PERIOD("leader-elect-retry-period", "LEADER_ELECT_RETRY_PERIOD", "DURATION", Some("10s"),
        "How often the leader renews the Lease, and the others look at it")
    HTTP_BIND_ADDRESS("http-bind-address", "HTTP_BIND_ADDRESS", "ADDRESS", Some(":8080"),
        "Where /healthz, /readyz and /metrics are served")
    KUBECONFIG("kubeconfig", "KUBECONFIG", "FILES", None,
        "kubeconfig files, as kubectl reads them (default: in-cluster, else ~/.kube/config)")
    CONTEXT("context", "", "NAME", None,
        "Context of the kubeconfig (default: its current-context)")
    SERVICE_ACCOUNT_DIR("service-account-dir", "SERVICE_ACCOUNT_DIR", "DIR", Some("/var/run/secrets/kubernetes.io/serviceaccount"),
        "Where the ServiceAccount's token, CA and namespace are mounted")
    LOG_FORMAT("log-format", "LOG_FORMAT", "FORMAT", Some("text"),
        "text or json; the level is RUST_LOG's, else info")
    DELETE_ORPHANS("delete-orphans", "DELETE_ORPHANS", BOOL, Some("false"),
        "Delete Apps of this owner that no Service asks for, once they were seen as such for ten minutes; otherwise they are only told of")
    ONCE("once", "", "", None,
        "Work until nothing is left to do or to wait for. Exit code 1: a tunnel failed, a Service was refused or another operator leads")
    DRY_RUN("dry-run", "", "", None,
        "Print what would be done, and do nothing")
    DRAIN("drain", "", "", None,
        "Before an uninstall: take the Lease over, take down every tunnel of this owner, and exit. Exit code 1: something is left")
}

/// The value of a switch that is given.
const ON: &str = "on";

/// The word for the value of a flag that may stand without one, and the value that it has then.
const BOOL: &str = "BOOL";
const YES: &str = "true";

/// The longest line of `--help`.
const WIDTH: usize = 100;

impl Flag {
    /// The flag and its variable, as a message names the setting.
    pub fn label(&self) -> String {
        match (self.name, self.env) {
            ("", env) => env.to_owned(),
            (name, "") => format!("--{name}"),
            (name, env) => format!("--{name} ({env})"),
        }
    }

    /// The name by which a value is kept.
    fn key(&self) -> &'static str {
        if self.name.is_empty() { self.env } else { self.name }
    }
}

/// A command line asks for one of these.
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
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
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
                values.insert(flag.key(), ON.to_owned());
                continue;
            }
            let is_next = |raw: lexopt::RawArgs| Some(!raw.peek()?.to_str()?.starts_with('-'));
            let value = match parser.optional_value() {
                Some(value) => value,
                // A question is answered with yes where nothing else is said.
                None if flag.value == BOOL && parser.try_raw_args().and_then(is_next) != Some(true) => YES.into(),
                None => parser.value().map_err(|_| format!("--{name}: give {}", flag.value))?,
            };
            let value = value.into_string().map_err(|_| format!("--{name}: the value is not UTF-8"))?;
            values.insert(flag.key(), value);
        }
        for flag in FLAGS.iter().filter(|flag| !flag.env.is_empty()) {
            if values.contains_key(flag.key()) {
                continue;
            }
            match environment(flag.env) {
                Some(value) if !value.is_empty() => {
                    let value = value.into_string().map_err(|_| format!("{}: the value is not UTF-8", flag.env))?;
                    values.insert(flag.key(), value);
                }
                _ => {}
            }
        }
        Ok(Command::Run(Given { values }))
    }

    /// The value of a flag, else its default.
    pub fn value(&self, flag: &Flag) -> Option<&str> {
        self.values.get(flag.key()).map(String::as_str).or(flag.default)
    }

    /// The checked value of a flag that is required, or has a default.
    ///
    /// # Errors
    /// It is missing, or `parse` refuses it: a message that names the flag, and tells what was given and what is allowed.
    pub fn parsed<T>(&self, flag: &Flag, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        self.optional(flag, parse)?.ok_or_else(|| format!("{} is required: {}", flag.label(), flag.help))
    }

    /// The checked value of a flag that may be left out.
    ///
    /// # Errors
    /// `parse` refuses it: a message as that of [`Given::parsed`].
    pub fn optional<T>(&self, flag: &Flag, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        self.value(flag).map(parse).transpose().map_err(|allowed| self.refused(flag, &allowed))
    }

    /// The message for a value that is not allowed.
    pub fn refused(&self, flag: &Flag, allowed: &str) -> String {
        let value = self.value(flag).unwrap_or_default();
        format!("{}: {value:?} is not allowed; {allowed}", flag.label())
    }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "fly-tunnel-operator: public addresses for Services, through frp tunnels and Fly.io Machines\n\n\
         Usage: fly-tunnel-operator [FLAGS]\n\n\
         Each flag may be given by its environment variable instead; a flag wins.\n\n",
    );
    for flag in FLAGS {
        let head = match (flag.name, flag.env) {
            ("", env) => format!("{env}={}", flag.value),
            (name, "") => format!("--{name} {}", flag.value),
            (name, env) => format!("--{name} {}  [{env}]", flag.value),
        };
        text.push_str(&format!("  {}\n", head.trim_end()));
        let default = flag.default.map(|default| format!(" (default: {default})")).unwrap_or_default();
        let indent = "      ";
        for line in wrapped(&format!("{}{default}", flag.help), WIDTH - indent.len()) {
            text.push_str(&format!("{indent}{line}\n"));
        }
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
                assert_eq!(given(&[&name], &[]).value(flag), Some(ON), "{name}");
                let with_value = read(&[&format!("{name}=true")], &[]).err().expect("refused");
                assert!(with_value.contains("takes no value"), "{with_value}");
            } else if !flag.name.is_empty() {
                let name = format!("--{}", flag.name);
                assert_eq!(given(&[&name, "v"], &[]).value(flag), Some("v"), "{name} v");
                assert_eq!(given(&[&format!("{name}=v")], &[]).value(flag), Some("v"), "{name}=v");
                if flag.value == BOOL {
                    assert_eq!(given(&[&name], &[]).value(flag), Some(YES), "{name}");
                    assert_eq!(given(&[&name, "--once"], &[]).value(flag), Some(YES), "{name} --once");
                }
                if !flag.env.is_empty() {
                    let both = given(&[&name, "v"], &[(flag.env, "e")]);
                    assert_eq!(both.value(flag), Some("v"), "a flag wins over {}", flag.env);
                }
            }
            if !flag.env.is_empty() {
                assert_eq!(given(&[], &[(flag.env, "e")]).value(flag), Some("e"), "{}", flag.env);
                assert_eq!(given(&[], &[(flag.env, "")]).value(flag), flag.default, "{} empty", flag.env);
            }
            assert_eq!(given(&[], &[]).value(flag), flag.default);
        }
    }

    #[test]
    fn help_tells_of_every_flag_in_lines_that_fit_a_terminal() {
        let help = help();
        let words: Vec<&str> = help.split_whitespace().collect();
        for flag in FLAGS {
            assert!(words.join(" ").contains(flag.help), "--help tells of {}", flag.label());
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    /// Compares the table in docs/flags.md with ours; with `UPDATE=1` in the environment writes it.
    #[test]
    fn the_page_has_this_table() {
        const BEGIN: &str = "<!-- flags: this table is written by `UPDATE=1 cargo test flags` -->\n";
        const END: &str = "<!-- end of flags -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/flags.md");
        let page = std::fs::read_to_string(path).expect("docs/flags.md");
        let (before, rest) = page.split_once(BEGIN).expect("the table's begin");
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
            std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}"))
                .expect("docs/flags.md can be written");
        } else {
            assert_eq!(table, expected, "run UPDATE=1 cargo test flags");
        }
    }

    #[test]
    fn an_unknown_argument_is_refused_by_name() {
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
