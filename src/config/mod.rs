//! Flags and environment become one checked `Config`.

pub mod flags;

use std::path::PathBuf;
use std::time::Duration;

use kube_client_lite::lease::Timings;
use serde::Deserialize;

use crate::fly::FlyConfig;
use crate::fly::token::TokenSource;
use crate::service::annotations;
use crate::service::machine_size::MachineSize;
use flags::Given;

/// The class that is served unless another is given; its finalizer and Lease have the plain names.
pub const DEFAULT_CLASS: &str = "fly-tunnel-operator.dev/lb";

/// Where frpc and its Secrets live when nobody says otherwise and we do not run in a pod.
const DEFAULT_NAMESPACE: &str = "fly-tunnel-operator-system";

/// Nobody waits longer than that, and clocks can be added to it.
const LONGEST_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// No request takes longer than that, so that a worker is never stuck. Creating a Machine takes Fly a few seconds.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// What a request must be given at least.
const SHORTEST_REQUEST: Duration = Duration::from_secs(1);

/// Everything that a user may set, checked. Nothing in it changes while the process runs.
#[derive(Clone)]
pub struct Config {
    pub fly: FlyConfig,
    pub kubernetes: KubernetesConfig,
    pub lanes: LaneConfig,
    pub class: String,
    /// `None`: the UID of the namespace `kube-system`.
    pub cluster_name: Option<String>,
    pub poll_interval: Duration,
    pub resync_interval: Duration,
    pub workers: usize,
    /// `None`: nobody else runs.
    pub election: Option<Timings>,
    /// What `/healthz`, `/readyz` and `/metrics` are served on.
    pub http_bind_address: String,
    pub log_format: LogFormat,
    pub mode: Mode,
}

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serve until it is told to end.
    Serve,
    /// Serve until nothing is left to do.
    Once,
    /// Print what would be done.
    DryRun,
    /// Take down every tunnel.
    Drain,
}

#[derive(Clone)]
pub struct KubernetesConfig {
    pub kubeconfig: Option<String>,
    pub context: Option<String>,
    pub service_account_dir: PathBuf,
    /// `None`: the pod's own, else [`DEFAULT_NAMESPACE`].
    pub namespace: Option<String>,
}

/// What all lanes are made from.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    pub region: String,
    pub size: MachineSize,
    pub frps_image: String,
    pub frpc_image: String,
    pub frpc_pod: PodFile,
    pub control_port_base: u16,
    pub service_checks: bool,
    pub settle_time: Duration,
    pub drain_timeout: Duration,
}

/// What users may say about the frpc pods (`--frpc-pod-file`). The values are Kubernetes' own and go into the pod as
/// they are; the API server judges them.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PodFile {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first bad or missing value: a message that names the flag, what was given and what is allowed.
    pub fn resolve(given: &Given) -> Result<Config, String> {
        let settle_time = duration(given, "fly-settle-time", Duration::ZERO)?;
        let drain_timeout = duration(given, "drain-timeout", settle_time)?;
        Ok(Config {
            fly: FlyConfig {
                url: parsed(given, "fly-api-url", url)?,
                org: parsed(given, "fly-org", slug)?,
                token: token(given)?,
            },
            kubernetes: KubernetesConfig {
                kubeconfig: given.value("kubeconfig").map(Into::into),
                context: given.value("context").map(Into::into),
                service_account_dir: parsed(given, "service-account-dir", |dir| Ok(PathBuf::from(dir)))?,
                namespace: optional(given, "namespace", slug)?,
            },
            lanes: LaneConfig {
                region: parsed(given, "fly-region", annotations::region)?,
                size: parsed(given, "fly-machine-size", MachineSize::parse)?,
                frps_image: parsed(given, "frps-image", image)?,
                frpc_image: parsed(given, "frpc-image", image)?,
                frpc_pod: optional(given, "frpc-pod-file", pod_file)?.unwrap_or_default(),
                control_port_base: parsed(given, "control-port-base", |value| {
                    value.parse().ok().filter(|port| *port > 0).ok_or_else(|| "give a port from 1 to 65535".into())
                })?,
                service_checks: parsed(given, "fly-service-checks", bool)?,
                settle_time,
                drain_timeout,
            },
            class: parsed(given, "load-balancer-class", class)?,
            cluster_name: optional(given, "cluster-name", |name| match name.trim().is_empty() {
                true => Err("give a name that no other cluster of the organisation has".into()),
                false => Ok(name.to_owned()),
            })?,
            poll_interval: duration(given, "poll-interval", Duration::from_millis(100))?,
            resync_interval: duration(given, "resync-interval", Duration::from_secs(1))?,
            workers: parsed(given, "workers", |value| {
                value.parse().ok().filter(|n| (1..=256).contains(n)).ok_or_else(|| "give a number from 1 to 256".into())
            })?,
            election: election(given)?,
            http_bind_address: parsed(given, "http-bind-address", bind_address)?,
            log_format: parsed(given, "log-format", |value| match value {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("give text or json".into()),
            })?,
            mode: mode(given)?,
        })
    }

    /// The longest that any request may take. What a leader sends in the last moment of its term must be over before
    /// another leads.
    pub fn request_timeout(&self) -> Duration {
        let between_terms =
            self.election.map_or(Duration::MAX, |timings| timings.lease_duration - timings.renew_deadline);
        LONGEST_REQUEST.min(between_terms)
    }
}

