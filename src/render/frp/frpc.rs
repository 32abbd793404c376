//! frpc.toml (keys: frp `pkg/config/v1/client.go` and `proxy.go`, 0.61.1 and 0.71.0).

use std::net::IpAddr;

use serde::Serialize;

use super::{Auth, Environment, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, KEEPALIVE, LOG, Log, runtime};
use crate::service::port::Port;
use crate::service::quantity;
use crate::tunnel::keys::{CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE, SERVER_NAME};
use crate::tunnel::lane::{Forward, Lane, Recipe};

/// Where the pod has its ConfigMap and its Secret.
pub const CONFIG_FOLDER: &str = "/etc/frpc";
pub const KEYS_FOLDER: &str = "/etc/frpc-keys";
/// The file in the ConfigMap.
pub const CONFIG_FILE: &str = "frpc.toml";
/// Where the pod has the one file that Fly's check asks for, and its path in a URL.
pub const PROBE_FOLDER: &str = "/etc/frpc-probe";
pub const PROBE_FILE: &str = "up";
pub const PROBE_PATH: &str = "/up";
/// Where frpc tells the pod's own processes how its proxies are. Nobody else uses the pod's loopback interface.
const ADMIN_PORT: u16 = 7400;
/// Environment of the pod that frpc puts into its configuration.
pub const POD_NAME: &str = "POD_NAME";
pub const TOKEN: &str = "FRP_TOKEN";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frpc<'a> {
    server_addr: String,
    server_port: u16,
    /// frpc ends at the first login that fails unless told otherwise.
    login_fail_exit: bool,
    /// Tells the pods of a Deployment apart while one follows another.
    user: String,
    auth: Auth<'a>,
    log: Log,
    web_server: WebServer<'a>,
    transport: Transport,
    proxies: Vec<Proxy>,
}

/// frpc's own HTTP server. It can stop frpc, so it asks for a password.
#[derive(Serialize)]
struct WebServer<'a> {
    addr: &'static str,
    port: u16,
    user: &'static str,
    password: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transport {
    protocol: &'static str,
    tcp_mux: bool,
    pool_count: u16,
    dial_server_timeout: u32,
    dial_server_keepalive: u32,
    heartbeat_interval: u32,
    heartbeat_timeout: u32,
    tls: Tls,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    enable: bool,
    server_name: &'static str,
    cert_file: String,
    key_file: String,
    trusted_ca_file: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    name: String,
    r#type: String,
    #[serde(rename = "localIP", skip_serializing_if = "Option::is_none")]
    local_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_port: Option<u16>,
    remote_port: u16,
    load_balancer: Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<ProxyTransport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<Plugin>,
}

/// frpc itself answers, instead of a backend: with the files of a folder.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    r#type: &'static str,
    local_path: &'static str,
}

/// frpc limits. Where frps does (mode `server`), it holds on to every connection that ended (frp up to 0.71.0).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyTransport {
    bandwidth_limit: String,
    bandwidth_limit_mode: &'static str,
}

/// Pods of one Deployment share each port: two of them overlap while one follows the other.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    group: String,
    group_key: String,
}

/// The configuration of a lane's frpc: it dials the App's address on the lane's own control port, and hands what comes
/// in to the Service's ClusterIP. What is secret or of one pod comes from the environment.
pub fn configuration(lane: &Lane) -> String {
    let environment = |name| format!("{{{{ .Envs.{name} }}}}");
    let key = |name| format!("{KEYS_FOLDER}/{name}");
    let token = environment(TOKEN);
    let recipe = &lane.recipe;
    let proxies = recipe.forwards.iter().map(|forward| proxy(forward, &token));
    super::toml(&Frpc {
        server_addr: recipe.address.to_string(),
        server_port: lane.control_port,
        login_fail_exit: false,
        user: environment(POD_NAME),
        auth: Auth::by(&token),
        log: LOG,
        web_server: WebServer { addr: "127.0.0.1", port: ADMIN_PORT, user: "frpc", password: &token },
        transport: Transport {
            protocol: "tcp",
            tcp_mux: false,
            pool_count: lane.pool,
            dial_server_timeout: 10,
            dial_server_keepalive: KEEPALIVE,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            tls: Tls {
                enable: true,
                server_name: SERVER_NAME,
                cert_file: key(CLIENT_CERTIFICATE),
                key_file: key(CLIENT_KEY),
                trusted_ca_file: key(SERVER_CERTIFICATE),
            },
        },
        proxies: proxies.chain(lane.probe_port.map(|port| probe_proxy(port, &token))).collect(),
    })
}

/// The environment of a lane's frpc, beside what its Secret and its pod give.
pub fn environment(recipe: &Recipe) -> Environment {
    quantity::size(&recipe.lane.resources.memory_limit).map(runtime).unwrap_or_default()
}

/// A command that ends well if all proxies of the lane's frpc are registered with frps. frpc itself prints one line for each, and
/// ends well however they are (`cmd/frpc/sub/admin.go`), so a shell counts the lines.
pub fn probe(lane: &Lane) -> [String; 3] {
    let count = format!("frpc status -c {CONFIG_FOLDER}/{CONFIG_FILE} | grep -c ' running '");
    let proxies = lane.recipe.forwards.len() + usize::from(lane.probe_port.is_some());
    ["sh".into(), "-c".into(), format!("[ \"$({count})\" = {proxies} ]")]
}

/// The command that a pod runs before it ends: it serves on for a minute, in which its replacement starts and joins it, and then takes
/// its proxies back and stops. So new connections find somebody, and established ones have that minute. Where three looks in a row show nothing
/// that is registered with frps, as the Machine is gone, it ends at once.
pub fn leave() -> [String; 3] {
    let ask = |what| format!("frpc {what} -c {CONFIG_FOLDER}/{CONFIG_FILE}");
    let (status, stop) = (ask("status"), ask("stop"));
    let script = format!(
        "end=$(($(date +%s) + 60)) gone=0; while [ $gone -lt 3 ] && [ $(date +%s) -lt $end ]; do \
         {status} | grep -q ' running ' && gone=0 || gone=$((gone + 1)); sleep 2; done; {stop}"
    );
    ["sh".into(), "-c".into(), script]
}

/// Seconds. [`leave`] takes up to a minute and a look.
pub const GRACE_PERIOD: u32 = 75;

fn proxy(forward: &Forward, token: &str) -> Proxy {
    let Port { protocol, number } = forward.port;
    let name = format!("{protocol}-{number}");
    Proxy {
        name: name.clone(),
        r#type: protocol.to_string(),
        local_ip: Some(forward.to),
        local_port: Some(number),
        remote_port: number,
        load_balancer: Group { group: name, group_key: token.to_owned() },
        transport: forward
            .settings
            .bandwidth_limit
            .clone()
            .map(|bandwidth_limit| ProxyTransport { bandwidth_limit, bandwidth_limit_mode: "client" }),
        plugin: None,
    }
}

/// Fly's check asks here, through the tunnel.
fn probe_proxy(port: u16, token: &str) -> Proxy {
    let name = "probe".to_owned();
    Proxy {
        name: name.clone(),
        r#type: "tcp".into(),
        local_ip: None,
        local_port: None,
        remote_port: port,
        load_balancer: Group { group: name, group_key: token.to_owned() },
        transport: None,
        plugin: Some(Plugin { r#type: "static_file", local_path: PROBE_FOLDER }),
    }
}
