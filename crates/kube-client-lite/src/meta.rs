//! What every Kubernetes object carries, as far as a controller reads or writes it.
//!
//! Fields as in `k8s.io/apimachinery/pkg/apis/meta/v1`. Times stay the RFC 3339 text that the
//! API server sends: a controller compares presence far more often than time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An object's `metadata`. Whatever the server left out is empty; whatever is empty is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique among the objects of its kind in its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for objects of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Never given to a second object, not even to one of the same name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Changes with every write. Opaque: to be compared for equality and sent back, nothing else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Counts the changes of the spec, for kinds that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// RFC 3339, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Set once somebody asked to delete the object while it has finalizers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The object stays until this list is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An object of any kind, of which only the metadata was asked for or is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PartialObject {
    pub metadata: ObjectMeta,
}

/// One entry of `status.conditions`; server-side apply merges that list by `type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// CamelCase, or `example.org/CamelCase`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// RFC 3339, whole seconds: when `status` last became another.
    pub last_transition_time: String,
    /// The `metadata.generation` that the condition speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_not_sent() {
        let metadata = ObjectMeta { name: "web".into(), ..ObjectMeta::default() };
        let sent = serde_json::to_string(&metadata).expect("a struct of strings");
        assert_eq!(sent, r#"{"name":"web"}"#);
    }

    #[test]
    fn what_the_server_sends_beside_is_ignored() {
        let object: PartialObject = serde_json::from_str(
            r#"{"kind":"Service","metadata":{"name":"web","resourceVersion":"7",
                "managedFields":[{"manager":"kubectl"}],"finalizers":["a/b"],"generation":3}}"#,
        )
        .expect("an object");
        assert_eq!(object.metadata.resource_version, "7");
        assert_eq!(object.metadata.finalizers, ["a/b"]);
        assert_eq!(object.metadata.generation, Some(3));
    }
}
