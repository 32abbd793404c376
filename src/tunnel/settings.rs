//! Settings that hold for every tunnel. The operator's flags fill them; the domain knows nothing of flags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::service::settings::ServiceSettings;

/// All tunnels are made from these, and by this pace.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings of a Service whose annotations are silent.
    pub defaults: Arc<ServiceSettings>,
    pub frps_image: String,
    pub frpc_image: String,
    pub frpc_pod: PodFile,
    /// frps listens for frpc on the first free port from here.
    pub control_port_base: u16,
    pub service_checks: ServiceChecks,
    /// How long Fly's edges take to learn of a change.
    pub settle_time: Duration,
    /// How long a lane that is replaced keeps its established connections.
    pub drain_timeout: Duration,
    /// The name of our finalizer.
    pub finalizer: String,
}

/// How Fly finds out whether users are served through a lane. It routes to the lane only while all its checks pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceChecks {
    /// It asks an HTTP server beside frpc, through the tunnel, and knocks at each port of the Service now and then.
    #[default]
    #[serde(rename = "true")]
    Tunnel,
    /// It knocks at each port of the Service.
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "false")]
    Off,
}

/// Users may say these things about the frpc pods (`--frpc-pod-file`). The values are Kubernetes' own and go into the pod as
/// they are; the API server judges them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PodFile {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
