#![doc = include_str!("../README.md")]

mod agents;
mod client;
mod config;
mod credentials;
mod error;
mod event;
mod exec;
mod identity;
pub mod lease;
mod list;
mod login;
mod meta;
mod options;
mod page;
mod patch;
mod reply;
mod request;
mod resolver;
mod resource;
mod tls;
mod transport;
mod version;
mod web;

pub use client::Client;
pub use config::{Config, ConfigError, Sources};
pub use error::Error;
pub use event::{Event, EventType, ObjectReference};
pub use list::{List, ListQuery, Unreadable};
pub use meta::{Condition, ObjectMeta, PartialObject};
pub use options::ClientOptions;
pub use patch::PatchOperation;
pub use resolver::LenientResolver;
pub use resource::Resource;
pub use version::Version;
pub use web::web_tls;
