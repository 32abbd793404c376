//! Metadata and conditions, which objects of all kinds have. Only fields are here that a controller reads or writes.
//!
//! The fields are those of `k8s.io/apimachinery/pkg/apis/meta/v1`. Times stay the RFC 3339 text that the API server sends:
//! a controller asks far more often whether there is a time than which one.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The `metadata` of an object. A field that the server left out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique among the objects of its kind in its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for objects of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// No second object is ever given the same one, not even an object of the same name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// It changes with every write. It may be compared for equality and sent back; nothing else can be read from it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The number of changes of the spec. Not every kind counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// RFC 3339, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// The server sets it when somebody deletes the object while it has finalizers.
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

/// An object of any kind of which only the metadata is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PartialObject {
    pub metadata: ObjectMeta,
}

/// One entry of `status.conditions`; server-side apply merges that list by `type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
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
    /// When `status` changed last: RFC 3339, whole seconds. The server stores `null` too, which is read as an empty text.
    #[serde(deserialize_with = "null_is_empty")]
    pub last_transition_time: String,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_without_a_time_is_one() {
        let condition: Condition = serde_json::from_str(r#"{"type":"Ready","lastTransitionTime":null}"#).expect("one");
        assert_eq!((condition.r#type.as_str(), condition.last_transition_time.as_str()), ("Ready", ""));
    }

    #[test]
    fn fields_that_nobody_reads_are_ignored() {
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
