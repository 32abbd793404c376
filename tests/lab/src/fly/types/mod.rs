//! The types that go over the wire of the Machines API, after Fly's own description.
//!
//! Requests are read *strictly*: a field that Fly does not document, a wrong type or a value outside of the documented
//! ones is an error. So a client that sends nonsense fails here first and not at Fly. Every field is an `Option`:
//! `null` and absent are the same, and an absent field stays absent when it is read back.
//!
//! The field names are from Fly's OpenAPI description and its Go client (`machine_types.go`, `flaps/`).

mod config;
mod duration;
mod normalise;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use config::*;
pub use duration::GoDuration;
pub(crate) use normalise::{content, normalise};

/// Defines structs whose fields are all optional, and that accept no other fields.
macro_rules! wire {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {$(
            $(#[$field_meta])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,
        )*}
    )*};
}
pub(crate) use wire;

wire! {
    /// The body of `POST /apps`. Fly's description says `name`, its guides say `app_name`; either is accepted.
    struct CreateApp {
        name: String,
        app_name: String,
        org_slug: String,
        network: String,
        enable_subdomains: bool,
        idempotency_key: String,
        /// A field that the Go client sends (empty).
        app_role_id: String,
    }

    /// The body of `POST /apps/{app}/machines` and, with `current_version`, of `POST /apps/{app}/machines/{id}`.
    struct CreateMachine {
        name: String,
        region: String,
        config: MachineConfig,
        skip_launch: bool,
        skip_service_registration: bool,
        skip_secrets: bool,
        min_secrets_version: u64,
        /// The time to live of the lease, in seconds.
        lease_ttl: u64,
        current_version: String,
    }

    /// The body of `POST …/stop`. The Go client repeats the Machine's `id`.
    struct StopMachine {
        id: String,
        signal: Signal,
        timeout: GoDuration,
    }

    /// The body of `POST …/lease`. `ttl` is in seconds.
    struct AcquireLease {
        ttl: u64,
        description: String,
    }

    /// The body of `POST …/metadata/{key}`.
    struct MetadataValue {
        value: String,
    }

    /// The body of `PUT` and `PATCH …/metadata`.
    struct ReplaceMetadata {
        metadata: BTreeMap<String, String>,
        machine_version: String,
    }

    /// The body of `POST /apps/{app}/ip_assignments`. The Go client sends all keys, empty ones too.
    struct AssignAddress {
        r#type: AddressType,
        region: String,
        org_slug: String,
        network: String,
        service_name: String,
    }
}

/// The kinds of address that `ip_assignments` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressType {
    /// A dedicated IPv4 address, for two dollars a month.
    V4,
    /// A dedicated IPv6 address, which is free.
    V6,
    /// An IPv4 address shared with other Apps, for HTTP and TLS only.
    SharedV4,
    PrivateV6,
    EgressV4,
    EgressV6,
    EgressPair,
}

/// The signals that a stop may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGKILL,
    SIGUSR1,
    SIGUSR2,
    SIGTERM,
    /// The Go client sends an empty string if no signal is given.
    #[serde(rename = "")]
    Unset,
}

impl Signal {
    /// The signal's number on Linux. SIGINT is Fly's default.
    pub fn number(self) -> i32 {
        match self {
            Signal::SIGHUP => 1,
            Signal::SIGINT | Signal::Unset => 2,
            Signal::SIGQUIT => 3,
            Signal::SIGKILL => 9,
            Signal::SIGUSR1 => 10,
            Signal::SIGUSR2 => 12,
            Signal::SIGTERM => 15,
        }
    }
}
