//! The cluster in memory.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Fate, Model, State};
use crate::cluster::error::{ClusterError, ErrorKind};
use crate::cluster::{Cluster, Kind, LoadBalancers, NewEvent};
use crate::examples;
use crate::render::objects::pods::Pod;
use crate::render::objects::read::{DeploymentMeta, DeploymentStatus, Inventory, Listed, WireDeployment};
use crate::service::{CONDITION, ObjectMeta, Service, ServiceId};
use crate::tunnel::TunnelId;
use crate::tunnel::condition::Shown;
use crate::tunnel::memory::Now;

impl Model {
    /// Carries out a request, unless it fails.
    fn request<T>(&self, request: impl FnOnce(&mut State) -> Result<T, ErrorKind>) -> Result<T, ClusterError> {
        let mut state = self.state();
        let failed = |text: &str| Err(ClusterError::new(ErrorKind::Other, text));
        match state.fate() {
            Fate::Refused => failed("the API server is down"),
            Fate::ReplyLost => {
                let _ = request(&mut state);
                failed("the API server's reply is lost")
            }
            Fate::Served => request(&mut state).map_err(|kind| ClusterError::new(kind, format!("{kind:?}"))),
        }
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
        if service.is_going() && service.metadata.finalizers.is_empty() {
            self.services.remove(&id);
        } else {
            self.services.insert(id, service.clone());
        }
        service
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
fn metadata(object: &Value) -> ObjectMeta {
    serde_json::from_value(object["metadata"].clone()).expect("what is sent can be read")
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
            let is_one = |service: &&Service| service.spec.kind == "LoadBalancer";
            let services = state.services.values().filter(is_one).cloned().collect();
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
            service.metadata.finalizers.push(finalizer.into());
            Ok(state.put(service))
        })
    }

    fn remove_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError> {
        self.request(|state| {
            let mut service = state.as_seen(service)?;
            let app = examples::owner().app(&TunnelId::of(&service.id()));
            if state.apps.contains_key(&app) {
                state.forbid(&format!("the finalizer of {} goes while {app} is there", service.id()));
            }
            service.metadata.finalizers.retain(|name| name != finalizer);
            service.status.conditions.retain(|condition| condition.r#type != CONDITION);
            state.say(format!("the finalizer of {} goes", service.id()));
            Ok(state.put(service))
        })
    }

    fn show(&self, service: &Service, shown: &Shown, _: Now) -> Result<Service, ClusterError> {
        self.request(|state| {
            let mut there = state.services.get(&service.id()).ok_or(ErrorKind::NotFound)?.clone();
            if there.metadata.uid != service.metadata.uid {
                return Err(ErrorKind::Conflict);
            }
            // The API server takes addresses for load balancers alone (1.29 and newer).
            let is_none = there.spec.kind != "LoadBalancer" && !shown.condition_alone && !shown.addresses.is_empty();
            if state.faults.status_refused || is_none {
                return Err(ErrorKind::Invalid);
            }
            let app = state.apps.get(&examples::owner().app(&TunnelId::of(&there.id())));
            let listed = |ip| app.is_some_and(|app| app.addresses.iter().any(|address| address.ip == ip));
            let vanishes = there.addresses().into_iter().find(|ip| listed(*ip) && !shown.addresses.contains(ip));
            if let Some(ip) = vanishes.filter(|_| !shown.condition_alone) {
                state.forbid(&format!("{ip} vanishes from {} while Fly lists it: {shown}", there.id()));
            }
            examples::show(&mut there, shown);
            state.say(format!("{} shows {shown}", there.id()));
            Ok(state.put(there))
        })
    }

    fn objects(&self, selector: &str) -> Result<Listed, ClusterError> {
        self.request(|state| {
            Ok(Listed {
                secrets: state.secrets.values().filter(|o| selected(&o.metadata.labels, selector)).cloned().collect(),
                config_maps: state
                    .config_maps
                    .values()
                    .filter(|o| selected(&o.metadata.labels, selector))
                    .cloned()
                    .collect(),
                deployments: state
                    .deployments
                    .values()
                    .filter(|o| selected(&o.metadata.labels, selector))
                    .cloned()
                    .collect(),
            })
        })
    }

    fn inventory(&self, selector: &str) -> Result<Inventory, ClusterError> {
        self.request(|state| {
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
            if !state.has_namespace {
                return Err(ErrorKind::NotFound);
            }
            let mut object = object.clone();
            object["metadata"]["creationTimestamp"] = format!("{:010}", state.now.as_secs()).into();
            let name = metadata(&object).name;
            let uid = format!("{name}@{}", state.requests);
            object["metadata"]["uid"] = uid.clone().into();
            let read = "what is sent can be read";
            let is_new = !state.secrets.contains_key(&name) && !state.config_maps.contains_key(&name);
            match kind {
                Kind::Secret => {
                    state.secrets.entry(name).or_insert(serde_json::from_value(object).expect(read));
                }
                Kind::ConfigMap => {
                    state.config_maps.entry(name).or_insert(serde_json::from_value(object).expect(read));
                }
                Kind::Deployment => state.forbid("Deployments are applied"),
            }
            Ok(is_new.then_some(uid))
        })
    }

    fn apply_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        self.request(|state| {
            let labels = metadata(object).labels;
            let there = state.deployments.get(name);
            let before = there.map(|deployment| (deployment.metadata.generation, deployment.status.available_replicas));
            let generation = before.map_or(1, |(generation, _)| generation);
            let metadata = DeploymentMeta { name: name.into(), labels, generation, ..DeploymentMeta::default() };
            let available = i64::from(!state.faults.no_frpc);
            if before != Some((generation, available)) {
                state.say(format!("Deployment {name} is written"));
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

    fn replace_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        self.apply_deployment(name, object)
    }

    fn pods(&self, _: &str) -> Result<Vec<Pod>, ClusterError> {
        self.request(|_| Ok(Vec::new()))
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<(), ClusterError> {
        self.request(|state| {
            state.say(format!("{kind:?} {name} is deleted"));
            match kind {
                Kind::Secret => {
                    state.secrets.remove(name);
                }
                Kind::ConfigMap => {
                    state.config_maps.remove(name);
                }
                Kind::Deployment => {
                    state.deployments.remove(name);
                }
            }
            Ok(())
        })
    }

    fn create_namespace(&self) -> Result<(), ClusterError> {
        self.request(|state| {
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
