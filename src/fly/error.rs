//! What can go wrong at Fly, by what can be done about it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::text::shortened;

/// A request to Fly that did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlyError {
    /// The token is missing, wrong or too weak.
    Unauthorized(String),
    /// It exists and belongs to somebody else.
    Forbidden(String),
    /// It is not there, or not yet: reads lag.
    NotFound,
    /// The name is taken: by us, by somebody else, or by what is being deleted.
    NameTaken,
    /// A Machine of that name exists: its ID.
    MachineExists(String),
    /// No room in the region, or on the host.
    Capacity(String),
    /// The organisation may not have more, or has to pay first.
    Quota(String),
    /// Asked too often. Fly's own wish, where it gave one.
    RateLimited(Option<Duration>),
    /// Fly does not take the request as it is. To repeat it is of no use.
    Refused(String),
    /// Fly cannot be reached, does not get it done, or answers nonsense. The request may have been carried out.
    Unavailable(String),
}

impl fmt::Display for FlyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlyError::Unauthorized(text) => write!(f, "Fly does not take the token: {text}"),
            FlyError::Forbidden(text) => write!(f, "Fly does not let us: {text}"),
            FlyError::NotFound => write!(f, "Fly does not find it"),
            FlyError::NameTaken => write!(f, "the name is taken"),
            FlyError::MachineExists(id) => write!(f, "Machine {id} has the name"),
            FlyError::Capacity(text) => write!(f, "Fly has no capacity: {text}"),
            FlyError::Quota(text) => write!(f, "Fly's quota or billing is in the way: {text}"),
            FlyError::RateLimited(_) => write!(f, "Fly is asked too often"),
            FlyError::Refused(text) => write!(f, "Fly refuses the request: {text}"),
            FlyError::Unavailable(text) => write!(f, "Fly cannot be asked: {text}"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    error: String,
    status: String,
}

/// A proxy in between may answer with a whole page.
const LONGEST_TEXT: usize = 300;

/// Texts that mean "no room", in bodies of several statuses (fly-go `flaps_error_test.go`).
const CAPACITY: [&str; 5] = [
    "no capacity",
    "could not find a candidate host",
    "could not reserve resource for machine",
    "insufficient resources",
    "insufficient ips",
];

impl FlyError {
    /// One word for programs that count failures.
    pub fn name(&self) -> &'static str {
        match self {
            FlyError::Unauthorized(_) => "unauthorized",
            FlyError::Forbidden(_) => "forbidden",
            FlyError::NotFound => "not_found",
            FlyError::NameTaken => "name_taken",
            FlyError::MachineExists(_) => "machine_exists",
            FlyError::Capacity(_) => "capacity",
            FlyError::Quota(_) => "quota",
            FlyError::RateLimited(_) => "rate_limited",
            FlyError::Refused(_) => "refused",
            FlyError::Unavailable(_) => "unavailable",
        }
    }

    /// Reads an error reply. Fly's `status` counts before its text, and both before the HTTP status, which differs
    /// between versions for one and the same failure.
    pub fn from_reply(status: u16, body: &[u8], retry_after: &str) -> FlyError {
        let body: Body = serde_json::from_slice(body)
            .unwrap_or_else(|_| Body { error: String::from_utf8_lossy(body).trim().to_owned(), status: String::new() });
        let error = if body.error.is_empty() { format!("HTTP {status}") } else { shortened(&body.error, LONGEST_TEXT) };
        let text = error.to_lowercase();
        match (status, body.status.as_str()) {
            (_, "name_taken") => FlyError::NameTaken,
            (_, "insufficient_capacity") => FlyError::Capacity(error),
            (422, _) if text.contains("already been taken") || text.contains("uniqueness constraint") => {
                FlyError::NameTaken
            }
            (429, _) => FlyError::RateLimited(retry_after.parse().ok().map(Duration::from_secs)),
            (_, _) if text.contains("rate limit exceeded") => FlyError::RateLimited(None),
            (_, _) if CAPACITY.iter().any(|known| text.contains(known)) => FlyError::Capacity(error),
            (_, _) if text.contains("payment") || text.contains("quota") => FlyError::Quota(error),
            (401, _) => FlyError::Unauthorized(error),
            (403, _) => FlyError::Forbidden(error),
            (404, _) => FlyError::NotFound,
            (409, _) => match machine_id(&error) {
                Some(id) => FlyError::MachineExists(id.to_owned()),
                None => FlyError::Unavailable(error),
            },
            (408 | 412 | 500.., _) => FlyError::Unavailable(error),
            _ => FlyError::Refused(error),
        }
    }
}

/// The ID in "already_exists: unique machine name violation, machine ID m-123 already exists with name …".
fn machine_id(error: &str) -> Option<&str> {
    error.split_once("machine ID ")?.1.split(' ').next().filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_page_is_cut() {
        let page = "ä".repeat(100_000);
        assert_eq!(FlyError::from_reply(502, page.as_bytes(), "").to_string().chars().count(), 322);
    }

    #[test]
    fn replies_are_told_apart() {
        use FlyError::*;
        let text = String::from;
        for (status, body, expected) in [
            (422, r#"{"error":"Validation failed: Name has already been taken","status":"name_taken"}"#, NameTaken),
            (422, r#"{"error":"uniqueness constraint violated"}"#, NameTaken),
            (503, r#"{"error":"x","status":"insufficient_capacity"}"#, Capacity(text("x"))),
            (409, r#"{"error":"aborted: no capacity"}"#, Capacity(text("aborted: no capacity"))),
            (
                403,
                r#"{"error":"organization \"X\" is over the allowed quota"}"#,
                Quota(text("organization \"X\" is over the allowed quota")),
            ),
            (402, r#"{"error":"We need your payment information"}"#, Quota(text("We need your payment information"))),
            (
                401,
                r#"{"error":"Authenticate: token validation error"}"#,
                Unauthorized(text("Authenticate: token validation error")),
            ),
            (403, r#"{"error":"unauthorized"}"#, Forbidden(text("unauthorized"))),
            (404, r#"{"error":"app not found"}"#, NotFound),
            (
                409,
                r#"{"error":"already_exists: unique machine name violation, machine ID m-123 already exists with name \"x\""}"#,
                MachineExists(text("m-123")),
            ),
            (
                409,
                r#"{"error":"aborted: machine update failed due to concurrent update"}"#,
                Unavailable(text("aborted: machine update failed due to concurrent update")),
            ),
            (429, r#"{"error":"resource_exhausted: rate limit exceeded"}"#, RateLimited(Some(Duration::from_secs(3)))),
            (400, r#"{"error":"invalid_argument"}"#, Refused(text("invalid_argument"))),
            (502, "<html>bad gateway</html>", Unavailable(text("<html>bad gateway</html>"))),
            (500, "", Unavailable(text("HTTP 500"))),
        ] {
            assert_eq!(FlyError::from_reply(status, body.as_bytes(), "3"), expected, "{status} {body}");
        }
    }
}
