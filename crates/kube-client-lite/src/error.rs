//! Errors of requests.
//!
//! A caller asks the predicates what it can do about an error; the text is for people. The API server explains itself
//! in a `Status` object, from which code, reason, message and the time to wait are taken.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// A request that failed.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// `GET /api/v1/services`
    request: String,
    kind: Kind,
}

/// The cause of a failure.
#[derive(Debug)]
pub(crate) enum Kind {
    /// There is no token to send: none could be read.
    Credentials(String),
    /// The body cannot be written as JSON.
    Body(serde_json::Error),
    /// No whole reply came: there was no connection, it took too long, or the rest is missing.
    Transport(ureq::Error),
    /// The reply is larger than this limit of its kind of request, in bytes.
    TooLarge(u64),
    /// The reply is not the JSON that was asked for.
    NotJson(serde_json::Error),
    /// A list that does not end.
    Endless,
    /// The server refused.
    Refused(Refusal),
}

/// A reply whose HTTP status is not 2xx.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<Duration>,
    pub status: Status,
}

/// A `Status` of `meta/v1`, without the fields that are of no use here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub message: String,
    pub reason: String,
    pub details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatusDetails {
    pub retry_after_seconds: u64,
    pub causes: Vec<StatusCause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatusCause {
    pub reason: String,
}

impl Error {
    pub(crate) fn new(request: String, kind: Kind) -> Error {
        Error(Box::new(Inner { request, kind }))
    }

    /// There is no such object, or no such kind.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The object is not as the request took it to be: read it again.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && self.reason() != "AlreadyExists"
    }

    /// An object of this name is there already.
    pub fn is_already_exists(&self) -> bool {
        self.code() == Some(409) && self.reason() == "AlreadyExists"
    }

    /// The object would not be valid, or a test of a JSON patch failed.
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    /// The user is known, but has no right to do this; or the namespace is being deleted.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// The object cannot be created, since its namespace is being deleted. [`Error::is_forbidden`] is true as well.
    pub fn is_namespace_terminating(&self) -> bool {
        let Kind::Refused(refusal) = &self.0.kind else {
            return false;
        };
        let causes = refusal.status.details.iter().flat_map(|details| &details.causes);
        self.is_forbidden() && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// The state that was asked for is too old to be served.
    pub(crate) fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }

    /// How long the server asks to be left alone, by `Retry-After` or in its `Status`.
    pub fn retry_after(&self) -> Option<Duration> {
        let Kind::Refused(refusal) = &self.0.kind else {
            return None;
        };
        let details = refusal.status.details.as_ref();
        let seconds = details.map_or(0, |details| details.retry_after_seconds);
        let named_in_status = (seconds > 0).then(|| Duration::from_secs(seconds));
        refusal.retry_after.or(named_in_status)
    }

    /// The HTTP status of a refusal; `None` where there was no whole reply.
    fn code(&self) -> Option<u16> {
        match &self.0.kind {
            Kind::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// The reason that the API server gave, one CamelCase word, or `""`.
    fn reason(&self) -> &str {
        match &self.0.kind {
            Kind::Refused(refusal) => &refusal.status.reason,
            _ => "",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.request)?;
        match &self.0.kind {
            Kind::Credentials(reason) => f.write_str(reason),
            Kind::Body(error) => write!(f, "cannot be written as JSON: {error}"),
            Kind::Transport(error) => write!(f, "{error}"),
            Kind::TooLarge(limit) => write!(f, "the reply is larger than {limit} bytes"),
            Kind::NotJson(error) => write!(f, "the reply is not what was asked for: {error}"),
            Kind::Endless => f.write_str("the list does not end"),
            Kind::Refused(Refusal { code, status, .. }) => {
                write!(f, "{code}")?;
                if !status.reason.is_empty() {
                    write!(f, " {}", status.reason)?;
                }
                if !status.message.is_empty() {
                    write!(f, ": {}", status.message)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            Kind::Body(error) | Kind::NotJson(error) => Some(error),
            Kind::Transport(error) => Some(error),
            Kind::Credentials(_) | Kind::TooLarge(_) | Kind::Endless | Kind::Refused(_) => None,
        }
    }
}
