//! Why a look or a step did not work out: what the Service is to show of it, and when to try again.

use std::fmt;
use std::time::Duration;

use crate::fly::error::FlyError;
use crate::tunnel::plan::Reason;

/// A look or a step that did not work out.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Reason of the condition; `None` where the Service is not told: it passes by itself, or cannot be written.
    pub reason: Option<Reason>,
    /// What happened, and what to do. It is the same as long as the failure is.
    pub message: String,
    /// When to try again, where that is known; `None`: later each time.
    pub retry_after: Option<Duration>,
    /// What was seen before still holds: it is only early.
    pub early: bool,
}

impl Failure {
    /// It is too early: Fly's reads lag, or somebody else was faster. Nothing is wrong.
    pub fn early(message: impl Into<String>) -> Failure {
        Failure { reason: None, message: message.into(), retry_after: None, early: true }
    }

    /// A failure that the Service shows.
    pub fn shown(reason: Reason, message: impl Into<String>) -> Failure {
        Failure { reason: Some(reason), message: message.into(), retry_after: None, early: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(reason) => write!(f, "{reason}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<FlyError> for Failure {
    fn from(error: FlyError) -> Failure {
        let text = error.to_string();
        match error {
            FlyError::Unauthorized(_) => Failure::shown(
                Reason::FlyUnauthorized,
                format!("{text}; give one that `fly tokens create org` made for the organisation"),
            ),
            FlyError::Forbidden(_) => Failure::shown(
                Reason::FlyUnauthorized,
                format!("{text}; the token must be of the organisation that --fly-org names"),
            ),
            FlyError::Capacity(_) => Failure::shown(
                Reason::FlyCapacity,
                format!("{text}; name more regions (--fly-region or the annotation fly-region), or wait"),
            ),
            FlyError::Quota(_) => {
                Failure::shown(Reason::FlyQuota, format!("{text}; see the organisation's billing page at fly.io"))
            }
            FlyError::Refused(_) => Failure::shown(Reason::InvalidService, text),
            FlyError::RateLimited(retry_after) => {
                Failure { retry_after: Some(retry_after.unwrap_or(Duration::from_secs(2))), ..Failure::early(text) }
            }
            FlyError::Unavailable(_) | FlyError::MachineExists(_) => Failure::shown(Reason::FlyUnavailable, text),
            FlyError::NotFound | FlyError::NameTaken => Failure::early(text),
        }
    }
}

impl From<kube_client_lite::Error> for Failure {
    fn from(error: kube_client_lite::Error) -> Failure {
        Failure { reason: None, message: error.to_string(), retry_after: error.retry_after(), early: false }
    }
}
