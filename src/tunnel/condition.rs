//! A Service shows its addresses and our condition. Each condition has its constructor here, and here it is read back;
//! nobody else writes or reads such texts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

pub use super::note::{Note, OtherOwner};
pub use super::ready::Ready;
use super::ready::{leading_rfc3339, rfc3339};
pub use super::reason::Reason;
use crate::service::Service;
use crate::service::request::Warning;

/// The whole of what we write into a Service's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub addresses: Vec<IpAddr>,
    /// The Service is no load balancer of ours any more, so its addresses are somebody else's to write: they stay as they are.
    pub condition_alone: bool,
    pub condition: Condition,
    pub ready: Ready,
    /// Things that people have to know beside. They stand behind the condition's message.
    pub notes: Vec<Note>,
}

/// Our condition: why a Service is as it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub reason: Reason,
    /// It holds nothing that changes by itself: no times, counts or request IDs.
    message: String,
}

/// The tunnel is on its way, or serves.
impl Condition {
    fn new(reason: Reason, message: impl Into<String>) -> Condition {
        Condition { reason, message: message.into() }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn provisioning() -> Condition {
        Condition::new(Reason::Provisioning, "the tunnel is being made")
    }

    /// By so many lanes.
    pub fn serving(address: Ipv4Addr, lanes: usize) -> Condition {
        let by = if lanes > 1 { format!("{BY}{lanes} lanes") } else { String::new() };
        Condition::new(Reason::Serving, format!("serving at {address}{by}"))
    }

    /// More lanes are wanted than there were.
    pub fn lanes_join(serving: usize, wanted: usize) -> Condition {
        Condition::new(Reason::Updating, format!("{serving} of {wanted} lanes serve, and the others are being made"))
    }

    /// Fewer lanes are wanted than there were.
    pub fn lanes_leave() -> Condition {
        Condition::new(Reason::Updating, "lanes that are not wanted any more are closed")
    }

    /// Lanes are missing since that time. `missing` tells which, and why.
    pub fn serving_degraded(serving: usize, wanted: usize, since: SystemTime, missing: &str) -> Condition {
        let since = rfc3339(since);
        let message = format!("{serving} of {wanted} lanes serve{SINCE}{since}: {missing}");
        Condition::new(Reason::ServingDegraded, message)
    }

    pub fn taking_over() -> Condition {
        Condition::new(Reason::Updating, "a new lane takes over from the old one")
    }

    /// Only so many tunnels replace their lanes at once.
    pub fn waiting_its_turn() -> Condition {
        Condition::new(Reason::Updating, "the old lane serves on; a new one is made when other tunnels have moved")
    }

    /// Fly routes a port to all Machines that expose it, so a lane that is controlled on a port of the Service goes first.
    pub fn breaking_first() -> Condition {
        Condition::new(
            Reason::Updating,
            "the Service asks for the very port on which its lane is controlled, so that lane is closed first: new \
             connections fail until the new lane serves",
        )
    }

    pub fn deleting() -> Condition {
        Condition::new(Reason::Deleting, "the tunnel is being taken down")
    }
}

/// Something is wrong with the tunnel.
impl Condition {
    pub fn fails_to_start(app: &str) -> Condition {
        Condition::new(Reason::Degraded, fails_to_start(app))
    }

    /// New Machines do not come to serve, while an old lane does.
    pub fn new_lane_fails_to_start(app: &str) -> Condition {
        Condition::new(Reason::Degraded, format!("the old lane serves on; {}", fails_to_start(app)))
    }

    /// `why`: in the cluster's own words.
    pub fn frpc_unavailable(why: &str) -> Condition {
        Condition::new(Reason::FrpcUnavailable, format!("the cluster does not run frpc: {why}"))
    }

    /// The cluster does not run the frpc of a new lane, and an old lane serves.
    pub fn new_frpc_unavailable(why: &str) -> Condition {
        Condition::new(
            Reason::FrpcUnavailable,
            format!("the old lane serves on; the cluster does not run the frpc of the new one: {why}"),
        )
    }

    pub fn no_lane_serves() -> Condition {
        Condition::new(Reason::Degraded, "no lane serves at the moment; it is being repaired")
    }

