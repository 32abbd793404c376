//! Events: what `kubectl describe` shows below an object.
//!
//! They are core/v1 Events with the fields that client-go's recorder sets. The server names them, so
//! that two of the same second do not clash. Whether a thing is worth an Event, and whether it was told
//! already, is the caller's judgement.

use std::time::SystemTime;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{Client, Error, ObjectMeta, Resource};

/// Which object an Event speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Service`
    pub kind: String,
    /// The Event is written to this namespace, too.
    pub namespace: String,
    pub name: String,
    /// `kubectl describe` shows only Events with the object's own UID.
    pub uid: String,
}

impl ObjectReference {
    /// The reference to an object of which the metadata is known.
    pub fn new(api_version: &str, kind: &str, metadata: &ObjectMeta) -> ObjectReference {
        ObjectReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
        }
    }
}

/// The two types of Events that Kubernetes knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EventType {
    Normal,
    Warning,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub involved_object: &'a ObjectReference,
    pub r#type: EventType,
    /// One CamelCase word.
    pub reason: &'a str,
    /// A sentence.
    pub message: &'a str,
    /// Who says so: the controller's name.
    pub component: &'a str,
}

impl Client {
    /// Writes an Event, as of now.
    ///
    /// # Errors
    /// As any request. A namespace that is being deleted answers 403: an Event is never worth
    /// holding up the work that it tells of.
    pub fn create_event(&self, event: &Event) -> Result<(), Error> {
        let Event { involved_object, r#type, reason, message, component } = *event;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let body = Body {
            api_version: "v1",
            kind: "Event",
            metadata: Metadata {
                generate_name: format!("{}.", involved_object.name),
                namespace: &involved_object.namespace,
            },
            involved_object,
            r#type,
            reason,
            message,
            source: Source { component },
            reporting_component: component,
            first_timestamp: &now,
            last_timestamp: &now,
            count: 1,
        };
        let path = Resource::EVENTS.in_namespace(&involved_object.namespace);
        self.create::<IgnoredAny>(&path, &body).map(|_| ())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    involved_object: &'a ObjectReference,
    r#type: EventType,
    reason: &'a str,
    message: &'a str,
    source: Source<'a>,
    reporting_component: &'a str,
    first_timestamp: &'a str,
    last_timestamp: &'a str,
    count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    generate_name: String,
    namespace: &'a str,
}

#[derive(Serialize)]
struct Source<'a> {
    component: &'a str,
}
