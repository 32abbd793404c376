//! Machines of an App. The types that are sent are strict about what they hold; those that are read take what comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::error::FlyError;
use super::{Fly, Operation, encoded};

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

#[derive(Debug, Serialize)]
pub struct ServiceCheck {
    pub r#type: &'static str,
    pub port: u16,
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
    pub created_at: String,
    /// `ok`, `unknown` or `unreachable`; older replies have none.
    pub host_status: Option<String>,
    pub cordoned: bool,
    pub config: Option<ReadConfig>,
    /// Instead of `config`, where the host cannot be reached.
    pub incomplete_config: Option<ReadConfig>,
    pub checks: Vec<CheckResult>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadConfig {
    pub guest: Option<ReadGuest>,
    pub metadata: BTreeMap<String, String>,
    pub services: Vec<ReadService>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadGuest {
    pub cpu_kind: String,
    pub cpus: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadService {
    pub ports: Vec<ReadPort>,
    pub checks: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadPort {
    pub port: Option<u16>,
}

/// Named `servicecheck-<NN>-<type>-<internal port>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CheckResult {
    pub name: String,
    pub status: String,
}

#[derive(Serialize)]
struct Value<'a> {
    value: &'a str,
}

impl Fly {
    /// All Machines of the App but destroyed ones.
    ///
    /// # Errors
    /// `NotFound`: the App is absent, or made a moment ago.
    pub fn machines(&self, app: &str) -> Result<Vec<Machine>, FlyError> {
        self.get("list_machines", &format!("/apps/{app}/machines"))
    }

    /// One Machine; a destroyed one says so.
    ///
    /// # Errors
    /// `NotFound`: it never was, or was made a moment ago.
    pub fn machine(&self, app: &str, id: &str) -> Result<Machine, FlyError> {
        self.get("get_machine", &format!("/apps/{app}/machines/{id}"))
    }

    /// Makes a Machine and starts it.
    ///
    /// # Errors
    /// `MachineExists`: one of that name is there, perhaps by a request whose reply was lost. `NotFound`: the App was
    /// made a moment ago.
    pub fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine, FlyError> {
        self.post("create_machine", &format!("/apps/{app}/machines"), machine)
    }

    /// Starts a stopped Machine.
    ///
    /// # Errors
    /// `Refused`: it is in a state that it cannot be started from.
    pub fn start_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("start_machine", app, id, "start")
    }

    /// Takes the Machine out of routing for new connections, control port and all; established ones live on.
    ///
    /// # Errors
    /// Any.
    pub fn cordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("cordon_machine", app, id, "cordon")
    }

    /// Undoes [`Fly::cordon`].
    ///
    /// # Errors
    /// Any.
    pub fn uncordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("uncordon_machine", app, id, "uncordon")
    }

    /// Stops and destroys the Machine; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    pub fn destroy_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}?force=true");
        gone(self.call("destroy_machine", Method::DELETE, &path, Vec::new()))
    }

    /// Sets one key of a Machine's metadata, without a new version of the Machine.
    ///
    /// # Errors
    /// Any.
    pub fn set_metadata(&self, app: &str, id: &str, key: &str, value: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}/metadata/{key}");
        self.call("set_metadata", Method::POST, &path, encoded(&Value { value })?)
    }

    /// Takes one key out of a Machine's metadata.
    ///
    /// # Errors
    /// Any but `NotFound`.
    pub fn delete_metadata(&self, app: &str, id: &str, key: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}/metadata/{key}");
        gone(self.call("delete_metadata", Method::DELETE, &path, Vec::new()))
    }

    fn machine_action(&self, operation: Operation, app: &str, id: &str, action: &str) -> Result<(), FlyError> {
        self.call(operation, Method::POST, &format!("/apps/{app}/machines/{id}/{action}"), Vec::new())
    }
}

fn gone(result: Result<(), FlyError>) -> Result<(), FlyError> {
    match result {
        Err(FlyError::NotFound) => Ok(()),
        other => other,
    }
}
