//! The client: one method for each thing that can be asked of an API server.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::config::{Config, ConfigError};
use crate::delete::DeleteOptions;
use crate::error::Error;
use crate::options::ClientOptions;
use crate::patch::{self, PatchOperation};
use crate::reply::{self, OBJECT_LIMIT, Reply};
use crate::request::{JSON, Method, Request};
use crate::transport::Transport;
use crate::version::Version;

/// A client of one API server. Clones share their connections and may be used from many threads.
///
/// Paths are those of [`crate::Resource`]. Each request has one deadline for all that it takes.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<Transport>,
    timeout: Duration,
}

impl Client {
    /// A client with the default options. Nothing is sent yet.
    ///
    /// # Errors
    /// A certificate, a key or a user agent that cannot be used.
    pub fn new(config: Config, user_agent: &str) -> Result<Client, ConfigError> {
        Client::with_options(config, &ClientOptions::new(user_agent))
    }

    /// A client with other options.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_options(config: Config, options: &ClientOptions) -> Result<Client, ConfigError> {
        let transport = Arc::new(Transport::new(config, options)?);
        Ok(Client { transport, timeout: options.timeout })
    }

    /// The same client, on the same connections, with another deadline for each of its requests.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { transport: Arc::clone(&self.transport), timeout }
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is none.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.run(Request::new(Method::Get, path))
    }

    /// Creates an object, in the collection that `path` names.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] where the name is taken. A creation whose reply was lost is not
    /// repeated: it may have happened.
    pub fn create<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.run(Request::new(Method::Post, path).with_body(JSON, body)?)
    }

    /// Writes a whole object in place of the one that is there. The body should carry the `metadata.resourceVersion`
    /// that it was made from.
    ///
    /// # Errors
    /// [`Error::is_conflict`] where somebody else was faster. A replacement whose reply was lost is not repeated.
    pub fn replace<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.run(Request::new(Method::Put, path).with_body(JSON, body)?)
    }

    /// Changes an object by a JSON patch.
    ///
    /// A patch that tests `/metadata/resourceVersion` is sent again if its connection turns out to be dead;
    /// had the first one arrived, the second meets another version.
    ///
    /// # Errors
    /// [`Error::is_invalid`] where a test failed or a path is not there: read the object again.
    pub fn json_patch<T: DeserializeOwned>(&self, path: &str, patch: &[PatchOperation]) -> Result<T, Error> {
        let request = Request { repeatable: patch::is_guarded(patch), ..Request::new(Method::Patch, path) };
        self.run(request.with_body("application/json-patch+json", &patch)?)
    }

    /// Creates an object or changes it, by server-side apply: `field_manager` owns the fields in `body`,
    /// whoever owned them before (`force`), and whatever it owned and no longer sends is taken away.
    ///
    /// # Errors
    /// A 500 `field not declared in schema` means a server that is too old for a field; it is not retryable.
    /// The status of an object that is not there is a 422 ([`Error::is_invalid`]), not a 404.
    pub fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        field_manager: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let request = Request {
            query: vec![("fieldManager", field_manager), ("force", "true")],
            // To apply the same twice is to apply it once.
            repeatable: true,
            ..Request::new(Method::Patch, path)
        };
        // JSON is YAML.
        self.run(request.with_body("application/apply-patch+yaml", body)?)
    }

    /// Deletes an object. It may stay for a while: for its finalizers, for its grace period, or because its
    /// dependents go first.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where it is gone already, [`Error::is_conflict`] where a precondition does not hold.
    pub fn delete(&self, path: &str, options: &DeleteOptions) -> Result<(), Error> {
        let request = Request { repeatable: options.is_guarded(), ..Request::new(Method::Delete, path) };
        self.run::<IgnoredAny>(request.with_body(JSON, &options.body())?).map(|_| ())
    }

    /// Which version the server has. Needs no right but to be known to the server.
    ///
    /// # Errors
    /// As any request.
    pub fn version(&self) -> Result<Version, Error> {
        self.get("/version")
    }

    fn run<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let reply = self.send(&request)?;
        let decoded = reply::decode(reply, OBJECT_LIMIT);
        decoded.map(|(value, _)| value).map_err(|kind| request.error(kind))
    }

    pub(crate) fn send(&self, request: &Request) -> Result<Reply, Error> {
        self.transport.send(request, self.timeout)
    }
}
