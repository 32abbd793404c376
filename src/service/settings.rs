//! The settings that a Service may change by its annotations. One type is the operator's defaults, what a Service asks for,
//! and a part of the recipe of a lane.
//!
//! A new setting is a field here with a default that means "as before", and is left out of what is hashed at that default: a
//! lane that does not use it stays as it is.

use serde::{Deserialize, Serialize};

use super::machine_size::MachineSize;

/// Everything that may be chosen for a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceSettings {
    pub lane: LaneSettings,
    pub forward: ForwardSettings,
    /// How many lanes are wanted, 1 to 5. It is in no recipe: more or fewer lanes leave the others as they are.
    pub replicas: u8,
}

/// Choices for a lane as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaneSettings {
    /// One Fly region, or a list in order of preference: `ord,iad`.
    pub region: String,
    pub size: MachineSize,
    pub resources: Resources,
}

impl LaneSettings {
    /// These two have no default of their own; all else is at its default.
    pub fn new(region: String, size: MachineSize) -> LaneSettings {
        LaneSettings { region, size, resources: Resources::default() }
    }
}

/// Choices for the ports of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForwardSettings {
    /// Bytes a second for each port and lane, both directions together, as frp spells it: `512KB`, `10MB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<String>,
}

/// Resources of an frpc pod, as Kubernetes quantities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    pub memory_request: String,
    pub memory_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Resources {
            cpu_request: "10m".into(),
            cpu_limit: None,
            memory_request: "32Mi".into(),
            memory_limit: "128Mi".into(),
        }
    }
}
