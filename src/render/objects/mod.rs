//! Our objects in the cluster: the Secret with the keys, and a lane's ConfigMap and Deployment.

pub mod pods;
pub mod read;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::frp::frpc;
use crate::tunnel::keys::{CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE, TOKEN, TunnelKeys};
use crate::tunnel::lane::Frpc;
use crate::tunnel::{Tunnel, TunnelId, names};

/// Our name as the writer of fields, for server-side apply, and as the source of events.
pub const WRITER: &str = "fly-tunnel-operator";

/// Labels of every object. They find and show things and prove nothing.
pub const OWNER_LABEL: &str = "fly-tunnel-operator.dev/owner";
pub const APP_LABEL: &str = "fly-tunnel-operator.dev/app";
const SERVICE_NAMESPACE_LABEL: &str = "fly-tunnel-operator.dev/service-namespace";
const SERVICE_NAME_LABEL: &str = "fly-tunnel-operator.dev/service-name";
/// Label of a lane's objects: the Machine that they belong to.
pub const MACHINE_LABEL: &str = "fly-tunnel-operator.dev/machine";
/// Label of a lane's objects: the index of the lane among those of its tunnel.
pub const LANE_LABEL: &str = "fly-tunnel-operator.dev/lane";

/// The entry of a ConfigMap that holds what the lane was made from, without secrets. frpc does not read it.
const RECIPE_FILE: &str = "recipe.json";

/// The owner of the objects, and where they are.
pub struct Home<'a> {
    pub namespace: &'a str,
    /// [`names::Owner::id`].
    pub owner: &'a str,
    pub tunnel: &'a Tunnel,
}

