//! A Machine's `config`, every documented field of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GoDuration, Signal, wire};

wire! {
    /// The config from which a Machine is made.
    struct MachineConfig {
        image: String,
        guest: Guest,
        /// The name of a preset, a deprecated field that excludes `guest`.
        size: String,
        env: BTreeMap<String, String>,
        init: Init,
        files: Vec<File>,
        services: Vec<Service>,
        /// The top-level checks by name.
        checks: BTreeMap<String, Check>,
        restart: Restart,
        stop_config: StopConfig,
        metadata: BTreeMap<String, String>,
        auto_destroy: bool,
        processes: Vec<ProcessConfig>,
        containers: Vec<Container>,
        volumes: Vec<VolumeConfig>,
        mounts: Vec<Mount>,
        standbys: Vec<String>,
        statics: Vec<Static>,
        dns: Dns,
        schedule: Schedule,
        metrics: Metrics,
        rootfs: Rootfs,
        cache_drive: CacheDrive,
        spot: Spot,
        disable_machine_autostart: bool,
    }

    struct Guest {
        cpu_kind: CpuKind,
        cpus: u32,
        memory_mb: u32,
        max_memory_mb: u32,
        gpus: u32,
        gpu_kind: String,
        host_dedication_id: String,
        persist_rootfs: Persist,
        kernel_args: Vec<String>,
    }

    /// The command by which the image is started. `exec` overrides everything else.
    struct Init {
        exec: Vec<String>,
        entrypoint: Vec<String>,
        cmd: Vec<String>,
        tty: bool,
        swap_size_mb: u32,
        kernel_args: Vec<String>,
    }

    /// A file that is written at boot. It has one of `raw_value` (base64), `secret_name` and `image_config`.
    struct File {
        guest_path: String,
        raw_value: String,
        secret_name: String,
        image_config: String,
        /// The mode, as for chmod(2).
        mode: u32,
    }

    struct Service {
        protocol: Protocol,
        internal_port: u16,
        autostop: Autostop,
        autostart: bool,
        min_machines_running: u32,
        ports: Vec<Port>,
        checks: Vec<Check>,
        concurrency: Concurrency,
        force_instance_key: String,
        force_instance_description: String,
    }

    /// An external port, or a range of them.
    struct Port {
        port: u16,
        start_port: u16,
        end_port: u16,
        handlers: Vec<Handler>,
        force_https: bool,
        tls_options: TlsOptions,
        http_options: HttpOptions,
        proxy_proto_options: ProxyProtoOptions,
    }

    struct TlsOptions {
        alpn: Vec<String>,
        versions: Vec<String>,
        default_self_signed: bool,
    }

    struct HttpOptions {
        compress: bool,
        response: HttpResponseOptions,
        h2_backend: bool,
        idle_timeout: u32,
        headers_read_timeout: u32,
        replay_cache: Vec<ReplayCache>,
    }

    struct HttpResponseOptions {
        headers: BTreeMap<String, Value>,
        pristine: bool,
    }

    struct ReplayCache {
        path_prefix: String,
        ttl_seconds: u32,
        r#type: String,
        name: String,
        allow_bypass: bool,
    }

    struct ProxyProtoOptions {
        version: ProxyProtoVersion,
    }

    struct Concurrency {
        r#type: ConcurrencyType,
        soft_limit: u32,
        hard_limit: u32,
    }

    /// A check of a service, or a top-level one (only those have a `kind`).
    struct Check {
        r#type: CheckType,
        kind: CheckKind,
        port: u16,
        interval: GoDuration,
        timeout: GoDuration,
        grace_period: GoDuration,
        method: String,
        path: String,
        protocol: String,
        tls_server_name: String,
        tls_skip_verify: bool,
        headers: Vec<HttpHeader>,
    }

    struct HttpHeader {
        name: String,
        values: Vec<String>,
    }

    struct Restart {
        policy: RestartPolicy,
        max_retries: u32,
    }

    struct StopConfig {
        signal: Signal,
        timeout: GoDuration,
    }

    /// One of several processes of a Machine.
    struct ProcessConfig {
        exec: Vec<String>,
        entrypoint: Vec<String>,
        cmd: Vec<String>,
        user: String,
        env: BTreeMap<String, String>,
        secrets: Vec<SecretRef>,
        ignore_app_secrets: bool,
        env_from: Vec<EnvFrom>,
    }

    struct SecretRef {
        env_var: String,
        name: String,
    }

    struct EnvFrom {
        env_var: String,
        field_ref: String,
    }

    struct Container {
        name: String,
        image: String,
        exec: Vec<String>,
        entrypoint: Vec<String>,
        cmd: Vec<String>,
        user: String,
        env: BTreeMap<String, String>,
        secrets: Vec<SecretRef>,
        env_from: Vec<EnvFrom>,
        files: Vec<File>,
        restart: Restart,
        stop: StopConfig,
        depends_on: Vec<Value>,
        healthchecks: Vec<Value>,
        mounts: Vec<Value>,
    }

    struct VolumeConfig {
        name: String,
        temp_dir: TempDir,
        image: String,
    }

    struct TempDir {
        storage_type: String,
        size_mb: u64,
    }

    struct Mount {
        volume: String,
        path: String,
        name: String,
        encrypted: bool,
        size_gb: u32,
        extend_threshold_percent: u32,
        add_size_gb: u32,
        size_gb_limit: u32,
    }

    struct Static {
        guest_path: String,
        url_prefix: String,
        tigris_bucket: String,
        index_document: String,
    }

    struct Dns {
        skip_registration: bool,
        nameservers: Vec<String>,
        searches: Vec<String>,
        options: Vec<DnsOption>,
        dns_forward_rules: Vec<DnsForwardRule>,
        hostname: String,
        hostname_fqdn: String,
    }

    struct DnsOption {
        name: String,
        value: String,
    }

    struct DnsForwardRule {
        basename: String,
        addr: String,
    }

    struct Metrics {
        port: u16,
        path: String,
        https: bool,
    }

    struct Rootfs {
        persist: Persist,
        size_gb: u64,
    }

    struct CacheDrive {
        size_mb: u64,
    }

    struct Spot {
        max_price_fraction: f64,
    }
}

