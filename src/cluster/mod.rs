//! The cluster, as far as the operator needs it.
//!
//! [`Cluster`] is all that the operator asks of the cluster, beside the Lease; [`kubernetes::Kubernetes`] asks the real one.

pub mod error;
pub mod find;
pub mod kubernetes;

use kube_client_lite::{EventType, ObjectReference};
use serde_json::Value;

use crate::render::objects::pods::Pod;
use crate::render::objects::read::{Inventory, Listed, WireDeployment};
use crate::service::{ObjectMeta, Service, ServiceId};
use crate::tunnel::condition::Shown;
use crate::tunnel::now::Now;
use error::ClusterError;

/// A kind of object that a lane or a tunnel has in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Secret,
    ConfigMap,
    Deployment,
}

/// How objects are found.
#[derive(Clone, Copy, Debug)]
pub enum Find<'a> {
    Labels(&'a str),
    Name(&'a str),
}

/// The load balancers of a cluster, of any class.
#[derive(Default)]
pub struct LoadBalancers {
    pub services: Vec<Service>,
    /// Services that are there, and hold something that cannot be read. They are left alone, since nobody knows what they ask
    /// for.
    pub unreadable: Vec<ServiceId>,
}

/// The cluster that the operator serves. Objects of its own are in its namespace. Every request may fail with any
/// [`error::ErrorKind`]; each method names those that mean something of their own.
pub trait Cluster: Send + Sync {
    /// The load balancers of any class.
    ///
    /// # Errors
    /// Any.
    fn load_balancers(&self) -> Result<LoadBalancers, ClusterError>;

    /// All Services of any type that have this finalizer.
    ///
    /// # Errors
    /// Any.
    fn finalized(&self, finalizer: &str) -> Result<Vec<ServiceId>, ClusterError>;

    /// One Service; `None` if there is none of that name.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn service(&self, id: &ServiceId) -> Result<Option<Service>, ClusterError>;

    /// Adds the finalizer to a Service that is as it was seen.
    ///
    /// # Errors
    /// See [`ClusterError::is_not_as_seen`].
    fn add_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError>;

    /// Takes the finalizer and our condition from a Service that is as it was seen. Gives the Service without them.
    ///
    /// # Errors
    /// See [`ClusterError::is_not_as_seen`].
    fn remove_finalizer(&self, service: &Service, finalizer: &str) -> Result<Service, ClusterError>;

    /// Writes the whole of what a Service shows.
    ///
    /// # Errors
    /// See [`ClusterError::is_not_as_seen`]: the Service is gone, or another one has its name.
    fn show(&self, service: &Service, shown: &Shown, now: Now) -> Result<Service, ClusterError>;

    /// Our objects with these labels, or of this name.
    ///
    /// # Errors
    /// Any.
    fn objects(&self, find: Find) -> Result<Listed, ClusterError>;

    /// Our Deployments with these labels, or of this name.
    ///
    /// # Errors
    /// Any.
    fn deployments(&self, find: Find) -> Result<Vec<WireDeployment>, ClusterError>;

    /// All our objects with this label, with the metadata alone where that tells all.
    ///
    /// # Errors
    /// Any.
    fn inventory(&self, selector: &str) -> Result<Inventory, ClusterError>;

    /// Our pods with these labels.
    ///
    /// # Errors
    /// Any but `Forbidden`: an older chart does not give that right, and then nobody knows of any.
    fn pods(&self, selector: &str) -> Result<Vec<Pod>, ClusterError>;

    /// Makes a Secret or a ConfigMap. Gives its UID, or `None` where one of that name is there, which is left as it is.
    ///
    /// # Errors
    /// `NotFound`: the namespace is not there.
    fn create(&self, kind: Kind, object: &Value) -> Result<Option<String>, ClusterError>;

    /// Makes a Deployment of that name, or gives each field that is ours its value. Fields of others stay.
    ///
    /// # Errors
    /// `Invalid`: the cluster does not take it.
    fn apply_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError>;

    /// Writes a Deployment of that name whole: fields of others go.
    ///
    /// # Errors
    /// `Invalid`: the cluster does not take it. `NotFound`: it is gone.
    fn replace_deployment(&self, name: &str, object: &Value) -> Result<WireDeployment, ClusterError>;

    /// Deletes an object; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn delete(&self, kind: Kind, name: &str) -> Result<(), ClusterError>;

    /// Makes the operator's namespace; one that is there already is a success.
    ///
    /// # Errors
    /// Any but `AlreadyExists`.
    fn create_namespace(&self) -> Result<(), ClusterError>;

    /// Objects of all owners with this label, in all namespaces where that may be asked, else in the operator's own.
    ///
    /// # Errors
    /// Any.
    fn objects_of_all_owners(&self, label: &str) -> Result<Vec<ObjectMeta>, ClusterError>;

    /// Another namespace in which somebody seems to hold a Lease of this name. Nobody does where other namespaces may not be
    /// asked.
    ///
    /// # Errors
    /// Any but `Forbidden`.
    fn lease_held_elsewhere(&self, lease: &str) -> Result<Option<String>, ClusterError>;

    /// Writes an event.
    ///
    /// # Errors
    /// `Forbidden`, or `NamespaceTerminating` where the Service is going with its namespace.
    fn create_event(&self, event: &NewEvent) -> Result<(), ClusterError>;
}

/// An event to be written.
pub struct NewEvent {
    pub about: ObjectReference,
    pub kind: EventType,
    /// One CamelCase word.
    pub reason: &'static str,
    pub message: String,
}
