//! The cluster in memory.

use std::collections::BTreeMap;

use serde_json::Value;

use super::faults::{Fate, Side};
use super::{Model, State, names, owner};
use crate::cluster::error::{ClusterError, ErrorKind};
use crate::cluster::{Cluster, Find, Kind, LoadBalancers, NewEvent};
use crate::examples;
use crate::render::objects::pods::{Pod, PodStatus};
use crate::render::objects::read::{
    ConfigMapData, DeploymentMeta, DeploymentStatus, Fields, Inventory, Listed, ManagedFields, Secret, WireConfigMap,
    WireDeployment,
};
use crate::render::objects::{APP_LABEL, OWNER_LABEL};
use crate::service::{CONDITION, ObjectMeta, Service, ServiceId, StatusCondition};
use crate::tunnel::condition::Shown;
use crate::tunnel::invariants::Deed;
use crate::tunnel::now::Now;

impl Model {
    /// Carries out a request, unless it fails.
    fn request<T>(&self, request: impl FnOnce(&mut State) -> Result<T, ErrorKind>) -> Result<T, ClusterError> {
        let mut state = self.arrive();
        match state.fate(Side::Cluster) {
            Fate::Refused(refusal) => Err(refusal.in_the_cluster()),
            Fate::ReplyLost => {
                state.unheard = true;
                let _ = request(&mut state);
                state.unheard = false;
                Err(ClusterError::new(ErrorKind::Other, "the API server's reply is lost"))
            }
            Fate::Served => request(&mut state).map_err(|kind| ClusterError::new(kind, format!("{kind:?}"))),
        }
    }
}

impl Model {
    fn write_deployment(&self, name: &str, object: &Value, whole: bool) -> Result<WireDeployment, ClusterError> {
        self.request(|state| {
            if state.faults.deployments_refused {
                return Err(ErrorKind::Invalid);
            }
            if state.now < state.namespace_goes_until {
                return Err(ErrorKind::NamespaceTerminating);
            }
            let there = state.deployments.get(name);
            if !state.has_namespace || whole && there.is_none() {
                return Err(ErrorKind::NotFound);
            }
            let labels = metadata(state, object).labels;
            state.watch_object(&labels);
            let before = there.map(|deployment| (deployment.metadata.generation, deployment.status.available_replicas));
            let generation = before.map_or(1, |(generation, _)| generation);
            let managed_fields = there.filter(|_| !whole).map(|there| there.metadata.managed_fields.clone());
            let managed_fields = managed_fields.unwrap_or_default();
            let metadata = DeploymentMeta { name: name.into(), labels, generation, managed_fields };
            let available = i64::from(!state.faults.no_frpc);
            if before != Some((generation, available)) {
                state.say(|| format!("Deployment {name} is written"));
            }
            let status = DeploymentStatus {
                observed_generation: generation,
                updated_replicas: 1,
                available_replicas: available,
                ..DeploymentStatus::default()
            };
            let deployment = WireDeployment { metadata, status };
            state.deployments.insert(name.into(), deployment.clone());
            Ok(deployment)
        })
    }
}

impl State {
    /// A Service that somebody made, or changed: it gets another version.
    pub fn put(&mut self, mut service: Service) -> Service {
        service.metadata.resource_version = self.next().to_string();
        if service.metadata.uid.is_empty() {
            service.metadata.uid = format!("uid-{}", self.next());
        }
        let id = service.id();
        self.remember(&id, &service);
        if service.is_going() && service.metadata.finalizers.is_empty() {
            self.services.remove(&id);
        } else {
            self.services.insert(id, service.clone());
        }
        service
    }

