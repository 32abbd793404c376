//! The errors with which Fly answers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal: an HTTP status, a text, and for some a `status` that clients may rely on.
///
/// Machine errors begin with a code such as `invalid_argument`. Each code has the HTTP status that recorded pairs show
/// (`deadline_exceeded` 408, `already_exists` and `aborted` 409, `resource_exhausted` 429). A code of which no pair was
/// recorded has Twirp's status, since all recorded pairs fit Twirp.
#[derive(Debug)]
pub(crate) struct FlyError {
    status: StatusCode,
    error: String,
    code: Option<&'static str>,
}

pub(crate) type FlyResult<T> = Result<T, FlyError>;

impl FlyError {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> FlyError {
        FlyError { status, error: error.into(), code: None }
    }

    pub(crate) fn invalid_argument(why: impl AsRef<str>) -> FlyError {
        FlyError::new(StatusCode::BAD_REQUEST, format!("invalid_argument: {}", why.as_ref()))
    }

    pub(crate) fn failed_precondition(why: impl AsRef<str>) -> FlyError {
        FlyError::new(StatusCode::PRECONDITION_FAILED, format!("failed_precondition: {}", why.as_ref()))
    }

    pub(crate) fn aborted(why: impl AsRef<str>) -> FlyError {
        FlyError::new(StatusCode::CONFLICT, format!("aborted: {}", why.as_ref()))
    }

    pub(crate) fn not_found(what: &str) -> FlyError {
        FlyError::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    pub(crate) fn unauthorized() -> FlyError {
        FlyError::new(StatusCode::FORBIDDEN, "unauthorized")
    }

    pub(crate) fn unauthenticated() -> FlyError {
        FlyError::new(StatusCode::UNAUTHORIZED, "Authenticate: token validation error")
    }

    pub(crate) fn rate_limited() -> FlyError {
        FlyError::new(StatusCode::TOO_MANY_REQUESTS, "resource_exhausted: rate limit exceeded")
    }

    pub(crate) fn name_taken() -> FlyError {
        let error = FlyError::validation("Name has already been taken");
        FlyError { code: Some("name_taken"), ..error }
    }

    /// A 422 of the Apps half of the API.
    pub(crate) fn validation(why: &str) -> FlyError {
        FlyError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("Validation failed: {why}"))
    }

    pub(crate) fn insufficient_capacity() -> FlyError {
        let error = FlyError::new(StatusCode::UNPROCESSABLE_ENTITY, "could not find a candidate host");
        FlyError { code: Some("insufficient_capacity"), ..error }
    }
}

impl IntoResponse for FlyError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error });
        if let Some(code) = self.code {
            body["status"] = code.into();
        }
        (self.status, Json(body)).into_response()
    }
}