impl KubernetesConfig {
    /// The namespace for frpc and the Lease. That of a kubeconfig's context is never asked: it is a person's, not ours.
    pub fn namespace_or(&self, pods_own: Option<&str>) -> String {
        self.namespace.as_deref().or(pods_own).unwrap_or(DEFAULT_NAMESPACE).to_owned()
    }
}

/// A required value, or one that has a default.
fn parsed<T>(given: &Given, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
    optional(given, name, parse)?
        .ok_or_else(|| format!("{} is required: {}", flags::find(name).label(), flags::find(name).help))
}

fn optional<T>(
    given: &Given,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let Some(value) = given.value(name) else { return Ok(None) };
    match parse(value) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(allowed) => Err(format!("{}: {value:?} is not allowed; {allowed}", flags::find(name).label())),
    }
}

fn duration(given: &Given, name: &'static str, least: Duration) -> Result<Duration, String> {
    parsed(given, name, |value| match humantime::parse_duration(value) {
        Ok(duration) if duration < least => Err(format!("give at least {}", humantime::format_duration(least))),
        Ok(duration) if duration > LONGEST_DURATION => Err("give at most 365 days".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("give a duration such as 500ms, 10s or 1m30s".into()),
    })
}

fn bool(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "give true or false".into())
}

fn election(given: &Given) -> Result<Option<Timings>, String> {
    if !parsed(given, "leader-elect", bool)? {
        return Ok(None);
    }
    let [lease, renew, retry] =
        ["leader-elect-lease-duration", "leader-elect-renew-deadline", "leader-elect-retry-period"];
    let timings = Timings {
        lease_duration: duration(given, lease, SHORTEST_REQUEST)?,
        renew_deadline: duration(given, renew, Duration::ZERO)?,
        retry_period: duration(given, retry, Duration::from_millis(100))?,
    };
    let refused = |name, allowed: String| {
        let value = given.value(name).unwrap_or_default();
        Err(format!("{}: {value:?} is not allowed; {allowed}", flags::find(name).label()))
    };
    // As client-go asks.
    if timings.renew_deadline <= timings.retry_period.mul_f64(1.2) {
        let period = given.value(retry).unwrap_or_default();
        let allowed = format!("give more than 1.2 times --{retry} ({period}), so that a leader can try again");
        return refused(renew, allowed);
    }
    if timings.lease_duration < timings.renew_deadline + SHORTEST_REQUEST {
        let deadline = given.value(renew).unwrap_or_default();
        let allowed =
            format!("give at least 1s more than --{renew} ({deadline}): no request may take longer than that gap");
        return refused(lease, allowed);
    }
    Ok(Some(timings))
}

fn mode(given: &Given) -> Result<Mode, String> {
    let modes = [("once", Mode::Once), ("dry-run", Mode::DryRun), ("drain", Mode::Drain)];
    let asked: Vec<_> = modes.into_iter().filter(|(name, _)| given.value(name).is_some()).collect();
    match asked[..] {
        [] => Ok(Mode::Serve),
        [(_, Mode::Drain)] if !parsed(given, "leader-elect", bool)? => Err(
            "--drain: leave --leader-elect at true; it takes the Lease, so that no operator makes the tunnels again"
                .into(),
        ),
        [(_, mode)] => Ok(mode),
        [(one, _), (other, _), ..] => Err(format!("--{one} and --{other}: give one of them")),
    }
}

