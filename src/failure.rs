//! Why a look or a step did not work out: what the Service is to show of it, and when to try again.

use std::fmt;
use std::time::Duration;

use crate::fly::error::FlyError;
use crate::tunnel::plan::Reason;

/// A look or a step that did not work out.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    /// What happened, and what to do. It is the same as long as the failure is.
    pub message: String,
    /// When to try again, where that is known; `None`: later each time.
    pub retry_after: Option<Duration>,
}

/// What a failure means for what was seen, and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is wrong, and what was seen holds: Fly's reads lag, or it is asked too often. The Service shows it only
    /// where it lasts.
    Early,
    /// Nothing is wrong, but what was seen does not hold any more.
    Outdated,
    /// The cluster cannot be asked, or refuses us something. It is logged; the Service shows it where it lasts and can
    /// be written.
    Cluster,
    /// The Service shows it.
    Shown(Reason),
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), retry_after: None }
    }

    /// A failure that the Service shows.
    pub fn shown(reason: Reason, message: impl Into<String>) -> Failure {
        Failure::new(Kind::Shown(reason), message)
    }

    /// The Service is not as it was seen.
    pub fn service_changed() -> Failure {
        Failure::new(Kind::Outdated, "the Service changed or went meanwhile")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Shown(reason) => write!(f, "{reason}: {}", self.message),
            Kind::Early | Kind::Outdated | Kind::Cluster => f.write_str(&self.message),
        }
    }
}

impl From<FlyError> for Failure {
    fn from(error: FlyError) -> Failure {
        let text = error.to_string();
        match error {
            FlyError::Unauthorized(_) => Failure::shown(
                Reason::FlyUnauthorized,
                format!("{text}; give the operator one that `fly tokens create org` made for the organisation"),
            ),
            FlyError::Forbidden(_) => Failure::shown(
                Reason::FlyUnauthorized,
                format!("{text}; the token must be of the organisation that --fly-org names, and not read-only"),
            ),
            FlyError::Capacity(_) => Failure::shown(
                Reason::FlyCapacity,
                format!("{text}; name more regions (--fly-region or the annotation fly-region), or wait"),
            ),
            FlyError::Quota(_) => {
                Failure::shown(Reason::FlyQuota, format!("{text}; see the organisation's billing page at fly.io"))
            }
            FlyError::RateLimited(retry_after) => {
                let retry_after = Some(retry_after.unwrap_or(Duration::from_secs(2)));
                Failure { retry_after, ..Failure::new(Kind::Early, text) }
            }
            // What a Service asks for is in its Machines alone, and they are refused elsewhere.
            FlyError::Refused(_) | FlyError::Unavailable(_) | FlyError::MachineExists(_) => {
                Failure::shown(Reason::FlyUnavailable, text)
            }
            FlyError::NotFound | FlyError::NameTaken => Failure::new(Kind::Early, text),
        }
    }
}

impl From<kube_client_lite::Error> for Failure {
    fn from(error: kube_client_lite::Error) -> Failure {
        Failure { retry_after: error.retry_after(), ..Failure::new(Kind::Cluster, error.to_string()) }
    }
}
