//! How an object is to be deleted: only this very one, and what becomes of what it owns.

use serde::Serialize;

/// `DeleteOptions` of `meta/v1`; the default deletes whatever has the name, as the server sees fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only the object with this UID; another one of the same name is a 409.
    pub uid: Option<String>,
    /// Only in this state; a changed object is a 409.
    pub resource_version: Option<String>,
    /// `None`: the kind's own default.
    pub propagation: Option<Propagation>,
}

/// What happens to the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    /// The object goes at once, the garbage collector takes its dependents afterwards.
    Background,
    /// The object stays, marked for deletion, until its dependents are gone.
    Foreground,
    /// The dependents stay.
    Orphan,
}

impl DeleteOptions {
    /// The request's body.
    pub(crate) fn body(&self) -> impl Serialize + '_ {
        let DeleteOptions { uid, resource_version, propagation } = self;
        let preconditions = Preconditions { uid: uid.as_deref(), resource_version: resource_version.as_deref() };
        Body {
            api_version: "v1",
            kind: "DeleteOptions",
            preconditions: self.is_guarded().then_some(preconditions),
            propagation_policy: *propagation,
        }
    }

    /// Whether a second copy of the request can only meet the object that the first one meant.
    pub(crate) fn is_guarded(&self) -> bool {
        self.uid.is_some() || self.resource_version.is_some()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preconditions: Option<Preconditions<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_policy: Option<Propagation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Preconditions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(options: &DeleteOptions) -> String {
        serde_json::to_string(&options.body()).expect("a struct of strings")
    }

    #[test]
    fn only_what_is_asked_is_sent() {
        assert_eq!(body(&DeleteOptions::default()), r#"{"apiVersion":"v1","kind":"DeleteOptions"}"#);
        let options = DeleteOptions {
            uid: Some("u-1".into()),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        assert_eq!(
            body(&options),
            r#"{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"u-1"},"propagationPolicy":"Background"}"#
        );
    }
}
