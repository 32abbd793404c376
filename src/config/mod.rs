//! Flags and environment become one checked [`Config`]. [`flags`] reads what was given, [`values`] checks a value by itself,
//! and this file checks the values that depend on one another.

pub mod flags;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::fly::client::FlyConfig;
use crate::fly::token::TokenSource;
use crate::service::annotations;
use crate::service::machine_size::MachineSize;
use crate::service::settings::{ForwardSettings, LaneSettings, ServiceSettings};
use crate::telemetry::log::LogFormat;
use crate::tunnel::names;
use crate::tunnel::settings::Settings;
use flags::{Flag, Given};
use kube_client_lite::lease::Timings;
use values::duration;

/// The namespace of frpc and its Secrets when nobody names one and we do not run in a pod.
const DEFAULT_NAMESPACE: &str = "fly-tunnel-operator-system";

/// No request takes longer than that, so that a worker is never stuck. Creating a Machine takes Fly a few seconds.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// Every request is given at least that long.
const SHORTEST_REQUEST: Duration = Duration::from_secs(1);

/// Everything that a user may set, checked. Nothing in it changes while the process runs.
#[derive(Clone)]
pub struct Config {
    pub fly: FlyConfig,
    pub kubernetes: KubernetesConfig,
    pub settings: Settings,
    pub class: String,
    /// `None` stands for the UID of the namespace `kube-system`.
    pub cluster_name: Option<String>,
    pub poll_interval: Duration,
    pub resync_interval: Duration,
    pub workers: usize,
    pub delete_orphans: bool,
    /// `None` means that no other operator runs.
    pub election: Option<Timings>,
    /// `/healthz`, `/readyz` and `/metrics` are served on it.
    pub http_bind_address: String,
    pub log_format: LogFormat,
    pub mode: Mode,
}

/// The task of the process.
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

/// The way to the cluster, and our place in it.
#[derive(Clone)]
pub struct KubernetesConfig {
    pub kubeconfig: Option<String>,
    pub context: Option<String>,
    pub service_account_dir: PathBuf,
    /// `None` stands for the pod's own, and outside of a pod for [`DEFAULT_NAMESPACE`].
    pub namespace: Option<String>,
}

impl Mode {
    /// The last words of a process that is told to end before it has begun anything.
    pub fn nothing_begun(self) -> &'static str {
        match self {
            Mode::Drain => "ending; no tunnel was touched, and a Lease that was taken expires by itself",
            Mode::Serve | Mode::Once | Mode::DryRun => "ending; nothing was begun",
        }
    }
}

impl Config {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first bad or missing value: a message that names the flag, what was given and what is allowed.
    pub fn resolve(given: &Given) -> Result<Config, String> {
        let settle_time = given.parsed(&flags::FLY_SETTLE_TIME, duration(Duration::ZERO))?;
        let drain_timeout = given.parsed(&flags::DRAIN_TIMEOUT, duration(settle_time))?;
        let class = given.parsed(&flags::LOAD_BALANCER_CLASS, values::class)?;
        Ok(Config {
            fly: FlyConfig {
                url: given.parsed(&flags::FLY_API_URL, values::url)?,
                org: given.parsed(&flags::FLY_ORG, values::label)?,
                token: token(given)?,
            },
            kubernetes: KubernetesConfig {
                kubeconfig: given.value(&flags::KUBECONFIG).map(Into::into),
                context: given.value(&flags::CONTEXT).map(Into::into),
                service_account_dir: given.parsed(&flags::SERVICE_ACCOUNT_DIR, |dir| Ok(dir.into()))?,
                namespace: given.optional(&flags::NAMESPACE, values::label)?,
            },
            settings: Settings {
                defaults: Arc::new(ServiceSettings {
                    replicas: 1,
                    lane: LaneSettings::new(
                        given.parsed(&flags::FLY_REGION, annotations::region)?,
                        given.parsed(&flags::FLY_MACHINE_SIZE, MachineSize::parse)?,
                    ),
                    forward: ForwardSettings::default(),
                }),
                frps_image: given.parsed(&flags::FRPS_IMAGE, values::image)?,
                frpc_image: given.parsed(&flags::FRPC_IMAGE, values::image)?,
                frpc_pod: given.optional(&flags::FRPC_POD_FILE, values::pod_file)?.unwrap_or_default(),
                control_port_base: given.parsed(&flags::CONTROL_PORT_BASE, values::port)?,
                service_checks: given.parsed(&flags::FLY_SERVICE_CHECKS, values::service_checks)?,
                settle_time,
                drain_timeout,
                finalizer: names::finalizer(&class),
            },
            class,
            cluster_name: given.optional(&flags::CLUSTER_NAME, values::cluster_name)?,
            poll_interval: given.parsed(&flags::POLL_INTERVAL, duration(Duration::from_millis(100)))?,
            resync_interval: given.parsed(&flags::RESYNC_INTERVAL, duration(Duration::from_secs(1)))?,
            workers: given.parsed(&flags::WORKERS, values::workers)?,
            delete_orphans: given.parsed(&flags::DELETE_ORPHANS, values::bool)?,
            election: election(given)?,
            http_bind_address: given.parsed(&flags::HTTP_BIND_ADDRESS, values::bind_address)?,
            log_format: given.parsed(&flags::LOG_FORMAT, values::log_format)?,
            mode: mode(given)?,
        })
    }

