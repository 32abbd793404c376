//! The real cluster: each method is one request, or one list by pages.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use kube_client_lite::lease::Lease;
use kube_client_lite::{Client, Error, Event, List, ListQuery, PatchOperation, Resource, Unreadable};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::ClusterError;
use super::{Cluster, Find, Kind, LoadBalancers, NewEvent};
use crate::render::objects::WRITER;
use crate::render::objects::pods::Pod;
use crate::render::objects::read::{Inventory, Listed, WireDeployment};
use crate::render::status;
use crate::service::{CONDITION, ObjectMeta, Service, ServiceId};
use crate::tunnel::condition::Shown;
use crate::tunnel::now::Now;
use crate::tunnel::ready::rfc3339;

/// People are told of so many objects that cannot be read, and then of no more.
const MOST_TOLD: usize = 1_000;

/// A cluster, and the namespace of the operator in it.
pub struct Kubernetes {
    client: Client,
    namespace: String,
    /// Things that people were told of, and are not told of again.
    told: Mutex<BTreeSet<String>>,
}

impl Kubernetes {
    /// Nothing is sent yet.
    pub fn new(client: Client, namespace: &str) -> Kubernetes {
        Kubernetes { client, namespace: namespace.to_owned(), told: Mutex::default() }
    }

    /// The objects of a list that can be read. Of each other one people are told once, as long as it stays as it is.
    fn readable<T>(&self, kind: &str, list: List<T>) -> Vec<T> {
        for object in list.unreadable {
            self.tell_once(format!("the {kind} {object}; it is left alone"));
        }
        list.items
    }

    fn tell_once(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TOLD && !told.contains(&text) {
            log::warn!("{text}");
            told.insert(text);
        }
    }

    /// Patches the Service if it is still as it was.
    fn patch(&self, service: &Service, changes: Vec<PatchOperation>) -> Result<Service, ClusterError> {
        let metadata = &service.metadata;
        let test = |path: &str, value: &str| PatchOperation::Test { path: path.into(), value: value.into() };
        let mut patch =
            vec![test("/metadata/uid", &metadata.uid), test("/metadata/resourceVersion", &metadata.resource_version)];
        patch.extend(changes);
        let path = Resource::SERVICES.status(&metadata.namespace, &metadata.name);
        Ok(self.client.json_patch(&path, &patch)?)
    }
}

impl Cluster for Kubernetes {
    fn load_balancers(&self) -> Result<LoadBalancers, ClusterError> {
        let query = ListQuery { field_selector: Some("spec.type=LoadBalancer".into()), ..ListQuery::default() };
        let list = self.client.list(&Resource::SERVICES.all(), &query)?;
        let id = |service: &Unreadable| ServiceId { namespace: service.namespace.clone(), name: service.name.clone() };
        let unreadable = list.unreadable.iter().map(id).collect();
        Ok(LoadBalancers { services: self.readable("Service", list), unreadable })
    }

    fn finalized(&self, finalizer: &str) -> Result<Vec<ServiceId>, ClusterError> {
        let everything = self.client.list_metadata(&Resource::SERVICES.all(), &ListQuery::default())?;
        let everything = self.readable("Service", everything);
        let has_it = |metadata: &ObjectMeta| metadata.finalizers.iter().any(|name| name == finalizer);
        Ok(everything.iter().map(|object| &object.metadata).filter(|m| has_it(m)).map(ServiceId::of).collect())
    }

    fn service(&self, id: &ServiceId) -> Result<Option<Service>, ClusterError> {
        optional(self.client.get(&Resource::SERVICES.named(&id.namespace, &id.name)))
    }

    /// A JSON patch, since an apply cannot take away a finalizer that somebody else wrote; and guarded by tests, so
    /// that a Service that changed meanwhile is read again first.
    fn add_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError> {
        let (path, value) = if service.metadata.finalizers.is_empty() {
            ("/metadata/finalizers", serde_json::json!([finalizer]))
        } else {
            ("/metadata/finalizers/-", serde_json::json!(finalizer))
        };
        self.patch(service, vec![PatchOperation::Add { path: path.into(), value }])
    }

