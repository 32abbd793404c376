//! Our objects as the API server shows them, and what a plan gets to see of them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Home, LANE_LABEL, MACHINE_LABEL, WRITER, tunnel_of};
use crate::render::frp::frpc;
use crate::render::null_is_default;
use crate::service::{ObjectMeta, StatusCondition};
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::lane::{Recipe, SlotId};
use crate::tunnel::observed::{ConfigMap, Deployment, KeysSecret, LaneObject, Machine, Objects, OurApp};
use crate::tunnel::summary::{self, Digest};
use crate::tunnel::{TunnelId, names};

#[derive(Clone, Deserialize)]
pub struct WireConfigMap {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub data: ConfigMapData,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ConfigMapData {
    #[serde(rename = "frpc.toml")]
    pub configuration: Option<Box<str>>,
    #[serde(rename = "recipe.json")]
    pub recipe: Option<Box<str>>,
}

/// It has no `Debug`: the data are keys.
#[derive(Clone, Deserialize)]
pub struct Secret {
    pub metadata: ObjectMeta,
    /// Base64 by entry.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
pub struct WireDeployment {
    pub metadata: DeploymentMeta,
    #[serde(default)]
    pub status: DeploymentStatus,
}

/// The metadata of a Deployment, as far as we read it.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentMeta {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub generation: i64,
    /// The API server's account of who wrote which field.
    #[serde(deserialize_with = "null_is_default")]
    pub managed_fields: Vec<ManagedFields>,
}

/// The fields of one writer.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ManagedFields {
    pub manager: String,
    #[serde(deserialize_with = "null_is_default")]
    pub fields_v1: Fields,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Fields {
    /// It wrote something of the spec.
    #[serde(rename = "f:spec")]
    pub spec: Option<IgnoredAny>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentStatus {
    pub observed_generation: i64,
    pub updated_replicas: i64,
    pub available_replicas: i64,
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<StatusCondition>,
}

/// Lists of what [`Home::selector`] finds, or what has one name.
#[derive(Clone, Default)]
pub struct Listed {
    pub secrets: Vec<Secret>,
    pub config_maps: Vec<WireConfigMap>,
    pub deployments: Vec<WireDeployment>,
}

impl Listed {
    /// Takes in those that were found by name. Some were found by their labels, too.
    pub fn add(&mut self, Listed { secrets, config_maps, deployments }: Listed) {
        self.secrets.extend(secrets);
        self.config_maps.retain(|known| config_maps.iter().all(|map| map.metadata.name != known.metadata.name));
        self.config_maps.extend(config_maps);
        self.deployments.retain(|known| deployments.iter().all(|d| d.metadata.name != known.metadata.name));
        self.deployments.extend(deployments);
    }
}

/// Our objects of all tunnels.
#[derive(Clone, Default)]
pub struct Inventory {
    pub deployments: Vec<WireDeployment>,
    pub config_maps: Vec<ObjectMeta>,
    pub secrets: Vec<ObjectMeta>,
}

/// The objects of one App, as a sweep shows them.
#[derive(Default)]
pub struct SweptObjects {
    /// As in [`Summary`](crate::tunnel::summary::Summary).
    pub digest: Digest,
    /// Each Deployment is available.
    pub all_available: bool,
    /// The tunnel that they say they are of.
    pub tunnel: Option<TunnelId>,
}

/// The objects of an inventory by the App that they say they are of.
pub fn by_app(inventory: Inventory) -> BTreeMap<String, SweptObjects> {
    let mut all: BTreeMap<String, SweptObjects> = BTreeMap::new();
    let mut add = |labels: &BTreeMap<String, String>, parts: &[&str], available: bool| {
        let Some((tunnel, app)) = tunnel_of(labels) else { return };
        let new = || SweptObjects { all_available: true, tunnel: Some(tunnel), ..SweptObjects::default() };
        let objects = all.entry(app.to_owned()).or_insert_with(new);
        objects.digest.add(parts);
        objects.all_available &= available;
    };
    for wire in inventory.deployments {
        let labels = wire.metadata.labels.clone();
        let Deployment { object, version, available, .. } = deployment(wire);
        add(&labels, &[summary::DEPLOYMENT, &object.name, &version.to_string()], available);
    }
    for metadata in inventory.config_maps {
        add(&metadata.labels, &[summary::CONFIG_MAP, &metadata.name, &metadata.uid], true);
    }
    for metadata in inventory.secrets {
        add(&metadata.labels, &[summary::SECRET, &metadata.name, &metadata.uid], true);
    }
    all
}

/// Names of ours that are not among those listed: somebody took their labels off, or they are not there. Each Machine tells which keys it
/// was made with.
pub fn unlisted(home: &Home, app: Option<&OurApp>, listed: &Listed) -> BTreeSet<String> {
    let machines = app.into_iter().flat_map(|app| &app.machines).filter(|machine| machine.exists());
    let mut names = BTreeSet::new();
    for (machine, ours) in machines.filter_map(|machine| Some((machine, machine.ours.as_ref()?))) {
        let name = names::lane_object(&home.tunnel.app, &machine.id);
        let configured = listed.config_maps.iter().any(|map| map.metadata.name == name);
        if !configured || listed.deployments.iter().all(|deployment| deployment.metadata.name != name) {
            names.insert(name);
        }
        let recipe = ours.recipe.as_deref().and_then(Recipe::read);
        let secret = recipe.map(|recipe| names::keys(&home.tunnel.app, &recipe.keys));
        names.extend(secret.filter(|name| listed.secrets.iter().all(|secret| secret.metadata.name != *name)));
    }
    names
}

/// Our objects among those that were found, and the Apps of others. `app` is the tunnel's App, if that was looked at.
pub fn observed(home: &Home, app: Option<&OurApp>, mut listed: Listed) -> Objects {
    let mut objects = Objects::default();
    let mut ours = |labels: &BTreeMap<String, String>| match home.other_app(labels) {
        Some(app) => {
            objects.other_apps.insert(app);
            false
        }
        None => true,
    };
    listed.secrets.retain(|secret| ours(&secret.metadata.labels));
    listed.config_maps.retain(|map| ours(&map.metadata.labels));
    listed.deployments.retain(|deployment| ours(&deployment.metadata.labels));
    let machines = app.map(|app| app.machines.as_slice()).unwrap_or_default();
    let app = &home.tunnel.app;
    let is_a_copy = |object: &LaneObject| object.name != names::lane_object(app, &object.machine);
    for map in listed.config_maps {
        let is_as_made = is_as_made(&map, machines) && home.is_labelled(&map.metadata.labels);
        let map = config_map(map);
        if is_a_copy(&map.object) || !is_as_made {
            objects.copies.config_maps.push(map.object.name);
        } else {
            objects.config_maps.push(map);
        }
    }
    for wire in listed.deployments {
        let labelled = home.is_labelled(&wire.metadata.labels);
        let deployment = deployment(wire);
        if is_a_copy(&deployment.object) || !labelled {
            objects.copies.deployments.push(deployment.object.name);
        } else {
            objects.deployments.push(deployment);
        }
    }
    let mut complete = Vec::new();
    for secret in listed.secrets {
        let labelled = home.is_labelled(&secret.metadata.labels);
        let ObjectMeta { name, uid, creation_timestamp, .. } = secret.metadata.clone();
        match keys(&secret).filter(|keys| name == names::keys(app, &keys.fingerprint())) {
            Some(keys) => complete.push((creation_timestamp, KeysSecret { name, keys, uid, labelled })),
            None => objects.useless_keys.push(name),
        }
    }
    complete.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
    objects.keys = complete.into_iter().map(|(_, keys)| keys).collect();
    objects
}

/// A Deployment as a plan wants it. It is available once a pod of its current spec is.
pub fn deployment(wire: WireDeployment) -> Deployment {
    let WireDeployment { metadata, status } = wire;
    let version = metadata.generation;
    let current = status.observed_generation == version && status.updated_replicas > 0;
    let available = current && status.available_replicas > 0;
    let failure = status.conditions.iter().find(|c| c.r#type == "ReplicaFailure" && c.status == "True");
    let trouble = failure.filter(|_| !available).map(|condition| without_name(&condition.message));
    let foreign =
        metadata.managed_fields.iter().any(|fields| fields.manager != WRITER && fields.fields_v1.spec.is_some());
    Deployment { version, available, trouble, foreign, object: lane_object(metadata.name, metadata.labels) }
}

/// `pods "web-7d4f-x2x9z" is forbidden: …` names another pod each time.
fn without_name(message: &str) -> String {
    let rest = message.strip_prefix("pods \"").and_then(|rest| rest.split_once('"'));
    rest.map_or_else(|| message.to_owned(), |(_, rest)| format!("its pod{rest}"))
}

/// Whether it holds what the frpc of its Machine needs. Nobody can change what it holds, but somebody may have made another of the same
/// name. Of a lane that another version made nobody knows.
fn is_as_made(map: &WireConfigMap, machines: &[Machine]) -> bool {
    let of_it = map.metadata.labels.get(MACHINE_LABEL);
    let Some(machine) = machines.iter().find(|machine| of_it == Some(&machine.id)) else { return true };
    let Some(ours) = &machine.ours else { return true };
    ours.lane(&machine.name).is_none_or(|lane| {
        map.data.configuration.as_deref() == Some(frpc::configuration(&lane).as_str())
            && map.data.recipe.as_deref() == Some(lane.recipe.to_json().to_string().as_str())
    })
}

fn config_map(WireConfigMap { metadata, data }: WireConfigMap) -> ConfigMap {
    let created_at = metadata.creation_timestamp.clone().unwrap_or_default();
    let slot = metadata.labels.get(LANE_LABEL).and_then(|lane| SlotId::parse(lane)).unwrap_or(SlotId::tcp(0));
    let uid = metadata.uid;
    ConfigMap { slot, object: lane_object(metadata.name, metadata.labels), recipe: data.recipe, created_at, uid }
}

fn lane_object(name: String, mut labels: BTreeMap<String, String>) -> LaneObject {
    LaneObject { machine: labels.remove(MACHINE_LABEL).unwrap_or_default(), name }
}

fn keys(secret: &Secret) -> Option<TunnelKeys> {
    TunnelKeys::read(|name| String::from_utf8(STANDARD.decode(secret.data.get(name)?).ok()?).ok())
}
