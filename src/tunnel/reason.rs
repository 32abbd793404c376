//! Reasons of our condition: one word for programs.

use std::fmt;

/// Writes the enum and the list of all that is in it, so that neither forgets one.
macro_rules! reasons {
    ($($reason:ident),* $(,)?) => {
        /// Reason of the condition: what there is to know of the tunnel. Whether users are served is the condition's status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($reason),*
        }

        impl Reason {
            /// All of them, in order.
            pub const ALL: &[Reason] = &[$(Reason::$reason),*];

            /// The number of them.
            pub const COUNT: usize = Reason::ALL.len();
        }
    };
}

reasons! {
    Serving,
    ServingDegraded,
    Provisioning,
    Updating,
    Degraded,
    InvalidService,
    LegacyTunnel,
    FlyUnauthorized,
    FlyCapacity,
    FlyQuota,
    FlyUnavailable,
    FrpcUnavailable,
    NameConflict,
    Deleting,
}

impl Reason {
    /// The reason of that name.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.to_string() == name)
    }

    /// Whether somebody has to do something, or Fly has to get well.
    pub fn is_failure(self) -> bool {
        use Reason::*;
        match self {
            Serving | Provisioning | Updating | Deleting => false,
            ServingDegraded | Degraded | InvalidService | LegacyTunnel | FlyUnauthorized | FlyCapacity | FlyQuota
            | FlyUnavailable | FrpcUnavailable | NameConflict => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_in_order_and_known_by_name() {
        for (index, reason) in Reason::ALL.iter().copied().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(Reason::named(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::named("Other"), None);
    }
}
