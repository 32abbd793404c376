//! A client by which tests use the cluster, blocking and as its administrator.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{APPLY, ApiError, Client, JSON_PATCH, MERGE_PATCH};
use crate::runtime;

/// A blocking JSON client, straight to the API server: no recorder sees its requests. Paths are those of the API, such
/// as `/api/v1/namespaces/default/services/web`; a query may follow.
///
/// Do not call it from within the lab's runtime.
#[derive(Clone)]
pub struct Kube {
    client: Client,
}

impl Kube {
    pub(crate) fn new(client: Client) -> Kube {
        Kube { client }
    }

    /// Gets an object.
    ///
    /// # Errors
    /// The error is any answer of the API server but success; its status is 0 if there is no answer. The same holds for
    /// all methods that follow.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        runtime().block_on(self.client.get(path))
    }

    /// Gets an object that may be missing.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`], but for 404.
    pub fn find(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self.get(path) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the items of a collection.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn list(&self, collection: &str) -> Result<Vec<Value>, ApiError> {
        let mut list = self.get(collection)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Posts an object to its collection.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        runtime().block_on(self.client.create(collection, object))
    }

    /// Applies an object (server-side) under the field manager `lab`, with force. `path` names the object.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager=lab&force=true");
        runtime().block_on(self.client.patch(&path, APPLY, object))
    }

    /// Sends a JSON merge patch.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn merge_patch(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        runtime().block_on(self.client.patch(path, MERGE_PATCH, patch))
    }

    /// Sends a JSON patch.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn json_patch(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        runtime().block_on(self.client.patch(path, JSON_PATCH, patch))
    }

    /// Replaces an object (PUT).
    ///
    /// # Errors
    /// The errors are those of [`Self::get`].
    pub fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        runtime().block_on(self.client.replace(path, object))
    }

    /// Deletes an object, with its grace period and in the background. It is no error if the object is gone already.
    ///
    /// # Errors
    /// The errors are those of [`Self::get`], but for 404.
    pub fn delete(&self, path: &str) -> Result<(), ApiError> {
        let options = json!({"propagationPolicy": "Background"});
        match runtime().block_on(self.client.delete(path, &options)) {
            Err(error) if error.status != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads `path` again and again until `predicate` holds of the object (`None` if there is none). Returns the
    /// object, or null for `None`.
    ///
    /// # Panics
    /// It panics if that takes longer than `deadline`, or if the API server refuses the request. The message has the
    /// object that was last seen.
    #[track_caller]
    pub fn wait_until(&self, path: &str, deadline: Duration, predicate: impl Fn(Option<&Value>) -> bool) -> Value {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let seen = self.find(path);
            match &seen {
                Ok(seen) if predicate(seen.as_ref()) => return seen.clone().unwrap_or_default(),
                Err(error) if !error.is_passing() => panic!("{path}: {error}"),
                _ => {}
            }
            if start.elapsed() > deadline {
                let last =
                    seen.map_or_else(|error| error.to_string(), |seen| format!("{:#}", seen.unwrap_or_default()));
                panic!("{path} is not as it should be after {deadline:?}: {last}");
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(160));
        }
    }
}
