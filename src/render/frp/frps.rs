//! frps.toml (keys: frp `pkg/config/v1/server.go`, 0.61.1 and 0.71.0).

use serde::Serialize;

use super::{Auth, Environment, HEARTBEAT_TIMEOUT, KEEPALIVE, LOG, Log, MIB, runtime};
use crate::tunnel::keys::{CLIENT_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY};
use crate::tunnel::lane::{Lane, POOL, Recipe};

/// Where the Machine keeps frps' configuration and keys.
pub const FOLDER: &str = "/etc/fly-tunnel-operator";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frps<'a> {
    bind_addr: &'a str,
    bind_port: u16,
    /// Nobody outside has to know what went wrong.
    detailed_errors_to_client: bool,
    allow_ports: Vec<Port>,
    auth: Auth<'a>,
    log: Log,
    transport: Transport,
}

#[derive(Serialize)]
struct Port {
    single: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transport {
    tcp_mux: bool,
    tcp_keepalive: u32,
    max_pool_count: u16,
    heartbeat_timeout: u32,
    tls: Tls,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    force: bool,
    cert_file: String,
    key_file: String,
    trusted_ca_file: String,
}

/// The environment of a lane's frps.
pub fn environment(recipe: &Recipe) -> Environment {
    runtime(f64::from(recipe.lane.size.memory_mb) * MIB)
}

/// The configuration of a lane's frps: it takes the one frpc that holds the pinned key, the Service's ports, and the probe's.
pub fn configuration(lane: &Lane, token: &str) -> String {
    let file = |name| format!("{FOLDER}/{name}");
    let ports = lane.recipe.forwards.iter().map(|forward| forward.port.number);
    super::toml(&Frps {
        bind_addr: "0.0.0.0",
        bind_port: lane.control_port,
        detailed_errors_to_client: false,
        allow_ports: ports.chain(lane.probe_port).map(|single| Port { single }).collect(),
        auth: Auth::by(token),
        log: LOG,
        transport: Transport {
            tcp_mux: false,
            tcp_keepalive: KEEPALIVE,
            max_pool_count: POOL,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            tls: Tls {
                force: true,
                cert_file: file(SERVER_CERTIFICATE),
                key_file: file(SERVER_KEY),
                trusted_ca_file: file(CLIENT_CERTIFICATE),
            },
        },
    })
}
