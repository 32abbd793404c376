//! A request to the API server, before anything is known of connections and logins.

use serde::Serialize;

use crate::error::{Error, Kind};

pub(crate) const JSON: &str = "application/json";

/// A request to the API server.
pub(crate) struct Request<'a> {
    pub method: Method,
    /// The path in the API, with a leading slash.
    pub path: &'a str,
    pub query: Vec<(&'static str, &'a str)>,
    pub accept: &'static str,
    /// Sent twice, the request does no more than sent once.
    pub repeatable: bool,
    pub content_type: &'static str,
    /// Empty for `GET` and `DELETE`.
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, path: &'a str) -> Request<'a> {
        Request {
            method,
            path,
            query: Vec::new(),
            accept: JSON,
            repeatable: method == Method::Get,
            content_type: JSON,
            body: Vec::new(),
        }
    }

    pub(crate) fn with_body(self, content_type: &'static str, body: &impl Serialize) -> Result<Request<'a>, Error> {
        match serde_json::to_vec(body) {
            Ok(body) => Ok(Request { content_type, body, ..self }),
            Err(error) => Err(self.error(Kind::Body(error))),
        }
    }

    /// Makes an error of this request.
    pub(crate) fn error(&self, kind: Kind) -> Error {
        Error::new(format!("{} {}", self.method.name(), self.path), kind)
    }
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}
