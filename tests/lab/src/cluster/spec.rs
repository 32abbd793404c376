//! The parts of a Pod on which the nodes act. Everything else (security contexts, resources, `postStart` hooks, ...) is
//! accepted and not enforced: processes run as the user who started the lab.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize, Clone)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: Value,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) deletion_timestamp: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    #[serde(default)]
    pub(crate) node_name: String,
    #[serde(default)]
    pub(crate) service_account_name: String,
    #[serde(default)]
    pub(crate) init_containers: Vec<Value>,
    pub(crate) containers: Vec<Container>,
    #[serde(default)]
    pub(crate) volumes: Vec<Volume>,
    pub(crate) restart_policy: RestartPolicy,
    /// The grace period. The API server fills in 30.
    pub(crate) termination_grace_period_seconds: u64,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: Option<String>,
    #[serde(default)]
    pub(crate) env: Vec<EnvVar>,
    #[serde(default)]
    pub(crate) env_from: Vec<EnvFrom>,
    #[serde(default)]
    pub(crate) ports: Vec<ContainerPort>,
    #[serde(default)]
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) liveness_probe: Option<Probe>,
    #[serde(default)]
    pub(crate) lifecycle: Lifecycle,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lifecycle {
    pub(crate) pre_stop: Option<Hook>,
}

/// A hook. The lab runs commands alone.
#[derive(Deserialize, Clone)]
pub(crate) struct Hook {
    pub(crate) exec: Option<Exec>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) container_port: u16,
    /// The protocol. The API server fills in `TCP`.
    pub(crate) protocol: String,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: String,
    pub(crate) value_from: Option<EnvSource>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EnvSource {
    FieldRef(FieldRef),
    SecretKeyRef(KeyRef),
    ConfigMapKeyRef(KeyRef),
    #[serde(untagged)]
    Unknown(Value),
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

#[derive(Deserialize, Clone)]
pub(crate) struct KeyRef {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvFrom {
    #[serde(default)]
    pub(crate) prefix: String,
    pub(crate) secret_ref: Option<ObjectRef>,
    pub(crate) config_map_ref: Option<ObjectRef>,
}

#[derive(Deserialize, Clone)]
pub(crate) struct ObjectRef {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    #[serde(default)]
    pub(crate) sub_path: String,
}

#[derive(Deserialize, Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) source: VolumeSource,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) enum VolumeSource {
    EmptyDir {},
    Projected(Projected),
    #[serde(untagged)]
    Single(Projection),
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Projected {
    #[serde(default)]
    pub(crate) sources: Vec<Projection>,
    pub(crate) default_mode: Option<u32>,
}

/// A source of files for a volume, either its only one or one of a projected volume.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Projection {
    ConfigMap(ObjectFiles),
    Secret(ObjectFiles),
    #[serde(rename = "downwardAPI")]
    DownwardApi(DownwardFiles),
    ServiceAccountToken(TokenFile),
    #[serde(untagged)]
    Unknown(Value),
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectFiles {
    /// The object's name. The field is `secretName` if a Secret is a volume of its own, `name` everywhere else.
    #[serde(default, alias = "secretName")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) items: Vec<KeyToPath>,
    pub(crate) default_mode: Option<u32>,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Deserialize, Clone)]
pub(crate) struct KeyToPath {
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DownwardFiles {
    #[serde(default)]
    pub(crate) items: Vec<DownwardFile>,
    pub(crate) default_mode: Option<u32>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DownwardFile {
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
    pub(crate) field_ref: Option<FieldRef>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenFile {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) audience: String,
    pub(crate) expiration_seconds: Option<u64>,
}

/// A probe. One of the handlers is set, or the handler is one that the lab does not know. The API server fills in the
/// defaults of all numbers.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probe {
    pub(crate) exec: Option<Exec>,
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) tcp_socket: Option<TcpSocket>,
    #[serde(default)]
    pub(crate) initial_delay_seconds: u64,
    pub(crate) period_seconds: u64,
    pub(crate) timeout_seconds: u64,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

#[derive(Deserialize, Clone)]
pub(crate) struct Exec {
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpGet {
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) port: PortRef,
    #[serde(default)]
    pub(crate) http_headers: Vec<HttpHeader>,
}

#[derive(Deserialize, Clone)]
pub(crate) struct HttpHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Deserialize, Clone)]
pub(crate) struct TcpSocket {
    pub(crate) port: PortRef,
}

/// A port by number, or by the name of a containerPort.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(crate) enum PortRef {
    Number(u16),
    Name(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_source_of_a_volume_is_told_apart() {
        let source = |volume: Value| serde_json::from_value::<Volume>(volume).expect("a volume").source;
        assert!(matches!(source(json!({"name": "v", "emptyDir": {"medium": "Memory"}})), VolumeSource::EmptyDir {}));
        let VolumeSource::Single(Projection::Secret(secret)) =
            source(json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 256}}))
        else {
            panic!("a Secret");
        };
        assert_eq!((secret.name.as_str(), secret.default_mode), ("s", Some(256)));
        let sources = json!([
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"clusterTrustBundle": {"path": "x"}},
        ]);
        let VolumeSource::Projected(projected) = source(json!({"name": "v", "projected": {"sources": sources}})) else {
            panic!("projected");
        };
        assert!(matches!(
            projected.sources.as_slice(),
            [
                Projection::ServiceAccountToken(_),
                Projection::ConfigMap(_),
                Projection::DownwardApi(_),
                Projection::Unknown(_)
            ]
        ));
        let unknown = source(json!({"name": "v", "hostPath": {"path": "/"}}));
        assert!(matches!(unknown, VolumeSource::Single(Projection::Unknown(_))));
    }
}
