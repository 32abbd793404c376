//! Events: what `kubectl describe` shows below an object.
//!
//! They are Events of `core/v1` with the fields that client-go's recorder sets. The server gives them their names, so
//! that two of the same second do not clash. It is for the caller to judge whether something is worth an Event, and
//! whether it was told already.

use std::time::SystemTime;

use serde::{Serialize, de::IgnoredAny};

use crate::{Client, Error, ObjectMeta, Resource};

/// The object that an Event speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    api_version: String,
    kind: String,
    /// The Event is written to this namespace, too.
    namespace: String,
    name: String,
    /// `kubectl describe` shows only Events with the object's own UID.
    uid: String,
}

impl ObjectReference {
    /// The object's own UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The reference to the object with this metadata: `v1` and `Service`, `apps/v1` and `Deployment`.
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
    /// The name of the controller that writes the Event.
    pub component: &'a str,
}

impl Client {
    /// Writes an Event, as of now.
    ///
    /// # Errors
    /// The request fails. In a namespace that is being deleted the server says 403 ([`Error::is_forbidden`]). No Event is worth
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
