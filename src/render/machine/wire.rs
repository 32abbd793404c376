//! Machines as they go over the wire. The types that are sent are strict about what they hold; those that are read take what
//! comes, `null` for an empty list too, as Go writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::render::frp::Environment;
use crate::render::null_is_default;

/// A Machine to be made. Field names: Fly's OpenAPI description and fly-go `machine_types.go`.
#[derive(Debug, Serialize)]
pub struct NewMachine {
    pub name: String,
    /// One region or a list in order of preference.
    pub region: String,
    pub config: MachineConfig,
}

#[derive(Debug, Serialize)]
pub struct MachineConfig {
    pub image: String,
    pub guest: Guest,
    pub init: Init,
    pub env: Environment,
    pub files: Vec<File>,
    pub services: Vec<Service>,
    pub restart: Restart,
    pub metadata: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
pub struct Guest {
    pub cpu_kind: &'static str,
    pub cpus: u32,
    /// MiB.
    pub memory_mb: u32,
}

#[derive(Debug, Serialize)]
pub struct Init {
    /// Overrides whatever the image would start.
    pub exec: Vec<String>,
}

/// A file that Fly writes at boot.
#[derive(Serialize)]
pub struct File {
    pub guest_path: String,
    /// Base64.
    pub raw_value: String,
    /// Permission bits.
    pub mode: u32,
}

/// Never shows the content: it may be a key.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({}, {:o})", self.guest_path, self.mode)
    }
}

#[derive(Debug, Serialize)]
pub struct Service {
    pub protocol: &'static str,
    pub internal_port: u16,
    pub ports: Vec<Port>,
    pub concurrency: Concurrency,
    pub autostop: &'static str,
    pub autostart: bool,
    pub min_machines_running: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<ServiceCheck>,
}

#[derive(Debug, Serialize)]
pub struct Port {
    pub port: u16,
}

#[derive(Debug, Serialize)]
pub struct Concurrency {
    pub r#type: &'static str,
    pub soft_limit: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServiceCheck {
    pub r#type: &'static str,
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'static str>,
    /// Durations as Go writes them, since Fly gives them back so.
    pub interval: &'static str,
    pub timeout: &'static str,
    pub grace_period: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Restart {
    pub policy: &'static str,
}

/// A Machine as Fly shows it. Its configuration holds the files, keys and all: nothing of it is kept but this.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub id: String,
    pub name: String,
    pub state: String,
    #[serde(deserialize_with = "null_is_default")]
    pub region: String,
    pub created_at: String,
    #[serde(deserialize_with = "null_is_default")]
    pub private_ip: String,
    /// A ULID that changes with the configuration.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    /// `ok`, `unknown` or `unreachable`; older replies have none.
    pub host_status: Option<String>,
    pub cordoned: bool,
    pub config: Option<ReadConfig>,
    /// Instead of `config`, where the host cannot be reached.
    pub incomplete_config: Option<ReadConfig>,
    #[serde(deserialize_with = "null_is_default")]
    pub checks: Vec<CheckResult>,
}

/// A Machine in the list of the whole organisation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListedMachine {
    #[serde(deserialize_with = "null_is_default")]
    pub app_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub state: String,
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    #[serde(deserialize_with = "null_is_default")]
    pub config: ListedConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListedConfig {
    pub guest: Option<ReadGuest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadConfig {
    #[serde(deserialize_with = "null_is_default")]
    pub image: String,
    pub guest: Option<ReadGuest>,
    #[serde(deserialize_with = "null_is_default")]
    pub init: ReadInit,
    #[serde(deserialize_with = "null_is_default")]
    pub files: Vec<ReadFile>,
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub services: Vec<Value>,
    pub restart: Value,
    pub env: Value,
    // Nothing of ours has any of these.
    pub auto_destroy: Value,
    pub checks: Value,
    pub containers: Value,
    pub mounts: Value,
    pub processes: Value,
    pub schedule: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadGuest {
    pub cpu_kind: String,
    pub cpus: u32,
    pub memory_mb: u32,
}

/// The command that is started instead of the image's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadInit {
    #[serde(deserialize_with = "null_is_default")]
    pub exec: Vec<String>,
}

/// A file as Fly gives it back. Its `Debug` never shows the content: it may be a key.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReadFile {
    pub guest_path: String,
    /// Base64; absent where the file's content does not stand in the configuration.
    pub raw_value: Option<String>,
}

impl std::fmt::Debug for ReadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadFile({})", self.guest_path)
    }
}

/// Named `servicecheck-<NN>-<type>-<internal port>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CheckResult {
    pub name: String,
    pub status: String,
}
