//! Errors of requests to the cluster, by what can be done about them.

use std::fmt;
use std::time::Duration;

/// A request to the cluster that did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterError {
    pub kind: ErrorKind,
    text: String,
    /// How long the API server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    /// The object is not as the request took it to be.
    Conflict,
    /// The object would not be a valid one, or a patch's test failed.
    Invalid,
    /// We have not this right.
    Forbidden,
    /// The namespace is being deleted, so nothing can be made in it.
    NamespaceTerminating,
    /// The API server cannot be asked, or fails.
    Other,
}

impl ClusterError {
    /// An error of the model.
    #[cfg(test)]
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> ClusterError {
        ClusterError { kind, text: text.into(), retry_after: None }
    }

    /// A write that names what it expects was refused: the object is not as it was seen, or is not there.
    pub fn is_not_as_seen(&self) -> bool {
        matches!(self.kind, ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound)
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<kube_client_lite::Error> for ClusterError {
    fn from(error: kube_client_lite::Error) -> ClusterError {
        let kinds = [
            (error.is_not_found(), ErrorKind::NotFound),
            (error.is_already_exists(), ErrorKind::AlreadyExists),
            (error.is_conflict(), ErrorKind::Conflict),
            (error.is_invalid(), ErrorKind::Invalid),
            (error.is_namespace_terminating(), ErrorKind::NamespaceTerminating),
            (error.is_forbidden(), ErrorKind::Forbidden),
        ];
        let kind = kinds.into_iter().find_map(|(is, kind)| is.then_some(kind)).unwrap_or(ErrorKind::Other);
        ClusterError { kind, text: error.to_string(), retry_after: error.retry_after() }
    }
}
