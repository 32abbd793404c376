//! Errors of requests to Fly, by what can be done about them.

use std::time::Duration;

use serde::Deserialize;

use crate::text::shortened;

/// A request to Fly that did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlyError {
    pub kind: ErrorKind,
    /// Fly's ID of the request, by which its support finds it; `None` where no reply came.
    pub request_id: Option<String>,
}

/// The kinds of errors, by what can be done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The token's file cannot be read, or holds no token. Nothing was sent.
    TokenUnreadable(String),
    /// The token is wrong, or has expired.
    Unauthorized(String),
    /// It exists and belongs to somebody else, or the token is too weak.
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
    /// Something else changes it at this moment, or somebody holds a lease on it. Nothing was done.
    Busy(String),
    /// Fly does not take the request as it is. To repeat it is of no use.
    Refused(String),
    /// Fly cannot be reached, does not get it done, or answers nonsense. The request may have been carried out.
    Unavailable(String),
}

impl From<ErrorKind> for FlyError {
    fn from(kind: ErrorKind) -> FlyError {
        FlyError { kind, request_id: None }
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
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// One word for programs that count failures.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            ErrorKind::TokenUnreadable(_) => "token_unreadable",
            ErrorKind::Unauthorized(_) => "unauthorized",
            ErrorKind::Forbidden(_) => "forbidden",
            ErrorKind::NotFound => "not_found",
            ErrorKind::NameTaken => "name_taken",
            ErrorKind::MachineExists(_) => "machine_exists",
            ErrorKind::Capacity(_) => "capacity",
            ErrorKind::Quota(_) => "quota",
            ErrorKind::RateLimited(_) => "rate_limited",
            ErrorKind::Busy(_) => "busy",
            ErrorKind::Refused(_) => "refused",
            ErrorKind::Unavailable(_) => "unavailable",
        }
    }
}

impl ErrorKind {
    /// Reads an error reply. Fly's `status` counts before its text, and both before the HTTP status, which differs
    /// between versions for one and the same failure.
    pub fn of_reply(status: u16, body: &[u8], retry_after: &str) -> ErrorKind {
        let body: Body = serde_json::from_slice(body)
            .unwrap_or_else(|_| Body { error: page(status, &String::from_utf8_lossy(body)), status: String::new() });
        let error = if body.error.is_empty() { format!("HTTP {status}") } else { shortened(&body.error, LONGEST_TEXT) };
        let text = error.to_lowercase();
        match (status, body.status.as_str()) {
            (_, "name_taken") => ErrorKind::NameTaken,
            (_, "insufficient_capacity") => ErrorKind::Capacity(error),
            (422, _) if text.contains("already been taken") || text.contains("uniqueness constraint") => {
                ErrorKind::NameTaken
            }
            (429, _) => ErrorKind::RateLimited(retry_after.parse().ok().map(Duration::from_secs)),
            (_, _) if text.contains("rate limit exceeded") => ErrorKind::RateLimited(None),
            (_, _) if CAPACITY.iter().any(|known| text.contains(known)) => ErrorKind::Capacity(error),
            (_, _) if text.contains("payment") || text.contains("quota") => ErrorKind::Quota(error),
            (401, _) => ErrorKind::Unauthorized(error),
            (403, _) => ErrorKind::Forbidden(error),
            (404, _) => ErrorKind::NotFound,
            (409, _) => match machine_id(&error) {
                Some(id) => ErrorKind::MachineExists(id.to_owned()),
                None => ErrorKind::Busy(error),
            },
            (412, _) => ErrorKind::Busy(error),
            (408 | 500.., _) => ErrorKind::Unavailable(error),
            _ => ErrorKind::Refused(error),
        }
    }
}

/// The text of a reply that is not Fly's: some proxy's page, on one line and without its tags.
fn page(status: u16, text: &str) -> String {
    let words = text.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    let text = words.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") }
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
        let ErrorKind::Unavailable(text) = ErrorKind::of_reply(502, page.as_bytes(), "") else { panic!("it is one") };
        assert_eq!(text.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn replies_are_told_apart() {
        use ErrorKind::*;
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
                Busy(text("aborted: machine update failed due to concurrent update")),
            ),
            (412, r#"{"error":"x"}"#, Busy(text("x"))),
            (429, r#"{"error":"resource_exhausted: rate limit exceeded"}"#, RateLimited(Some(Duration::from_secs(3)))),
            (400, r#"{"error":"invalid_argument"}"#, Refused(text("invalid_argument"))),
            (502, "<html>\n<h1>bad gateway</h1></html>", Unavailable(text("HTTP 502: bad gateway"))),
            (502, "no healthy upstream", Unavailable(text("HTTP 502: no healthy upstream"))),
            (500, "", Unavailable(text("HTTP 500"))),
        ] {
            assert_eq!(ErrorKind::of_reply(status, body.as_bytes(), "3"), expected, "{status} {body}");
        }
    }
}