    /// The Machine and its frpc run, and yet nobody is reached through them.
    pub fn unreached(app: &str, machine: &str) -> Condition {
        let message = format!(
            "no lane serves: Machine {machine} of the App {app} runs, and nobody is reached through it; the log of its frpc and \
             `fly logs --app {app}` may tell why, and `fly machine destroy --app {app} --force {machine}` has another made"
        );
        Condition::new(Reason::Degraded, message)
    }

    pub fn no_address_listed() -> Condition {
        Condition::new(
            Reason::Degraded,
            "Fly lists no address of the tunnel; another is asked for if it does not for a minute",
        )
    }

    /// The cluster fails us, or refuses us something.
    pub fn cluster_fails(text: &str) -> Condition {
        Condition::new(Reason::Degraded, text)
    }
}

/// The Service, or what is somebody else's, is in the way.
impl Condition {
    pub fn invalid_service(message: &str) -> Condition {
        Condition::new(Reason::InvalidService, message)
    }

    /// Fly does not take the Machine as it is asked for.
    pub fn machine_refused(text: &str) -> Condition {
        Condition::new(
            Reason::InvalidService,
            format!("{text}; mend what it names, in the annotations of the Service or in the operator's settings"),
        )
    }

    pub fn deployment_refused(text: &str) -> Condition {
        Condition::new(Reason::InvalidService, text)
    }

    pub fn legacy_tunnel(annotation: &str) -> Condition {
        Condition::new(
            Reason::LegacyTunnel,
            format!(
                "annotation {annotation} is of the Go operator, whose App may still be there: nothing is touched. \
                 Delete that App and remove its annotations, and a tunnel is made"
            ),
        )
    }

    pub fn legacy_tunnel_of_a_deleted_service() -> Condition {
        Condition::new(
            Reason::LegacyTunnel,
            "the Go operator's App may still be there: delete it, then take away the finalizer by hand",
        )
    }

    /// `who` says whose the App is.
    pub fn name_taken(app: &str, who: &str) -> Condition {
        Condition::new(
            Reason::NameConflict,
            format!(
                "the Fly App {app} exists and is not of this owner ({who}): rename the Service, or delete the App if it is \
                 yours"
            ),
        )
    }

    pub fn other_owner(other: &OtherOwner) -> Condition {
        Condition::new(Reason::NameConflict, other.advice())
    }
}

/// Fly fails us, or refuses us something.
impl Condition {
    /// Fly was not asked: there is no token to ask with.
    pub fn token_unreadable(text: &str) -> Condition {
        Condition::new(
            Reason::FlyUnavailable,
            format!(
                "the Fly token cannot be read, so Fly is not asked: {text}; mend the file that --fly-api-token-file names"
            ),
        )
    }

    pub fn token_refused(text: &str) -> Condition {
        Condition::new(
            Reason::FlyUnauthorized,
            format!("{text}; give the operator one that `fly tokens create org` made for the organisation"),
        )
    }

    pub fn token_too_weak(text: &str) -> Condition {
        Condition::new(
            Reason::FlyUnauthorized,
            format!("{text}; the token must be of the organisation that --fly-org names, and not read-only"),
        )
    }

    pub fn other_organisation(text: &str) -> Condition {
        Condition::new(Reason::FlyUnauthorized, format!("{text}: mend --fly-org"))
    }

    pub fn no_capacity(text: &str) -> Condition {
        Condition::new(
            Reason::FlyCapacity,
            format!("{text}; name more regions (--fly-region or the annotation fly-region), or wait"),
        )
    }

    pub fn over_quota(text: &str) -> Condition {
        Condition::new(
            Reason::FlyQuota,
            format!("Fly's quota or billing is in the way: {text}; see the organisation's billing page at fly.io"),
        )
    }

    pub fn fly_unavailable(text: &str) -> Condition {
        Condition::new(Reason::FlyUnavailable, text)
    }