    fn remember(&mut self, id: &ServiceId, service: &Service) {
        let class = &owner().0.class;
        let before = self.services.get(id);
        let wanted_before = before.map(|before| before.wants_tunnel(class));
        let again = before.is_some_and(|before| before.metadata.uid != service.metadata.uid);
        // Whoever takes down what an earlier Service left may not know of this one yet.
        let takes_over = before.is_none() && self.app_of(id).is_some();
        let history = self.histories.entry(id.clone()).or_default();
        history.ports.extend(service.spec.ports.iter().map(|port| port.port));
        history.closed |= !service.spec.load_balancer_source_ranges.is_empty();
        history.orphaned = None;
        if again || takes_over || wanted_before.is_some_and(|before| before != service.wants_tunnel(class)) {
            history.turned = Some(self.now);
        }
    }

    fn deployments_found(&self, find: Find) -> Vec<WireDeployment> {
        let all = self.deployments.values();
        all.filter(|object| found(find, &object.metadata.name, &object.metadata.labels)).cloned().collect()
    }

    /// Makes sure that the Service is the operator's to write to, and that what is written does no harm.
    fn watch_service(&self, service: &Service, deed: Option<Deed>) {
        let Some(names) = names().iter().find(|names| service.is(&names.id)) else {
            self.forbid(&format!("somebody else's Service {} is written", service.id()));
        };
        if let Some(deed) = deed {
            self.watch(&names.app, deed);
        }
    }

    /// Makes sure that the object is the operator's to write.
    fn watch_object(&self, labels: &BTreeMap<String, String>) {
        if labels.get(OWNER_LABEL).is_some_and(|label| *label != owner().1) {
            self.forbid(&format!("somebody else's object is written: {labels:?}"));
        }
    }

    /// The Service, if it is still as it was seen.
    fn as_seen(&self, seen: &Service) -> Result<Service, ErrorKind> {
        let there = self.services.get(&seen.id()).ok_or(ErrorKind::NotFound)?;
        let same = there.metadata.uid == seen.metadata.uid
            && there.metadata.resource_version == seen.metadata.resource_version;
        if same { Ok(there.clone()) } else { Err(ErrorKind::Invalid) }
    }
}

/// The metadata of an object as it was sent.
fn metadata(state: &State, object: &Value) -> ObjectMeta {
    let metadata = &object["metadata"];
    let labels = metadata["labels"].as_object().into_iter().flatten();
    ObjectMeta {
        name: metadata["name"].as_str().expect("each has one").to_owned(),
        labels: labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        creation_timestamp: Some(format!("{:010}", state.now.as_secs())),
        ..ObjectMeta::default()
    }
}

/// A pod for which the cluster has no room.
/// Somebody adds to a Deployment with kubectl.
pub fn edit(deployment: &mut WireDeployment) {
    deployment.metadata.generation += 1;
    let fields_v1 = Fields { spec: Some(serde::de::IgnoredAny) };
    deployment.metadata.managed_fields.push(ManagedFields { manager: "kubectl-edit".into(), fields_v1 });
}

fn pending_pod(labels: &BTreeMap<String, String>) -> Pod {
    let unscheduled = StatusCondition {
        r#type: "PodScheduled".into(),
        status: "False".into(),
        reason: "Unschedulable".into(),
        message: "0/1 nodes are available".into(),
        last_transition_time: String::new(),
    };
    let metadata = ObjectMeta { labels: labels.clone(), ..ObjectMeta::default() };
    Pod { metadata, status: PodStatus { conditions: vec![unscheduled], ..PodStatus::default() } }
}

fn found(find: Find, name: &str, labels: &BTreeMap<String, String>) -> bool {
    match find {
        Find::Labels(selector) => selected(labels, selector),
        Find::Name(wanted) => name == wanted,
    }
}

fn selected(labels: &BTreeMap<String, String>, selector: &str) -> bool {
    selector.split(',').all(|wanted| match wanted.split_once('=') {
        Some((label, value)) => labels.get(label).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    })
}

impl Cluster for Model {
    fn load_balancers(&self) -> Result<LoadBalancers, ClusterError> {
        self.request(|state| {
            let lacks = state.lacks("load balancers");
            let is_one = |service: &&Service| service.spec.kind == "LoadBalancer";
            let services = state.services.values().filter(is_one).skip(usize::from(lacks)).cloned().collect();
            Ok(LoadBalancers { services, ..LoadBalancers::default() })
        })
    }