impl Home<'_> {
    /// Finds every object of the Service's tunnel, and those that another owner made for that Service. What names no App is
    /// nobody's.
    pub fn selector(&self) -> String {
        let TunnelId { namespace, name } = &self.tunnel.id;
        format!("{SERVICE_NAMESPACE_LABEL}={namespace},{SERVICE_NAME_LABEL}={name},{APP_LABEL}")
    }

    /// Finds the frpc pods of the tunnel.
    pub fn pods(&self) -> String {
        format!("{APP_LABEL}={}", self.tunnel.app)
    }

    /// The App that an object with these labels is of, if that is not ours: `--cluster-name` was changed, or a backup was
    /// restored into another cluster.
    pub fn other_app(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        labels.get(APP_LABEL).filter(|app| **app != self.tunnel.app).cloned()
    }

    /// Whether an object with these labels is found among ours.
    pub fn is_labelled(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels().iter().all(|(label, value)| labels.get(*label).is_some_and(|known| known == value))
    }

    fn labels(&self) -> [(&'static str, &str); 4] {
        let TunnelId { namespace, name } = &self.tunnel.id;
        [
            (OWNER_LABEL, self.owner),
            (APP_LABEL, &self.tunnel.app),
            (SERVICE_NAMESPACE_LABEL, namespace),
            (SERVICE_NAME_LABEL, name),
        ]
    }

    /// The Secret with the keys. It is immutable: a lane in service never sees its keys change.
    pub fn secret(&self, keys: &TunnelKeys) -> Value {
        let data: BTreeMap<&str, String> = keys.entries().map(|(name, text)| (name, STANDARD.encode(text))).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.metadata(&names::keys(&self.tunnel.app, &keys.fingerprint()), &[]),
            "type": "Opaque",
            "immutable": true,
            "data": data,
        })
    }

    pub fn config_map(&self, frpc: &Frpc) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata_of_lane(frpc),
            "immutable": true,
            "data": {
                frpc::CONFIG_FILE: frpc::configuration(&frpc.lane),
                RECIPE_FILE: frpc.lane.recipe.to_text(),
                frpc::PROBE_FILE: "frpc is connected\n",
            },
        })
    }

    /// One frpc, pinned to the lane's Machine.
    pub fn deployment(&self, frpc: &Frpc) -> Value {
        // Tools that keep off look at a pod, or at the Deployment. A label of the user's never replaces one of ours.
        let users = &frpc.lane.recipe.frpc_pod;
        let mut metadata = self.metadata_of_lane(frpc);
        for (label, value) in &users.labels {
            metadata["labels"].as_object_mut().map(|labels| labels.entry(label).or_insert(json!(value)));
        }
        let mut of_pod = json!({ "labels": metadata["labels"] });
        if !users.annotations.is_empty() {
            of_pod["annotations"] = json!(users.annotations);
            metadata["annotations"] = json!(users.annotations);
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { APP_LABEL: self.tunnel.app, MACHINE_LABEL: frpc.machine } },
                // Two pods may serve the same ports: frp's groups see to it.
                "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
                "template": { "metadata": of_pod, "spec": self.pod(frpc) },
            },
        })
    }

    /// The lane's ConfigMap and Deployment have one name.
    pub fn name(&self, frpc: &Frpc) -> String {
        names::lane_object(&self.tunnel.app, &frpc.machine)
    }

    fn pod(&self, frpc: &Frpc) -> Value {
        let recipe = &frpc.lane.recipe;
        let resources = &recipe.lane.resources;
        let mut limits = BTreeMap::from([("memory", &resources.memory_limit)]);
        limits.extend(resources.cpu_limit.iter().map(|limit| ("cpu", limit)));
        let mut env = vec![
            json!({ "name": frpc::POD_NAME, "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
            json!({ "name": frpc::TOKEN, "valueFrom": { "secretKeyRef": { "name": frpc.secret, "key": TOKEN } } }),
        ];
        env.extend(frpc::environment(recipe).iter().map(|(name, value)| json!({ "name": name, "value": value })));
        // frps' key stays out of the cluster's pods.
        let items = [CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE].map(|key| json!({ "key": key, "path": key }));
        let probe = json!({ "key": frpc::PROBE_FILE, "path": frpc::PROBE_FILE });
        let mut pod = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": frpc::GRACE_PERIOD,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "frpc",
                "image": recipe.frpc_image,
                "command": ["/usr/bin/frpc", "-c", format!("{}/{}", frpc::CONFIG_FOLDER, frpc::CONFIG_FILE)],
                "env": env,
                "lifecycle": { "preStop": { "exec": { "command": frpc::leave() } } },
                // A lane that lost its host shows here 25 s later at most: frpc misses its heartbeats for 15 s, and the next probe tells.
                "readinessProbe": {
                    "exec": { "command": frpc::probe(&frpc.lane) },
                    "initialDelaySeconds": 2,
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 1,
                },
                "resources": {
                    "requests": { "cpu": resources.cpu_request, "memory": resources.memory_request },
                    "limits": limits,
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": [
                    { "name": "config", "mountPath": frpc::CONFIG_FOLDER, "readOnly": true },
                    { "name": "keys", "mountPath": frpc::KEYS_FOLDER, "readOnly": true },
                    { "name": "probe", "mountPath": frpc::PROBE_FOLDER, "readOnly": true },
                ],
            }],
            "volumes": [
                { "name": "config", "configMap": { "name": self.name(frpc) } },
                { "name": "probe", "configMap": { "name": self.name(frpc), "items": [probe] } },
                { "name": "keys", "secret": {
                    "secretName": frpc.secret,
                    "defaultMode": 0o440,
                    "items": items,
                } },
            ],
            "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": { "matchLabels": { APP_LABEL: self.tunnel.app } },
                },
            }] } },
            "tolerations": tolerations(&recipe.frpc_pod.tolerations),
            "nodeSelector": node_selector(&recipe.frpc_pod.node_selector),
        });
        let file = &recipe.frpc_pod;
        if let Some(affinity) = &file.affinity {
            pod["affinity"] = affinity.clone();
        }
        if !file.image_pull_secrets.is_empty() {
            pod["imagePullSecrets"] = json!(file.image_pull_secrets);
        }
        if let Some(class) = &file.priority_class_name {
            pod["priorityClassName"] = json!(class);
        }
        pod
    }

    fn metadata_of_lane(&self, frpc: &Frpc) -> Value {
        let lane = frpc.lane.slot.to_string();
        self.metadata(&self.name(frpc), &[(MACHINE_LABEL, &frpc.machine), (LANE_LABEL, &lane)])
    }

    fn metadata(&self, name: &str, more: &[(&'static str, &str)]) -> Value {
        let mut labels = BTreeMap::from(self.labels());
        labels.extend([("app.kubernetes.io/name", "frpc"), ("app.kubernetes.io/managed-by", "fly-tunnel-operator")]);
        labels.extend(more.iter().copied());
        json!({ "name": name, "namespace": self.namespace, "labels": labels })
    }
}

/// Finds all objects of this owner.
pub fn of_owner(owner: &str) -> String {
    format!("{OWNER_LABEL}={owner},{APP_LABEL}")
}

/// Finds all objects of all owners.
pub fn of_any_owner() -> String {
    OWNER_LABEL.to_owned()
}

/// The tunnel that an object with these labels is of, and its App.
pub fn tunnel_of(labels: &BTreeMap<String, String>) -> Option<(TunnelId, &str)> {
    let label = |name| labels.get(name);
    let id = TunnelId { namespace: label(SERVICE_NAMESPACE_LABEL)?.clone(), name: label(SERVICE_NAME_LABEL)?.clone() };
    Some((id, label(APP_LABEL)?))
}

/// frpc's image is one for Linux; the user's labels are added, and count for more.
fn node_selector(users: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let linux = ("kubernetes.io/os".to_owned(), "linux".to_owned());
    [linux].into_iter().chain(users.clone()).collect()
}

/// frpc leaves a lost node after 30 s instead of Kubernetes' five minutes; the user's tolerations are added.
fn tolerations(users: &[Value]) -> Vec<Value> {
    let ours = ["not-ready", "unreachable"].map(|taint| {
        json!({
            "key": format!("node.kubernetes.io/{taint}"),
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 30,
        })
    });
    ours.into_iter().chain(users.iter().cloned()).collect()
}
