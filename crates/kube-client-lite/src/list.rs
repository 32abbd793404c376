//! Lists: page by page, each decoded as it arrives.
//!
//! The pages of one list are one consistent state of the cluster, to which the server's `continue` token
//! refers. A token can grow too old while it is being followed (410 Gone): then the list begins again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::client::Client;
use crate::error::{Error, Kind};
use crate::meta::PartialObject;
use crate::reply;
use crate::request::{JSON, Method, Request};

/// Objects in a page; client-go's default.
const PAGE: &str = "500";
/// What all pages of a list may weigh together, in bytes.
const LIST_LIMIT: u64 = 64 << 20;
/// Pages of a list; a server that sends more goes round in circles.
const MAX_PAGES: usize = 1_000;
/// How often a list is begun before its 410 is the caller's.
const MAX_STARTS: usize = 3;

/// With it the server sends of each object only its `metadata`.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Which objects of a kind; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `app=web,tier!=db`
    pub label_selector: Option<String>,
    /// `spec.type=LoadBalancer`. Each kind knows only a few fields, and refuses others with a 400.
    pub field_selector: Option<String>,
}

impl Client {
    /// Reads all objects of a collection. An empty result is one that the server stated as such.
    ///
    /// Items of a list carry neither `apiVersion` nor `kind`: `T` must not require them.
    ///
    /// # Errors
    /// All or nothing: if a page fails, the list fails.
    pub fn list<T: DeserializeOwned>(&self, path: &str, query: &ListQuery) -> Result<Vec<T>, Error> {
        self.list_as(path, query, JSON)
    }

    /// Reads the metadata of all objects of a collection, which is all that the server then sends.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub fn list_metadata(&self, path: &str, query: &ListQuery) -> Result<Vec<PartialObject>, Error> {
        self.list_as(path, query, METADATA_ONLY)
    }

    fn list_as<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &ListQuery,
        accept: &'static str,
    ) -> Result<Vec<T>, Error> {
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
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut bytes_left = LIST_LIMIT;
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let request = Request { query: query.parameters(&next), accept, ..Request::new(Method::Get, path) };
            let reply = self.send(&request)?;
            let (page, bytes) = reply::decode::<Page<T>>(reply, bytes_left).map_err(|kind| request.error(kind))?;
            bytes_left -= bytes;
            all.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(all);
            }
            next = page.metadata.next;
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

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMetadata,
    /// May be `null`, but must be there: whatever lacks it is no list, and must not be taken for an empty one.
    #[serde(deserialize_with = "null_is_empty", bound(deserialize = "T: Deserialize<'de>"))]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: String,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
