//! The things that do not work, and the outcome of each request.

use std::fmt;
use std::time::Duration;

use super::State;
use crate::cluster::error as cluster;
use crate::examples::Dice;
use crate::fly::error as fly;

/// A request takes up to so many milliseconds.
const LONGEST_REQUEST: u64 = 400;

/// The things that do not work at the moment.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// So many of a hundred requests fail: before they are carried out, or after.
    pub failures: u64,
    /// So many of a hundred requests are too many.
    pub too_many: u64,
    /// Fly takes nothing from us, or the cluster does: the token has expired, or a role is gone.
    pub refused_by: Option<Side>,
    /// Fly has no room for a Machine.
    pub no_capacity: bool,
    /// Fly gives no address and no Machine: a bill was not paid.
    pub over_quota: bool,
    /// Fly does not take Machines as they are asked for.
    pub machines_refused: bool,
    /// Machines that are made now never boot.
    pub no_boot: bool,
    /// The cluster does not run frpc that is applied now.
    pub no_frpc: bool,
    /// A policy refuses writes to the status of Services.
    pub status_refused: bool,
    /// A policy refuses writes of finalizers.
    pub finalizer_refused: bool,
    /// A policy refuses Deployments.
    pub deployments_refused: bool,
    /// A role lets us list no objects of ours.
    pub lists_refused: bool,
    /// Fly does not find an App that was just made for up to so many seconds.
    pub lag: u64,
    /// So many of a hundred of Fly's reads show how an App was before it last changed.
    pub stale: u64,
    /// So many of a hundred lists lack what is there.
    pub lists_lack: u64,
}

/// One of both systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Fly,
    Cluster,
}

impl Faults {
    /// Some of them, or none.
    pub fn rolled(dice: &mut Dice) -> Faults {
        let mut faults = Faults {
            failures: [0, 0, 5, 30][dice.below(4) as usize],
            too_many: [0, 0, 0, 20][dice.below(4) as usize],
            ..Faults::default()
        };
        for _ in 0..dice.below(3) {
            match dice.below(16) {
                0 => faults.no_capacity = true,
                1 => faults.over_quota = true,
                2 => faults.machines_refused = true,
                3 => faults.no_boot = true,
                4 | 5 => faults.no_frpc = true,
                6 => faults.status_refused = true,
                7 => faults.finalizer_refused = true,
                8 => faults.deployments_refused = true,
                9 => faults.refused_by = Some([Side::Fly, Side::Cluster][dice.below(2) as usize]),
                10 | 11 => faults.lag = [10, 55][dice.below(2) as usize],
                12 | 13 => faults.stale = 50,
                14 => faults.lists_lack = 30,
                15 => faults.lists_refused = true,
                _ => {}
            }
        }
        faults
    }
}

/// As stories tell it: those that there are.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = format!("{self:?}");
        let all = all.trim_start_matches("Faults { ").trim_end_matches(" }").split(", ");
        let is_there = |fault: &&str| ![": 0", ": false", ": None"].iter().any(|none| fault.ends_with(none));
        f.write_str(&all.filter(is_there).collect::<Vec<_>>().join(", "))
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Served,
    /// It was never carried out.
    Refused(Refusal),
    /// It is carried out, and the reply is lost.
    ReplyLost,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The connection breaks, or the reply is a 5xx.
    Down,
    /// 429, with the pause that is wished for, if any.
    TooMany(Option<Duration>),
    /// 403.
    Forbidden,
    /// 401.
    Unauthorized,
    /// 409: something else changes it at this moment.
    Conflict,
}

impl State {
    /// A request is sent to one side: time passes, and it may fail.
    pub(super) fn fate(&mut self, to: Side) -> Fate {
        let took = Duration::from_millis(self.dice.below(LONGEST_REQUEST));
        self.pass(took);
        self.requests += 1;
        if let Some(left) = &mut self.dies_after {
            if *left == 0 {
                return Fate::Refused(Refusal::Down);
            }
            *left -= 1;
        }
        let Faults { failures, too_many, refused_by, .. } = self.faults;
        if refused_by == Some(to) {
            return Fate::Refused(if self.now.as_secs().is_multiple_of(2) {
                Refusal::Forbidden
            } else {
                Refusal::Unauthorized
            });
        }
        if too_many > 0 && self.dice.percent(too_many) {
            let wish = self.dice.below(4);
            return Fate::Refused(Refusal::TooMany((wish > 0).then(|| Duration::from_secs(wish))));
        }
        if failures == 0 || !self.dice.percent(failures) {
            return Fate::Served;
        }
        match self.dice.below(8) {
            0..=2 => Fate::Refused(Refusal::Down),
            3 => Fate::Refused(Refusal::Conflict),
            _ => Fate::ReplyLost,
        }
    }

    /// Whether this list lacks what is there. It does no second time: of two in a row that lack the same, both are believed.
    pub(super) fn lacks(&mut self, list: &str) -> bool {
        let percent = self.faults.lists_lack;
        if percent == 0 || self.unheard || self.lists_that_lacked.iter().any(|known| known == list) {
            return false;
        }
        let lacks = self.dice.percent(percent);
        if lacks {
            self.lists_that_lacked.push(list.to_owned());
        }
        lacks
    }
}

impl Refusal {
    pub(super) fn at_fly(self) -> fly::FlyError {
        use fly::ErrorKind;
        match self {
            Refusal::Down => ErrorKind::Unavailable("down".into()),
            Refusal::TooMany(wish) => ErrorKind::RateLimited(wish),
            Refusal::Forbidden => ErrorKind::Forbidden("unauthorized".into()),
            Refusal::Unauthorized => ErrorKind::Unauthorized("token validation error".into()),
            Refusal::Conflict => ErrorKind::Busy("aborted: concurrent update".into()),
        }
        .into()
    }

    pub(super) fn in_the_cluster(self) -> cluster::ClusterError {
        use cluster::{ClusterError, ErrorKind};
        match self {
            Refusal::Down => ClusterError::new(ErrorKind::Other, "the API server is down"),
            Refusal::TooMany(wish) => {
                let mut error = ClusterError::new(ErrorKind::Other, "too many requests");
                error.retry_after = wish;
                error
            }
            Refusal::Forbidden => ClusterError::new(ErrorKind::Forbidden, "forbidden"),
            Refusal::Unauthorized => ClusterError::new(ErrorKind::Other, "Unauthorized"),
            Refusal::Conflict => ClusterError::new(ErrorKind::Conflict, "the object has been modified"),
        }
    }
}
