//! What can go wrong with a request, and what can be done about it.
//!
//! Callers ask the predicates; how an error came about is its text. The API server explains itself
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

/// Where it failed.
#[derive(Debug)]
pub(crate) enum Kind {
    /// No token could be read to send.
    Credentials(String),
    /// What was to be sent is no JSON.
    Body(serde_json::Error),
    /// No whole reply came, for want of a connection, of time or of the rest.
    Transport(ureq::Error),
    /// The reply is larger than what its kind of request may bring, in bytes.
    TooLarge(u64),
    /// The reply is not the JSON that was asked for.
    NotJson(serde_json::Error),
    /// A list that does not end.
    Endless,
    /// The server refused.
    Refused(Refusal),
}

/// A reply with a status other than 2xx.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<Duration>,
    pub status: Status,
}

/// `Status` of `meta/v1`, as far as it is of use.
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

    /// The object would not be a valid one, or a JSON patch's test failed.
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    /// The credentials are not accepted.
    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(401)
    }

    /// The credentials are good, but have not this right; or the namespace is being deleted.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// The state that was asked for is too old to be served.
    pub fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }

    /// The very same request may succeed later: the server is busy, starting or out of reach.
    pub fn is_retryable(&self) -> bool {
        match &self.0.kind {
            Kind::Refused(refusal) => refusal.is_retryable(),
            Kind::Transport(error) => is_passing(error),
            Kind::Credentials(_) => true,
            Kind::Body(_) | Kind::TooLarge(_) | Kind::NotJson(_) | Kind::Endless => false,
        }
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
    pub fn code(&self) -> Option<u16> {
        match &self.0.kind {
            Kind::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// The reason that the API server gave, one CamelCase word, or `""`.
    pub fn reason(&self) -> &str {
        match &self.0.kind {
            Kind::Refused(refusal) => &refusal.status.reason,
            _ => "",
        }
    }
}

impl Refusal {
    fn is_retryable(&self) -> bool {
        match self.code {
            // Server-side apply with a field that the server does not know. It will not learn.
            500 => !self.status.message.contains("field not declared in schema"),
            408 | 429 | 502 | 503 | 504 => true,
            _ => false,
        }
    }
}

/// Whether the trouble is with the way to the server, which may clear up, or with what the two sides are.
fn is_passing(error: &ureq::Error) -> bool {
    match error {
        // A certificate that is refused arrives as an I/O error of this kind.
        ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => true,
        _ => false,
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