    fn remove_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError> {
        let finalizer_at = service.metadata.finalizers.iter().position(|name| name == finalizer);
        let condition_at = service.status.conditions.iter().position(|condition| condition.r#type == CONDITION);
        let removals = [
            condition_at.map(|index| format!("/status/conditions/{index}")),
            finalizer_at.map(|index| format!("/metadata/finalizers/{index}")),
        ];
        let removals = removals.into_iter().flatten().map(|path| PatchOperation::Remove { path }).collect();
        let mut patched = self.patch(service, removals)?;
        patched.metadata.finalizers.retain(|name| name != finalizer);
        Ok(patched)
    }

    fn show(&self, service: &Service, shown: &Shown, now: Now) -> Result<Service, ClusterError> {
        let time = rfc3339(now.wall);
        let path = Resource::SERVICES.status(&service.metadata.namespace, &service.metadata.name);
        Ok(self.client.apply(&path, WRITER, &status::apply(service, shown, &time))?)
    }

    fn objects(&self, find: Find) -> Result<Listed, ClusterError> {
        let query = query(find);
        let path = |kind| resource(kind).in_namespace(&self.namespace);
        Ok(Listed {
            secrets: self.readable("Secret", self.client.list(&path(Kind::Secret), &query)?),
            config_maps: self.readable("ConfigMap", self.client.list(&path(Kind::ConfigMap), &query)?),
            deployments: self.deployments(find)?,
        })
    }

    fn deployments(&self, find: Find) -> Result<Vec<WireDeployment>, ClusterError> {
        let path = Resource::DEPLOYMENTS.in_namespace(&self.namespace);
        Ok(self.readable("Deployment", self.client.list(&path, &query(find))?))
    }

    fn inventory(&self, selector: &str) -> Result<Inventory, ClusterError> {
        let query = query(Find::Labels(selector));
        let path = |kind| resource(kind).in_namespace(&self.namespace);
        let metadata = |kind, name| -> Result<Vec<ObjectMeta>, ClusterError> {
            let listed = self.readable(name, self.client.list_metadata(&path(kind), &query)?);
            Ok(listed.into_iter().map(|object| object.metadata).collect())
        };
        Ok(Inventory {
            deployments: self.deployments(Find::Labels(selector))?,
            config_maps: metadata(Kind::ConfigMap, "ConfigMap")?,
            secrets: metadata(Kind::Secret, "Secret")?,
        })
    }

    fn pods(&self, selector: &str) -> Result<Vec<Pod>, ClusterError> {
        let query = query(Find::Labels(selector));
        match self.client.list(&Resource::PODS.in_namespace(&self.namespace), &query) {
            Err(error) if error.is_forbidden() => {
                self.tell_once(format!(
                    "{error}; without that right nobody knows why frpc does not run: upgrade the chart"
                ));
                Ok(Vec::new())
            }
            pods => Ok(self.readable("Pod", pods?)),
        }
    }

    fn create(&self, kind: Kind, object: &Value) -> Result<Option<String>, ClusterError> {
        match self.client.create::<Made>(&resource(kind).in_namespace(&self.namespace), object) {
            Ok(made) => Ok(Some(made.metadata.uid)),
            Err(error) if error.is_already_exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn apply_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        Ok(self.client.apply(&Resource::DEPLOYMENTS.named(&self.namespace, name), WRITER, object)?)
    }

    fn replace_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError> {
        Ok(self.client.replace(&Resource::DEPLOYMENTS.named(&self.namespace, name), object)?)
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<(), ClusterError> {
        let path = resource(kind).named(&self.namespace, name);
        optional(self.client.delete(&path)).map(|_| ())
    }

    fn create_namespace(&self) -> Result<(), ClusterError> {
        Ok(make_namespace(&self.client, &self.namespace)?)
    }

    fn objects_of_all_owners(&self, label: &str) -> Result<Vec<ObjectMeta>, ClusterError> {
        let query = query(Find::Labels(label));
        let mut all = Vec::new();
        for resource in [Resource::DEPLOYMENTS, Resource::CONFIG_MAPS, Resource::SECRETS] {
            let listed = match self.client.list_metadata(&resource.all(), &query) {
                Err(error) if error.is_forbidden() => {
                    self.client.list_metadata(&resource.in_namespace(&self.namespace), &query)?
                }
                other => other?,
            };
            all.extend(self.readable(resource.plural, listed).into_iter().map(|object| object.metadata));
        }
        Ok(all)
    }

    fn lease_held_elsewhere(&self, lease: &str) -> Result<Option<String>, ClusterError> {
        let query = query(Find::Name(lease));
        let leases: List<Lease> = match self.client.list(&Resource::LEASES.all(), &query) {
            Err(error) if error.is_forbidden() => return Ok(None),
            other => other?,
        };
        let leases = self.readable("Lease", leases);
        let elsewhere = |lease: &&Lease| lease.namespace() != self.namespace && lease.seems_held(SystemTime::now());
        Ok(leases.iter().find(elsewhere).map(|lease| lease.namespace().to_owned()))
    }

    fn create_event(&self, event: &NewEvent) -> Result<(), ClusterError> {
        let NewEvent { about, kind, reason, message } = event;
        let event = Event { involved_object: about, r#type: *kind, reason, message, component: WRITER };
        Ok(self.client.create_event(&event)?)
    }
}

/// Makes a namespace. A chart makes it beforehand; a person who tries the operator with a kubeconfig may not know.
///
/// # Errors
/// As any request.
pub fn make_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let namespace = serde_json::json!({ "metadata": { "name": name } });
    match client.create::<IgnoredAny>(&Resource::NAMESPACES.all(), &namespace) {
        Err(error) if !error.is_already_exists() => return Err(error),
        _ => {}
    }
    log::warn!(
        "the namespace {name} was missing, and is made: if an operator of this class was installed, give its --namespace instead"
    );
    Ok(())
}

/// An object that was made, as far as we read it.
#[derive(Deserialize)]
struct Made {
    metadata: ObjectMeta,
}

fn query(find: Find) -> ListQuery {
    match find {
        Find::Labels(selector) => ListQuery { label_selector: Some(selector.to_owned()), ..ListQuery::default() },
        Find::Name(name) => ListQuery { field_selector: Some(format!("metadata.name={name}")), ..ListQuery::default() },
    }
}

fn resource(kind: Kind) -> Resource {
    match kind {
        Kind::Secret => Resource::SECRETS,
        Kind::ConfigMap => Resource::CONFIG_MAPS,
        Kind::Deployment => Resource::DEPLOYMENTS,
    }
}

/// `None` where it is not there.
fn optional<T>(result: Result<T, Error>) -> Result<Option<T>, ClusterError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