/// `:8080`, `127.0.0.1:8080`, `[::1]:8080`
fn bind_address(value: &str) -> Result<String, String> {
    let port = value.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| value.to_owned()).ok_or_else(|| "give an address such as :8080 or 127.0.0.1:8080".into())
}

fn token(given: &Given) -> Result<TokenSource, String> {
    if let Some(file) = given.value("fly-api-token-file") {
        let source = TokenSource::File(file.into());
        return match source.read() {
            Ok(_) => Ok(source),
            Err(error) => Err(format!(
                "{}: {error}. In the cluster it is the key fly-api-token of the Secret that the chart's existingSecret names: \
                 is it there?",
                flags::find("fly-api-token-file").label()
            )),
        };
    }
    match given.value("FLY_API_TOKEN") {
        Some(token) => {
            let source = TokenSource::Value(token.into());
            source.read().map(|_| ()).map_err(|error| format!("FLY_API_TOKEN: {error}"))?;
            Ok(source)
        }
        None => Err("no Fly token: give --fly-api-token-file (FLY_API_TOKEN_FILE) or FLY_API_TOKEN; \
                     `fly tokens create org` makes one"
            .into()),
    }
}

fn url(value: &str) -> Result<String, String> {
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err("give a URL such as https://api.machines.dev".into()),
    }
}

/// Organisation slugs and namespaces: a DNS label.
fn slug(value: &str) -> Result<String, String> {
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match (1..=63).contains(&value.len()) && value.bytes().all(label) && !value.starts_with('-') {
        true => Ok(value.to_owned()),
        false => Err("give up to 63 lower-case letters, digits and dashes".into()),
    }
}

/// As Kubernetes has it: a name, with the prefix of a domain or none. No Service could ask for another.
fn class(value: &str) -> Result<String, String> {
    let (prefix, name) = value.split_once('/').map_or((None, value), |(prefix, name)| (Some(prefix), name));
    let ends = |text: &str| [text.bytes().next(), text.bytes().last()].iter().flatten().all(u8::is_ascii_alphanumeric);
    let name = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && ends(name);
    let prefix = prefix.is_none_or(|prefix| {
        let domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        (1..=253).contains(&prefix.len()) && prefix.bytes().all(domain) && ends(prefix)
    });
    match name && prefix {
        true => Ok(value.to_owned()),
        false => Err("give a label-style name such as fly-tunnel-operator.dev/lb".into()),
    }
}

fn image(value: &str) -> Result<String, String> {
    match !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(value.to_owned()),
        false => Err("give an image such as snowdreamtech/frps:0.61.1".into()),
    }
}

