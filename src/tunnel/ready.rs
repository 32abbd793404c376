//! The status of our condition: it tells of traffic, whatever the reason beside it is.

use std::time::SystemTime;

use crate::service::StatusCondition;

/// The condition's status: whether users are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// A lane serves.
    True,
    #[default]
    False,
    /// Users were served, and since that time nobody can look whether they still are.
    Unknown { since: SystemTime },
}

impl Ready {
    /// As Kubernetes writes it.
    pub fn status(self) -> &'static str {
        match self {
            Ready::True => "True",
            Ready::False => "False",
            Ready::Unknown { .. } => "Unknown",
        }
    }

    /// Fly cannot be asked about a tunnel that was like this. Its frpc in the cluster tells, if that is connected.
    pub fn without_fly(was: Option<&StatusCondition>, frpc_connected: bool, now: SystemTime) -> Ready {
        let Some(was) = was else { return Ready::False };
        match was.status.as_str() {
            "True" | "Unknown" if frpc_connected => Ready::True,
            "True" => Ready::Unknown { since: now },
            "Unknown" => Ready::Unknown { since: humantime::parse_rfc3339(&was.last_transition_time).unwrap_or(now) },
            _ => Ready::False,
        }
    }

    /// When the status became like this, where that is known beside the condition itself.
    pub fn since(self) -> Option<SystemTime> {
        match self {
            Ready::True | Ready::False => None,
            Ready::Unknown { since } => Some(since),
        }
    }

    /// A sentence for people who cannot know whether they are served.
    pub(super) fn comfort(self) -> Option<String> {
        let since = rfc3339(self.since()?);
        Some(format!(
            "since {since} nobody can look whether users are served: traffic does not need the operator, and what served goes \
             on serving"
        ))
    }
}

/// The time as conditions have it.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The time that a text begins with, as [`rfc3339`] writes it.
pub fn leading_rfc3339(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.get(.."2026-06-01T12:00:00Z".len())?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn without_fly_only_who_was_served_may_be_served() {
        let (before, now) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        for (was, connected, expected) in [
            (None, true, Ready::False),
            (Some("False"), true, Ready::False),
            (Some("False"), false, Ready::False),
            (Some("True"), true, Ready::True),
            (Some("True"), false, Ready::Unknown { since: now }),
            (Some("Unknown"), true, Ready::True),
            (Some("Unknown"), false, Ready::Unknown { since: before }),
        ] {
            let condition = was.map(|status: &str| StatusCondition {
                status: status.into(),
                last_transition_time: rfc3339(before),
                ..StatusCondition::default()
            });
            assert_eq!(Ready::without_fly(condition.as_ref(), connected, now), expected, "{was:?} {connected}");
        }
    }
}