    /// The longest that any request may take. A request that a leader sends in the last moment of its term must be over
    /// before another leads.
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

fn token(given: &Given) -> Result<TokenSource, String> {
    if let Some(file) = given.value(&flags::FLY_API_TOKEN_FILE) {
        return TokenSource::in_file(file).map_err(|error| {
            format!(
                "{}: {error}. In the cluster it is the key fly-api-token of the Secret that the chart's existingSecret names: \
                 is it there?",
                flags::FLY_API_TOKEN_FILE.label()
            )
        });
    }
    match given.value(&flags::FLY_API_TOKEN) {
        Some(token) => {
            let source = TokenSource::Value(token.into());
            source.read().map_err(|error| format!("{}: {error}", flags::FLY_API_TOKEN.label()))?;
            Ok(source)
        }
        None => Err("no Fly token: give --fly-api-token-file (FLY_API_TOKEN_FILE) or FLY_API_TOKEN; \
                     `fly tokens create org` makes one"
            .into()),
    }
}

fn election(given: &Given) -> Result<Option<Timings>, String> {
    if !given.parsed(&flags::LEADER_ELECT, values::bool)? {
        return Ok(None);
    }
    let timings = Timings {
        lease_duration: given.parsed(&flags::LEADER_ELECT_LEASE_DURATION, duration(SHORTEST_REQUEST))?,
        renew_deadline: given.parsed(&flags::LEADER_ELECT_RENEW_DEADLINE, duration(Duration::ZERO))?,
        retry_period: given.parsed(&flags::LEADER_ELECT_RETRY_PERIOD, duration(Duration::from_millis(100)))?,
    };
    let shown = |flag: &Flag| format!("--{} ({})", flag.name, given.value(flag).unwrap_or_default());
    // client-go asks for the same.
    if timings.renew_deadline <= timings.retry_period.mul_f64(1.2) {
        let period = shown(&flags::LEADER_ELECT_RETRY_PERIOD);
        let allowed = format!("give more than 1.2 times {period}, so that a leader can try again");
        return Err(given.refused(&flags::LEADER_ELECT_RENEW_DEADLINE, &allowed));
    }
    if timings.lease_duration < timings.renew_deadline + SHORTEST_REQUEST {
        let deadline = shown(&flags::LEADER_ELECT_RENEW_DEADLINE);
        let allowed = format!("give at least 1s more than {deadline}: no request may take longer than that gap");
        return Err(given.refused(&flags::LEADER_ELECT_LEASE_DURATION, &allowed));
    }
    Ok(Some(timings))
}

fn mode(given: &Given) -> Result<Mode, String> {
    let modes = [(flags::ONCE, Mode::Once), (flags::DRY_RUN, Mode::DryRun), (flags::DRAIN, Mode::Drain)];
    let asked: Vec<_> = modes.iter().filter(|(flag, _)| given.value(flag).is_some()).collect();
    match asked[..] {
        [] => Ok(Mode::Serve),
        [(_, Mode::Drain)] if !given.parsed(&flags::LEADER_ELECT, values::bool)? => Err(
            "--drain: leave --leader-elect at true; it takes the Lease, so that no operator makes the tunnels again"
                .into(),
        ),
        [(_, mode)] => Ok(*mode),
        [(one, _), (other, _), ..] => Err(format!("--{} and --{}: give one of them", one.name, other.name)),
    }
}
