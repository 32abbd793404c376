//! The two configurations of frp, and what both sides have to agree on.
//!
//! Measured with frp 0.61.1: without the multiplexer a client that stops reading costs frps some 300 KiB, with it 6 MiB,
//! so it is off. Then heartbeats are off too unless they are set, on both sides or on none.

pub mod frpc;
pub mod frps;

use serde::Serialize;

/// Ready connections of each frpc, so that a user does not wait for one to be dialled; and what users that still arrive
/// at a cordoned lane live on.
const POOL: u32 = 50;

/// Seconds.
const HEARTBEAT_INTERVAL: u32 = 10;
const HEARTBEAT_TIMEOUT: u32 = 30;
const KEEPALIVE: u32 = 30;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    method: &'a str,
    token: &'a str,
    additional_scopes: [&'a str; 1],
}

impl Auth<'_> {
    /// By a token, which each work connection shows too, instead of the run's ID alone.
    fn by(token: &str) -> Auth<'_> {
        Auth { method: "token", token, additional_scopes: ["NewWorkConns"] }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    to: &'static str,
    level: &'static str,
    disable_print_color: bool,
}

/// To where `kubectl logs` and `fly logs` read.
const LOG: Log = Log { to: "console", level: "info", disable_print_color: true };

fn toml(configuration: &impl Serialize) -> String {
    toml::to_string(configuration).expect("structs of strings, numbers, lists and tables always serialise")
}
