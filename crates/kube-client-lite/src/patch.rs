//! JSON Patch (RFC 6902): it changes one field of an object, only if another field still has its value.

use serde::Serialize;
use serde_json::Value;

/// One operation of a JSON patch. `path` is a JSON pointer (RFC 6901): `/` in a key is written `~1`.
///
/// A patch is carried out whole or not at all. The API server answers a failed `Test` with 422
/// ([`crate::Error::is_invalid`]), not with 409.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum PatchOperation {
    /// Nothing is changed unless the field has this value.
    Test { path: String, value: Value },
    /// Sets a member, whether it is there or not, or inserts before an index (`-`: at the end). The parent must be there.
    Add { path: String, value: Value },
    /// Takes a member or an item away. It must be there.
    Remove { path: String },
}

/// Whether a second copy of the patch does no harm: a test of the `resourceVersion` fails as soon as the first copy has
/// been carried out.
pub(crate) fn is_guarded(patch: &[PatchOperation]) -> bool {
    patch
        .iter()
        .any(|operation| matches!(operation, PatchOperation::Test { path, .. } if path == "/metadata/resourceVersion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_rfc_6902_has_them() {
        let patch = [
            PatchOperation::Test { path: "/metadata/resourceVersion".into(), value: "7".into() },
            PatchOperation::Remove { path: "/metadata/finalizers/0".into() },
        ];
        assert_eq!(
            serde_json::to_string(&patch).expect("plain values"),
            r#"[{"op":"test","path":"/metadata/resourceVersion","value":"7"},{"op":"remove","path":"/metadata/finalizers/0"}]"#
        );
        assert!(is_guarded(&patch));
        assert!(!is_guarded(&patch[1..]));
    }
}