    fn finalized(&self, finalizer: &str) -> Result<Vec<ServiceId>, ClusterError> {
        self.request(|state| {
            let has_it = |service: &&Service| service.has_finalizer(finalizer);
            Ok(state.services.values().filter(has_it).map(Service::id).collect())
        })
    }

    fn service(&self, id: &ServiceId) -> Result<Option<Service>, ClusterError> {
        self.request(|state| Ok(state.services.get(id).cloned()))
    }

    fn add_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError> {
        self.request(|state| {
            let mut service = state.as_seen(service)?;
            state.watch_service(&service, None);
            if state.faults.finalizer_refused {
                return Err(ErrorKind::Invalid);
            }
            service.metadata.finalizers.push(finalizer.into());
            state.say(|| format!("{} gets the finalizer", service.id()));
            state.histories.entry(service.id()).or_default().bare = false;
            Ok(state.put(service))
        })
    }

    fn remove_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError> {
        self.request(|state| {
            let mut service = state.as_seen(service)?;
            // It may be there for our condition alone.
            state.watch_service(&service, service.has_finalizer(finalizer).then_some(Deed::RemoveFinalizer));
            if state.faults.finalizer_refused {
                return Err(ErrorKind::Invalid);
            }
            service.metadata.finalizers.retain(|name| name != finalizer);
            service.status.conditions.retain(|condition| condition.r#type != CONDITION);
            state.say(|| format!("the finalizer of {} goes", service.id()));
            Ok(state.put(service))
        })
    }

    fn show(&self, service: &Service, shown: &Shown, _: Now) -> Result<Service, ClusterError> {
        self.request(|state| {
            let mut there = state.services.get(&service.id()).ok_or(ErrorKind::NotFound)?.clone();
            if there.metadata.uid != service.metadata.uid {
                return Err(ErrorKind::Conflict);
            }
            let deed = (!shown.condition_alone).then_some(Deed::Show(&shown.addresses));
            state.watch_service(&there, deed);
            // The API server takes addresses for load balancers alone (1.29 and newer).
            let is_none = there.spec.kind != "LoadBalancer" && !shown.condition_alone && !shown.addresses.is_empty();
            if state.faults.status_refused || is_none {
                return Err(ErrorKind::Invalid);
            }
            examples::show(&mut there, shown);
            state.say(|| format!("{} shows {shown}", there.id()));
            Ok(state.put(there))
        })
    }

    fn objects(&self, find: Find) -> Result<Listed, ClusterError> {
        self.request(|state| {
            if state.faults.lists_refused {
                return Err(ErrorKind::Forbidden);
            }
            let (secrets, config_maps) = (state.secrets.values(), state.config_maps.values());
            let found = |metadata: &ObjectMeta| found(find, &metadata.name, &metadata.labels);
            Ok(Listed {
                secrets: secrets.filter(|object| found(&object.metadata)).cloned().collect(),
                config_maps: config_maps.filter(|object| found(&object.metadata)).cloned().collect(),
                deployments: state.deployments_found(find),
            })
        })
    }

    fn deployments(&self, find: Find) -> Result<Vec<WireDeployment>, ClusterError> {
        self.request(|state| {
            if state.faults.lists_refused { Err(ErrorKind::Forbidden) } else { Ok(state.deployments_found(find)) }
        })
    }

    fn inventory(&self, selector: &str) -> Result<Inventory, ClusterError> {
        self.request(|state| {
            if state.faults.lists_refused {
                return Err(ErrorKind::Forbidden);
            }
            let metadata = |metadata: &ObjectMeta| selected(&metadata.labels, selector).then(|| metadata.clone());
            let deployments = state.deployments.values().filter(|o| selected(&o.metadata.labels, selector));
            Ok(Inventory {
                deployments: deployments.cloned().collect(),
                config_maps: state.config_maps.values().filter_map(|o| metadata(&o.metadata)).collect(),
                secrets: state.secrets.values().filter_map(|o| metadata(&o.metadata)).collect(),
            })
        })
    }

    fn create(&self, kind: Kind, object: &Value) -> Result<Option<String>, ClusterError> {
        self.request(|state| {
            if state.now < state.namespace_goes_until {
                return Err(ErrorKind::NamespaceTerminating);
            }
            if !state.has_namespace {
                return Err(ErrorKind::NotFound);
            }
            let mut metadata = metadata(state, object);
            let name = metadata.name.clone();
            let uid = format!("{name}@{}", state.requests);
            metadata.uid.clone_from(&uid);
            let is_new = !state.secrets.contains_key(&name) && !state.config_maps.contains_key(&name);
            state.watch_object(&metadata.labels);
            state.say(|| format!("{kind:?} {name} is made"));
            let entry = |name: &str| object["data"][name].as_str().map(str::to_owned);
            match kind {
                Kind::Secret => {
                    let data = object["data"].as_object().into_iter().flatten();
                    let data = data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
                    state.secrets.entry(name).or_insert(Secret { metadata, data: data.collect() });
                }
                Kind::ConfigMap => {
                    let (configuration, recipe) = (entry("frpc.toml"), entry("recipe.json"));
                    let data =
                        ConfigMapData { configuration: configuration.map(Into::into), recipe: recipe.map(Into::into) };
                    state.config_maps.entry(name).or_insert(WireConfigMap { metadata, data });
                }
                Kind::Deployment => state.forbid("Deployments are applied"),
            }
            Ok(is_new.then_some(uid))
        })
    }

    fn apply_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        self.write_deployment(name, object, false)
    }

