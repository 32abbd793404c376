//! Lists: page by page, each object decoded by itself as it arrives, so that one that cannot be read hides no other.
//!
//! The pages of one list are one consistent state of the cluster, to which the server's `continue` token
//! refers. A token can grow too old while it is being followed (410 Gone): then the list begins again.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, Kind};
use crate::meta::PartialObject;
use crate::reply;
use crate::request::{JSON, Method, Request};

/// The number of objects in a page: the default of client-go.
const PAGE: &str = "500";
/// The largest size of all pages of a list together, in bytes.
const LIST_LIMIT: u64 = 64 << 20;
/// The largest number of pages of a list. A server that sends more goes round in circles.
const MAX_PAGES: usize = 1_000;
/// A list is begun so often before the caller is told of the 410.
const MAX_STARTS: usize = 3;

/// The media type by which the server sends only the `metadata` of each object.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Selects objects of a kind; the default selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `app=web,tier!=db`
    pub label_selector: Option<String>,
    /// `spec.type=LoadBalancer`. Each kind knows only a few fields; for others the server says 400.
    pub field_selector: Option<String>,
}

/// The objects of a collection. Both lists are empty only where the server said that there are none.
#[derive(Debug)]
pub struct List<T> {
    pub items: Vec<T>,
    /// They are there, and `T` cannot hold them.
    pub unreadable: Vec<Unreadable>,
}

/// An object of a list that could not be decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Empty where not even the name can be read.
    pub name: String,
    /// For people: what was expected, and what came instead.
    pub why: String,
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List { items: Vec::new(), unreadable: Vec::new() }
    }
}

impl<T: DeserializeOwned> List<T> {
    /// Takes in an object by its text. An error says that it is no JSON.
    pub(crate) fn take(&mut self, object: &[u8]) -> serde_json::Result<()> {
        match serde_json::from_slice(object) {
            Ok(item) => self.items.push(item),
            Err(error) if error.is_data() => self.unreadable.push(Unreadable::new(object, &error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Client {
    /// Reads all objects of a collection.
    ///
    /// Items of a list have neither `apiVersion` nor `kind`: `T` must not require them.
    ///
    /// # Errors
    /// If a page fails, the whole list fails.
    pub fn list<T: DeserializeOwned>(&self, path: &str, query: &ListQuery) -> Result<List<T>, Error> {
        self.list_as(path, query, JSON)
    }

    /// Reads the metadata of all objects of a collection. The server sends nothing else of them.
    ///
    /// # Errors
    /// If a page fails, the whole list fails.
    pub fn list_metadata(&self, path: &str, query: &ListQuery) -> Result<List<PartialObject>, Error> {
        self.list_as(path, query, METADATA_ONLY)
    }

    fn list_as<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &ListQuery,
        accept: &'static str,
    ) -> Result<List<T>, Error> {
        let mut starts = 1;
        loop {
            match self.list_once(path, query, accept) {
                Err(error) if error.is_gone() && starts < MAX_STARTS => starts += 1,
                result => return result,
            }
        }
    }

    fn list_once<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &ListQuery,
        accept: &'static str,
    ) -> Result<List<T>, Error> {
        let mut all = List::default();
        let mut bytes_left = LIST_LIMIT;
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let request = Request { query: query.parameters(&next), accept, ..Request::new(Method::Get, path) };
            let reply = self.send(&request)?;
            let (following, bytes) = reply::read_page(reply, bytes_left, &mut |object| all.take(object))
                .map_err(|kind| request.error(kind))?;
            bytes_left -= bytes;
            if following.is_empty() {
                return Ok(all);
            }
            next = following;
        }
        Err(Request::new(Method::Get, path).error(Kind::Endless))
    }
}

impl ListQuery {
    fn parameters<'a>(&'a self, next: &'a str) -> Vec<(&'static str, &'a str)> {
        let mut parameters = vec![("limit", PAGE)];
        let optional = [
            ("labelSelector", self.label_selector.as_deref()),
            ("fieldSelector", self.field_selector.as_deref()),
            ("continue", Some(next).filter(|next| !next.is_empty())),
        ];
        for (key, value) in optional {
            parameters.extend(value.map(|value| (key, value)));
        }
        parameters
    }
}

impl Unreadable {
    fn new(object: &[u8], error: &serde_json::Error) -> Unreadable {
        /// An object as far as it is needed to name it.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            metadata: Names,
        }

        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Names {
            namespace: String,
            name: String,
        }

        let Named { metadata: Names { namespace, name } } = serde_json::from_slice(object).unwrap_or_default();
        Unreadable { namespace, name, why: error.to_string() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { namespace, name, why } = self;
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{namespace}{slash}{name} cannot be read: {why}")
    }
}
