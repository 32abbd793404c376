//! A look or a step that did not work out. It is an input of the next plan, which decides what the Service shows of it.

use std::fmt;
use std::time::Duration;

use super::plan::step::{ServiceStep, Step};

/// The last look is not trusted any longer when a step was "only early" this often in a row.
const EARLY_TRIES: u32 = 5;

/// A look or a step that did not work out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    /// The words of the side that failed. They are the same as long as the failure is.
    pub text: String,
    /// When to try again, where that is known; `None`: later each time.
    pub retry_after: Option<Duration>,
    /// Fly's ID of the request, by which its support finds it. It differs each time.
    pub request_id: Option<String>,
}

/// The cause of a failure, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing is wrong, and what was seen holds: Fly's reads lag, or it is asked too often.
    Early,
    /// Nothing is wrong, but what was seen does not hold any more.
    Outdated,
    /// The App's name is taken: by somebody else, or by our own App that Fly does not show yet.
    NameTaken,
    /// The namespace that our objects live in is not there.
    NamespaceMissing,
    /// The cluster cannot be asked, or refuses us something.
    Cluster,
    /// The cluster does not take the object as it is.
    ObjectRefused,
    /// The token's file cannot be read. Fly was not asked.
    TokenUnreadable,
    /// Fly does not take the token.
    TokenRefused,
    /// Fly takes the token, and does not let it do this.
    TokenTooWeak,
    /// The App is ours, and of another organisation than ours.
    OtherOrganisation,
    Capacity,
    Quota,
    /// Something else changes it, or somebody holds a lease on it.
    Busy,
    /// Fly does not take the request as it is.
    Refused,
    /// Fly cannot be asked, or does not do what it is asked.
    Unavailable,
}

/// The thing that was tried, as far as it tells failures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Look,
    AllocateAddress,
    CreateMachine,
    DeleteApp,
    /// To write what the Service shows.
    Show,
    /// To add our finalizer to the Service, or to take it away.
    Finalizer,
    OtherStep,
}

/// The last failure, and how often in a row something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub attempt: Attempt,
    pub failure: Failure,
    /// Failures in a row, whatever they were.
    pub times: u32,
    /// It failed in this very pass: nothing more is tried in it.
    pub fresh: bool,
    /// The Service was not told of it.
    pub untold: bool,
    /// The Service may not be as it was seen, so it is not written before it was read again.
    pub unread: bool,
    /// A step like the one that failed was carried out since.
    pub solved: bool,
}

impl Failure {
    pub fn new(cause: Cause, text: impl Into<String>) -> Failure {
        Failure { cause, text: text.into(), retry_after: None, request_id: None }
    }

    /// Whether Fly did certainly not do what it was asked to. (It may have where it does not answer, say.)
    pub fn is_a_refusal(&self) -> bool {
        self.cause != Cause::Unavailable
    }

    /// The Service is not as it was seen.
    pub fn service_changed() -> Failure {
        Failure::new(Cause::Outdated, "the Service changed or went meanwhile")
    }
}

/// As people read it in the log. Conditions say more.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = match self.cause {
            Cause::Early | Cause::Outdated | Cause::NameTaken | Cause::NamespaceMissing | Cause::Cluster => "",
            Cause::OtherOrganisation => "",
            Cause::ObjectRefused => "the cluster does not take frpc's Deployment: ",
            Cause::TokenUnreadable => "the Fly token cannot be read: ",
            Cause::TokenRefused => "Fly does not take the token: ",
            Cause::TokenTooWeak => "Fly does not let us: ",
            Cause::Capacity => "Fly has no capacity: ",
            Cause::Quota => "Fly's quota or billing is in the way: ",
            Cause::Busy => "Fly does not do it while others are at it: ",
            Cause::Refused => "Fly refuses the request: ",
            Cause::Unavailable => "Fly cannot be asked: ",
        };
        write!(f, "{about}{}", self.text)
    }
}

impl Attempt {
    /// Whether the Service may have changed although it failed: the reply may be lost. It is read again before it is written.
    pub fn may_have_changed_the_service(self) -> bool {
        matches!(self, Attempt::Show | Attempt::Finalizer)
    }
}

impl Trouble {
    /// Whether a step failed that was not carried out since.
    pub fn is_unsolved(&self) -> bool {
        self.attempt != Attempt::Look && !self.solved
    }

    /// Whether the very step that failed was carried out since, so that whatever fails next is the first of a row.
    pub fn is_over(&self) -> bool {
        self.solved && self.attempt != Attempt::OtherStep
    }

    /// Whether what was seen may not hold any more.
    pub fn outdates_what_was_seen(&self) -> bool {
        self.failure.cause != Cause::Early || self.lasts_too_long_for_early()
    }

    /// Whether what "is only early" failed so often that it cannot be that alone.
    pub fn lasts_too_long_for_early(&self) -> bool {
        self.times > EARLY_TRIES
    }
}

impl Attempt {
    pub fn of(step: &Step) -> Attempt {
        match step {
            Step::AllocateAddress(_) => Attempt::AllocateAddress,
            Step::CreateMachine(_) => Attempt::CreateMachine,
            Step::DeleteApp => Attempt::DeleteApp,
            Step::For(_, ServiceStep::Show(_)) => Attempt::Show,
            Step::For(_, ServiceStep::AddFinalizer | ServiceStep::RemoveFinalizer) => Attempt::Finalizer,
            _ => Attempt::OtherStep,
        }
    }
}
