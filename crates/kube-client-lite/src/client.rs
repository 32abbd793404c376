//! The client: one method for each thing that can be asked of an API server.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::config::{Config, ConfigError};
use crate::error::Error;
use crate::options::ClientOptions;
use crate::patch::{self, PatchOperation};
use crate::reply::{self, Reply};
use crate::request::{JSON, Method, Request};
use crate::transport::Transport;
use crate::version::Version;

/// A client of one API server. Clones share their connections and may be used from many threads.
///
/// [`crate::Resource`] makes the paths. Each request has one deadline, for everything that it takes.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<Transport>,
    timeout: Duration,
}

impl Client {
    /// A client of the server that `config` names. Nothing is sent yet.
    ///
    /// # Errors
    /// A certificate, a key or the user agent cannot be used.
    pub fn new(config: Config, options: &ClientOptions) -> Result<Client, ConfigError> {
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
    /// [`Error::is_already_exists`] where the name is taken. If the reply is lost, the creation is not sent again: it may have
    /// happened.
    pub fn create<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.run(Request::new(Method::Post, path).with_body(JSON, body)?)
    }

    /// Writes a whole object in place of the one that is there: what is not in the body goes, whoever wrote it. A body that
    /// carries the `metadata.resourceVersion` of the object that it was made from replaces no other.
    ///
    /// # Errors
    /// [`Error::is_conflict`] where somebody else was faster, [`Error::is_not_found`] where there is nothing to replace. If the
    /// reply is lost, the replacement is not sent again.
    pub fn replace<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.run(Request::new(Method::Put, path).with_body(JSON, body)?)
    }

    /// Changes an object by a JSON patch.
    ///
    /// A patch that tests `/metadata/resourceVersion` is sent again if its connection turns out to be dead. Should the first
    /// one have arrived, the second one meets another version and fails.
    ///
    /// # Errors
    /// [`Error::is_invalid`] where a test failed, or where there is nothing at a path. Read the object again then.
    pub fn json_patch<T: DeserializeOwned>(&self, path: &str, patch: &[PatchOperation]) -> Result<T, Error> {
        let request = Request { repeatable: patch::is_guarded(patch), ..Request::new(Method::Patch, path) };
        self.run(request.with_body("application/json-patch+json", &patch)?)
    }

    /// Creates an object or changes it, by server-side apply. `field_manager` owns the fields in `body` from then on,
    /// whoever owned them before (`force`). Fields that it owned, and that are not in `body`, are removed.
    ///
    /// # Errors
    /// A 500 `field not declared in schema` says that the server is too old for a field; another try does not help.
    /// For the status of an object that is not there the server says 422 ([`Error::is_invalid`]), not 404.
    pub fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        field_manager: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let request = Request {
            query: vec![("fieldManager", field_manager), ("force", "true")],
            // Applied twice, the same body changes no more than applied once.
            repeatable: true,
            ..Request::new(Method::Patch, path)
        };
        // The body is JSON, which is YAML, too.
        self.run(request.with_body("application/apply-patch+yaml", body)?)
    }

    /// Deletes the object that has this name, whichever it is. It may stay for a while: for its finalizers, for its grace
    /// period, or because its dependents go first. If the reply is lost, the deletion is not sent again: by then the name may
    /// be another object's.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where it is gone already.
    pub fn delete(&self, path: &str) -> Result<(), Error> {
        self.run::<IgnoredAny>(Request::new(Method::Delete, path)).map(|_| ())
    }

    /// The version of the server. Every user that the server knows may ask for it.
    ///
    /// # Errors
    /// The request fails.
    pub fn version(&self) -> Result<Version, Error> {
        self.get("/version")
    }

    fn run<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let reply = self.send(&request)?;
        reply::decode(reply).map_err(|kind| request.error(kind))
    }

    pub(crate) fn send(&self, request: &Request) -> Result<Reply, Error> {
        self.transport.send(request, self.timeout)
    }
}