fn pod_file(path: &str) -> Result<PodFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags::Command;

    fn resolve(extra: &[(&str, &str)]) -> Result<Config, String> {
        let mut all = vec![("FLY_API_TOKEN", "fo1_t"), ("FLY_ORG", "personal"), ("FLY_REGION", "ord")];
        all.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
        all.extend(extra);
        let environment = |name: &str| all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        match Given::read([], environment)? {
            Command::Run(given) => Config::resolve(&given),
            _ => panic!("not a run"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = resolve(&[]).expect("the required ones are given");
        assert_eq!(config.class, DEFAULT_CLASS);
        assert_eq!(config.lanes.settle_time, Duration::from_secs(10));
        assert_eq!(config.lanes.drain_timeout, Duration::from_secs(60));
        assert_eq!(config.workers, 32);
        assert!(config.lanes.service_checks);
        assert_eq!(config.mode, Mode::Serve);
        let [lease_duration, renew_deadline, retry_period] = [60, 40, 10].map(Duration::from_secs);
        assert_eq!(config.election, Some(Timings { lease_duration, renew_deadline, retry_period }));
        assert_eq!(
            config.request_timeout(),
            Duration::from_secs(20),
            "no longer than lease duration less renew deadline"
        );
        assert_eq!(config.kubernetes.namespace_or(None), "fly-tunnel-operator-system");
        assert_eq!(config.kubernetes.namespace_or(Some("pods-own")), "pods-own");
    }

    #[test]
    fn a_bad_or_missing_value_names_the_flag_what_was_given_and_what_is_allowed() {
        for (variable, value, flag, told) in [
            ("FLY_ORG", "", "--fly-org", "required"),
            ("FLY_REGION", "", "--fly-region", "required"),
            ("FLY_API_TOKEN", "", "--fly-api-token-file", "fly tokens create org"),
            ("FLY_API_TOKEN", " \n", "FLY_API_TOKEN", "empty"),
            ("FLY_API_TOKEN_FILE", "/nowhere", "--fly-api-token-file", "/nowhere"),
            ("FLY_REGION", "Chicago", "--fly-region", "such as ord"),
            ("FLY_MACHINE_SIZE", "huge", "--fly-machine-size", "shared-cpu-1x"),
            ("FLY_FLAPS_BASE_URL", "api.machines.dev", "--fly-api-url", "https://api.machines.dev"),
            ("FLY_SERVICE_CHECKS", "yes", "--fly-service-checks", "true or false"),
            ("FLY_SETTLE_TIME", "10", "--fly-settle-time", "10s"),
            ("DRAIN_TIMEOUT", "5s", "--drain-timeout", "at least 10s"),
            ("POLL_INTERVAL", "0s", "--poll-interval", "at least 100ms"),
            ("WORKERS", "0", "--workers", "1 to 256"),
            ("CONTROL_PORT_BASE", "70000", "--control-port-base", "1 to 65535"),
            ("LEADER_ELECT", "no", "--leader-elect", "true or false"),
            (
                "LEADER_ELECT_LEASE_DURATION",
                "40s",
                "--leader-elect-lease-duration",
                "1s more than --leader-elect-renew-deadline",
            ),
            (
                "LEADER_ELECT_RENEW_DEADLINE",
                "12s",
                "--leader-elect-renew-deadline",
                "1.2 times --leader-elect-retry-period",
            ),
            ("LEADER_ELECT_RETRY_PERIOD", "0s", "--leader-elect-retry-period", "at least 100ms"),
            ("RESYNC_INTERVAL", "9223372036854775807s", "--resync-interval", "at most 365 days"),
            ("HTTP_BIND_ADDRESS", "8080", "--http-bind-address", "such as :8080"),
            ("OPERATOR_NAMESPACE", "Not A Name", "--namespace", "lower-case"),
            ("LOAD_BALANCER_CLASS", "a/b/c", "--load-balancer-class", "label-style name"),
            ("LOAD_BALANCER_CLASS", "/lb", "--load-balancer-class", "label-style name"),
            ("LOAD_BALANCER_CLASS", "Example.com/lb", "--load-balancer-class", "label-style name"),
            ("LOAD_BALANCER_CLASS", "-lb", "--load-balancer-class", "label-style name"),
            ("LOG_FORMAT", "xml", "--log-format", "text or json"),
            ("FRPC_POD_FILE", "/nowhere", "--frpc-pod-file", "cannot be read"),
        ] {
            let message = resolve(&[(variable, value)]).err().unwrap_or_else(|| panic!("{variable}={value} is taken"));
            assert!(message.contains(flag) && message.contains(told), "{message}");
            assert!(value.trim().is_empty() || message.contains(value), "{message} tells what was given");
        }
    }

    #[test]
    fn classes_are_taken_as_services_may_name_them() {
        for class in ["internal-vip", "example.com/internal-vip", "a", "a.b/C_d.e"] {
            assert!(resolve(&[("LOAD_BALANCER_CLASS", class)]).is_ok_and(|config| config.class == class), "{class}");
        }
    }

    #[test]
    fn the_pod_file_takes_its_five_keys_only() {
        let read = |text| serde_json::from_str::<PodFile>(text);
        assert!(read(r#"{"tolerations":[{"key":"a"}],"nodeSelector":{"a":"b"},"affinity":{},"imagePullSecrets":[{"name":"s"}],"priorityClassName":"p"}"#).is_ok());
        assert!(read(r#"{"hostNetwork":true}"#).unwrap_err().to_string().contains("hostNetwork"));
    }
}