    /// A person has to see to it, or the App is billed for ever.
    pub fn app_not_deleted(app: &str, text: &str) -> Condition {
        Condition::new(
            Reason::FlyUnavailable,
            format!("Fly does not delete the App: {text}. If that lasts: `fly apps destroy {app}`"),
        )
    }
}

/// The advice where Machines are made again and again.
pub(super) fn fails_to_start(app: &str) -> String {
    format!("Machines of the App {app} do not come to serve and are made again; `fly logs --app {app}` may tell why")
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// It stands before the number of lanes that serve, and before the time since which some do not.
const BY: &str = " by ";
const SINCE: &str = ", since ";

/// It stands between the message and each of its notes.
const SEPARATOR: &str = "; ";

impl Shown {
    /// The addresses with this condition and no note, where no user is served.
    pub fn new(addresses: Vec<IpAddr>, condition: Condition) -> Shown {
        Shown { addresses, condition_alone: false, condition, ready: Ready::False, notes: Vec::new() }
    }

    /// The condition's message, with the notes behind it.
    pub fn message(&self) -> String {
        let notes = self.notes.iter().map(Note::to_string);
        let message = std::iter::once(self.condition.message.clone());
        message.chain(self.ready.comfort()).chain(notes).collect::<Vec<_>>().join(SEPARATOR)
    }

    /// Whether the Service shows just this.
    pub fn is_shown_by(&self, service: &Service) -> bool {
        (self.condition_alone || service.shows(&self.addresses))
            && service.condition().is_some_and(|condition| {
                condition.status == self.ready.status()
                    && condition.reason == self.condition.reason.to_string()
                    && condition.message == self.message()
            })
    }

    /// The warnings among the notes.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        self.notes.iter().filter_map(|note| match note {
            Note::Warning(warning) => Some(*warning),
            Note::FrpcConnected | Note::Failure(_) | Note::SharedHost(..) => None,
            Note::OtherOwner(_) | Note::Stranger { .. } => None,
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ready == Ready::True {
            write!(f, "ready ")?;
        }
        if !self.addresses.is_empty() && !self.condition_alone {
            let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
            write!(f, "[{}] ", addresses.join(", "))?;
        }
        write!(f, "{}: {}", self.condition.reason, self.message())
    }
}

/// Our condition as a Service shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub reason: Reason,
    message: String,
}

impl Read {
    /// Our condition on the Service; `None` where it has none, or one with a reason that this version does not know.
    pub fn of(service: &Service) -> Option<Read> {
        let condition = service.condition()?;
        Some(Read { reason: Reason::named(&condition.reason)?, message: condition.message.clone() })
    }

    /// The number of lanes that serve, or served when all did. 1 where it does not tell.
    pub fn lanes(&self) -> usize {
        let number = self.message.split_once(BY).and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
        number.filter(|_| self.reason == Reason::Serving).unwrap_or(1)
    }

    /// Since when lanes are missing, if some are.
    pub fn degraded_since(&self) -> Option<SystemTime> {
        let (_, rest) = self.message.split_once(SINCE).filter(|_| self.reason == Reason::ServingDegraded)?;
        leading_rfc3339(rest)
    }

    /// Whether the warning stands in it, as a note of its own.
    pub fn warns(&self, warning: Warning) -> bool {
        self.message.split(SEPARATOR).any(|part| part == warning.text())
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn a_condition_is_read_back_with_its_warnings() {
        let condition = Condition::serving(Ipv4Addr::new(192, 0, 2, 1), 1);
        let notes = vec![Note::Warning(Warning::LoadBalancerIp)];
        let shown = Shown { notes, ..Shown::new(Vec::new(), condition) };
        let mut service = examples::service();
        assert_eq!(Read::of(&service), None);
        examples::show(&mut service, &shown);
        assert!(shown.is_shown_by(&service));
        let read = Read::of(&service).expect("it is ours");
        assert_eq!(read.reason, Reason::Serving);
        assert_eq!(Warning::ALL.map(|warning| read.warns(warning)), [false, true]);
        assert_eq!((read.lanes(), read.degraded_since()), (1, None));
    }

    #[test]
    fn the_number_of_lanes_and_the_time_are_read_back() {
        let since = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60);
        for (condition, lanes, degraded_since) in [
            (Condition::serving(Ipv4Addr::new(192, 0, 2, 1), 3), 3, None),
            (Condition::serving_degraded(1, 2, since, "lane 1 is being repaired"), 1, Some(since)),
            (Condition::no_capacity("it stood by 3 lanes, since 1970-01-01T00:01:00Z"), 1, None),
        ] {
            let mut service = examples::service();
            examples::show(&mut service, &Shown::new(Vec::new(), condition));
            let read = Read::of(&service).expect("it is ours");
            assert_eq!((read.lanes(), read.degraded_since()), (lanes, degraded_since), "{read}");
        }
    }
}