/// Enumerations of documented values: any other value is an error that lists these.
macro_rules! values {
    ($($name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $text)] $variant),* }
    )*};
}

values! {
    CpuKind { Shared = "shared", Performance = "performance" }
    Persist { Unset = "", Never = "never", Always = "always", Restart = "restart" }
    Protocol { Tcp = "tcp", Udp = "udp" }
    Handler { Http = "http", Tls = "tls", PgTls = "pg_tls", ProxyProto = "proxy_proto" }
    ProxyProtoVersion { V1 = "v1", V2 = "v2" }
    ConcurrencyType { Connections = "connections", Requests = "requests" }
    CheckType { Tcp = "tcp", Http = "http" }
    CheckKind { Informational = "informational", Readiness = "readiness" }
    RestartPolicy { No = "no", Always = "always", OnFailure = "on-failure" }
    Schedule { Hourly = "hourly", Daily = "daily", Weekly = "weekly", Monthly = "monthly" }
}

/// One of `off`, `stop` and `suspend`, or one of the older booleans. Responses still say `false` and `true` for the
/// first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Autostop {
    Off,
    Stop,
    Suspend,
}

impl TryFrom<Value> for Autostop {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        match (value.as_bool(), value.as_str()) {
            (Some(false), _) | (_, Some("off")) => Ok(Autostop::Off),
            (Some(true), _) | (_, Some("stop")) => Ok(Autostop::Stop),
            (_, Some("suspend")) => Ok(Autostop::Suspend),
            (_, Some(other)) => Err(format!("invalid autostop string value {other:?}")),
            _ => Err("autostop value is not a valid bool or string".to_owned()),
        }
    }
}

impl From<Autostop> for Value {
    fn from(autostop: Autostop) -> Value {
        match autostop {
            Autostop::Off => Value::Bool(false),
            Autostop::Stop => Value::Bool(true),
            Autostop::Suspend => Value::from("suspend"),
        }
    }
}

impl Port {
    /// The external ports that this entry names, first to last.
    pub fn range(&self) -> std::ops::RangeInclusive<u16> {
        match self.port {
            Some(port) => port..=port,
            None => self.start_port.unwrap_or(1)..=self.end_port.unwrap_or(u16::MAX),
        }
    }

    /// The version of the PROXY protocol header that the edge sends to the Machine, if `handlers` asks for one (`v1`
    /// unless told otherwise).
    pub fn proxy_protocol(&self) -> Option<ProxyProtoVersion> {
        self.handlers.as_deref()?.contains(&Handler::ProxyProto).then(|| {
            self.proxy_proto_options.as_ref().and_then(|options| options.version).unwrap_or(ProxyProtoVersion::V1)
        })
    }
}

impl MachineConfig {
    /// The services; an empty list if the config gives none.
    pub fn services(&self) -> &[Service] {
        self.services.as_deref().unwrap_or_default()
    }
}
