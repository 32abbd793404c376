//! A small blocking Kubernetes client on [`ureq`] and rustls, for operators that have to stay small.
//!
//! It reads the configuration that kubectl or a pod has ([`Config`]), and speaks to the API server
//! with typed requests ([`Client`]): get, paged list, create, JSON patch, server-side apply, delete;
//! one leader among several processes ([`lease`]). Objects are the caller's own serde structs that name only the fields which the caller reads;
//! a list is decoded straight from the connection into them, so that a thousand objects cost no more
//! than what is kept of them.
//!
//! There is no async runtime, no generated API, no cache and no retry loop: an [`Error`] says
//! what can be done about it, and the caller decides when. Only two things are repeated here, once,
//! because nobody else can see them: a request that met a connection which had died in the pool
//! (where repeating is safe), and a request that was refused for a login that has since been replaced.
//!
//! ```no_run
//! use kube_client_lite::{Client, Config, ListQuery, PartialObject, Resource};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kubeconfig = std::env::var("KUBECONFIG").ok();
//! let client = Client::new(Config::load(kubeconfig.as_deref(), None)?, "example/0.1")?;
//! let all = ListQuery::default();
//! for service in client.list::<PartialObject>(&Resource::SERVICES.all(), &all)? {
//!     println!("{}/{}", service.metadata.namespace, service.metadata.name);
//! }
//! # Ok(())
//! # }
//! ```

mod agents;
mod client;
mod config;
mod credentials;
mod delete;
mod error;
mod event;
mod exec;
pub mod lease;
mod list;
mod login;
mod meta;
mod options;
mod patch;
mod reply;
mod request;
mod resource;
mod tls;
mod transport;
mod version;

pub use client::Client;
pub use config::{Config, ConfigError};
pub use delete::{DeleteOptions, Propagation};
pub use error::Error;
pub use event::{Event, EventType, ObjectReference};
pub use list::ListQuery;
pub use meta::{Condition, ObjectMeta, PartialObject};
pub use options::ClientOptions;
pub use patch::PatchOperation;
pub use resource::Resource;
pub use version::Version;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