    fn replace_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        self.write_deployment(name, object, true)
    }

    fn pods(&self, _: &str) -> Result<Vec<Pod>, ClusterError> {
        self.request(|state| {
            let idle = state.deployments.values().filter(|deployment| deployment.status.available_replicas == 0);
            Ok(idle.map(|deployment| pending_pod(&deployment.metadata.labels)).collect())
        })
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<(), ClusterError> {
        self.request(|state| {
            let labels = match kind {
                Kind::Secret => state.secrets.remove(name).map(|object| object.metadata.labels),
                Kind::ConfigMap => state.config_maps.remove(name).map(|object| object.metadata.labels),
                Kind::Deployment => state.deployments.remove(name).map(|object| object.metadata.labels),
            };
            if let Some(labels) = labels {
                state.watch_object(&labels);
                let app = labels.get(APP_LABEL).filter(|app| names().iter().any(|names| names.app == **app));
                if let Some(app) = app.filter(|_| kind != Kind::Secret) {
                    state.watch(app, Deed::DeleteLaneObject(name));
                }
            }
            state.say(|| format!("{kind:?} {name} is deleted"));
            Ok(())
        })
    }

    fn create_namespace(&self) -> Result<(), ClusterError> {
        self.request(|state| {
            if state.now < state.namespace_goes_until {
                return Ok(()); // it is there still
            }
            state.has_namespace = true;
            Ok(())
        })
    }

    fn objects_of_all_owners(&self, label: &str) -> Result<Vec<ObjectMeta>, ClusterError> {
        self.request(|state| {
            let secrets = state.secrets.values().map(|object| object.metadata.clone());
            let config_maps = state.config_maps.values().map(|object| object.metadata.clone());
            let deployments = state.deployments.values().map(|WireDeployment { metadata, .. }| ObjectMeta {
                name: metadata.name.clone(),
                labels: metadata.labels.clone(),
                ..ObjectMeta::default()
            });
            let all = secrets.chain(config_maps).chain(deployments);
            Ok(all.filter(|metadata| selected(&metadata.labels, label)).collect())
        })
    }

    fn lease_held_elsewhere(&self, _: &str) -> Result<Option<String>, ClusterError> {
        self.request(|_| Ok(None))
    }

    fn create_event(&self, _: &NewEvent) -> Result<(), ClusterError> {
        Ok(())
    }
}
