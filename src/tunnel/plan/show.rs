//! What a Service shows: its addresses and our condition.

use std::fmt;
use std::net::IpAddr;

use crate::service::Service;

/// The whole of what we write into a Service's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub addresses: Vec<IpAddr>,
    pub reason: Reason,
    /// What to do, or what is going on. It holds nothing that changes by itself: no times, counts or request ids.
    pub message: String,
}

/// Reason of the condition. `Serving` is the one that means True.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Serving,
    Provisioning,
    Updating,
    Degraded,
    InvalidService,
    LegacyTunnel,
    FlyUnauthorized,
    FlyCapacity,
    FlyQuota,
    FlyUnavailable,
    NameConflict,
    Deleting,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Reason; Reason::Deleting as usize + 1] = {
        use Reason::*;
        [
            Serving,
            Provisioning,
            Updating,
            Degraded,
            InvalidService,
            LegacyTunnel,
            FlyUnauthorized,
            FlyCapacity,
            FlyQuota,
            FlyUnavailable,
            NameConflict,
            Deleting,
        ]
    };

    /// The reason that a condition names.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.to_string() == name)
    }

    /// The condition's status.
    pub fn status(self) -> &'static str {
        if self == Reason::Serving { "True" } else { "False" }
    }

    /// Whether the Service's condition has it.
    pub fn is_shown_by(self, service: &Service) -> bool {
        service.condition().is_some_and(|condition| condition.reason == self.to_string())
    }

    /// Whether somebody has to do something, or Fly has to get well.
    pub fn is_failure(self) -> bool {
        use Reason::*;
        match self {
            Serving | Provisioning | Updating | Deleting => false,
            Degraded | InvalidService | LegacyTunnel | FlyUnauthorized | FlyCapacity | FlyQuota | FlyUnavailable
            | NameConflict => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Shown {
    /// Whether the Service shows that a step failed, and this says nothing worse. There is something to do first, and it may
    /// fail again: who shows it in between tells people the same things again and again.
    pub fn may_wait(&self, service: &Service) -> bool {
        use Reason::*;
        let no_worse = matches!(self.reason, Serving | Provisioning | Updating | Degraded | Deleting);
        let failures = [Degraded, FlyUnauthorized, FlyCapacity, FlyQuota, FlyUnavailable, InvalidService];
        let failed = failures.into_iter().any(|reason| reason.is_shown_by(service));
        no_worse && failed && self.addresses == service.addresses()
    }

    /// Whether the Service shows just this.
    pub fn is_shown_by(&self, service: &Service) -> bool {
        self.addresses == service.addresses()
            && service.condition().is_some_and(|condition| {
                condition.status == self.reason.status()
                    && condition.reason == self.reason.to_string()
                    && condition.message == self.message
            })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.addresses.is_empty() {
            let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
            write!(f, "[{}] ", addresses.join(", "))?;
        }
        write!(f, "{}: {}", self.reason, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_in_order_and_known_by_name() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(Reason::named(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::named("Other"), None);
    }
}
