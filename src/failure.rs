//! Errors of both systems become failures that a plan understands.

use crate::cluster::error::ClusterError;
use crate::fly::error::{ErrorKind, FlyError};
use crate::tunnel::failure::{Cause, Failure};

impl From<FlyError> for Failure {
    fn from(error: FlyError) -> Failure {
        let (cause, text) = match error.kind {
            ErrorKind::TokenUnreadable(text) => (Cause::TokenUnreadable, text),
            ErrorKind::Unauthorized(text) => (Cause::TokenRefused, text),
            ErrorKind::Forbidden(text) => (Cause::TokenTooWeak, text),
            ErrorKind::Capacity(text) => (Cause::Capacity, text),
            ErrorKind::Quota(text) => (Cause::Quota, text),
            ErrorKind::Busy(text) => (Cause::Busy, text),
            ErrorKind::Refused(text) => (Cause::Refused, text),
            ErrorKind::Unavailable(text) => (Cause::Unavailable, text),
            ErrorKind::MachineExists(id) => (Cause::Unavailable, format!("Machine {id} has the name")),
            ErrorKind::NameTaken => (Cause::NameTaken, "the name is taken".to_owned()),
            ErrorKind::NotFound => (Cause::Early, "Fly does not find it".to_owned()),
            ErrorKind::RateLimited(retry_after) => {
                let early = Failure::new(Cause::Early, "Fly is asked too often");
                return Failure { retry_after, request_id: error.request_id, ..early };
            }
        };
        Failure { request_id: error.request_id, ..Failure::new(cause, text) }
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Failure {
        Failure { retry_after: error.retry_after, ..Failure::new(Cause::Cluster, error.to_string()) }
    }
}
