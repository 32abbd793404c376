//! A lane's Machine, to Fly and back.

mod edits;
pub mod wire;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::frp::{frpc, frps};
use crate::service::machine_size::Guest;
use crate::service::port::{Port, Protocol};
use crate::tunnel::hash::hash;
use crate::tunnel::keys::{CLIENT_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY, TOKEN, TunnelKeys};
use crate::tunnel::lane::{self, Exposed, Lane, SlotId};
use crate::tunnel::observed::{Machine, Ours, State};
use edits::is_nothing;
use wire::{
    Concurrency, File, Guest as WireGuest, Init, Machine as Wire, MachineConfig, NewMachine, Port as WirePort,
    ReadConfig, ReadFile, Restart, Service, ServiceCheck,
};

/// Metadata of a Machine that is ours.
const OWNER: &str = "fto_owner";
const SERVICES: &str = "fto_services";
pub const GENERATION: &str = "fto_generation";
pub const SLOT: &str = "fto_lane";
pub const CONTROL_PORT: &str = "fto_control_port";
const PROBE_PORT: &str = "fto_probe_port";
const POOL: &str = "fto_pool";
/// A hash of the files that it was made with.
const FILES: &str = "fto_files";
/// A hash of how Fly wrote it otherwise than as it was asked for.
pub const SPELLING: &str = "fto_spelling";
/// When the Machine began to retire, RFC 3339.
pub const RETIRING_SINCE: &str = "fto_retiring_since";

const CONFIG_FILE: &str = "frps.toml";

/// The file in which a Machine keeps what it was made from, without secrets. Fly gives it back with every read.
const RECIPE_FILE: &str = "recipe.json";

/// Fly calls a Machine full at 20 connections unless told otherwise.
const SOFT_LIMIT: u32 = 10_000;

/// The Machine of a lane: frps with its keys, its control port, and each port of the Service.
pub fn request(lane: &Lane, keys: &TunnelKeys, owner: &str, services: &str) -> NewMachine {
    let recipe = &lane.recipe;
    let size = &recipe.lane.size;
    let file = |path: String, text: &str| File { guest_path: path, raw_value: STANDARD.encode(text), mode: 0o400 };
    let key = |name: &'static str| file(path(name), keys.get(name));
    let files = vec![
        file(path(CONFIG_FILE), &frps::configuration(lane, keys.get(TOKEN))),
        key(SERVER_CERTIFICATE),
        key(SERVER_KEY),
        key(CLIENT_CERTIFICATE),
        file(path(RECIPE_FILE), &recipe.to_text()),
    ];
    let mut metadata = BTreeMap::from([
        (OWNER, owner.to_owned()),
        (SERVICES, services.to_owned()),
        (GENERATION, lane.generation.clone()),
        (SLOT, lane.slot.to_string()),
        (CONTROL_PORT, lane.control_port.to_string()),
        (FILES, seal(files.iter().map(|file| (&file.guest_path, &file.raw_value)))),
    ]);
    metadata.extend(lane.probe_port.map(|port| (PROBE_PORT, port.to_string())));
    metadata.extend((lane.pool != lane::POOL).then(|| (POOL, lane.pool.to_string())));
    NewMachine {
        name: lane.name.clone(),
        region: recipe.lane.region.clone(),
        config: MachineConfig {
            image: recipe.frps_image.clone(),
            guest: WireGuest { cpu_kind: size.cpu_kind, cpus: size.cpus, memory_mb: size.memory_mb },
            init: Init { exec: command() },
            env: frps::environment(recipe),
            files,
            services: services_of(lane),
            restart: RESTART,
            metadata,
        },
    }
}

/// The command that a Machine runs. A Machine with another one is replaced, so a change of it moves every tunnel.
fn command() -> Vec<String> {
    vec!["/usr/bin/frps".into(), "-c".into(), path(CONFIG_FILE)]
}

fn path(file: &str) -> String {
    format!("{}/{file}", frps::FOLDER)
}

const RESTART: Restart = Restart { policy: "always" };

/// The services of a lane's Machine. A Machine with others is replaced, so a change of what is rendered here moves every tunnel.
fn services_of(lane: &Lane) -> Vec<Service> {
    let exposed = lane.recipe.exposed(lane.control_port);
    let checks = |exposed: &Exposed| if exposed.checked { checks(exposed.port, lane.probe_port) } else { Vec::new() };
    exposed.iter().map(|exposed| service(exposed.port, checks(exposed))).collect()
}

/// Tells these files, paths and contents, from any others. It says nothing of the keys among them.
fn seal<'a>(files: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    hash(&files.flat_map(|(path, content)| [path.as_str(), content]).collect::<Vec<_>>(), 10)
}

/// The checks of a port of the Service. Each passes only while an frpc serves it, and gates routing to that port alone.
///
/// An frpc that hangs or lost its node is seen by the one through the tunnel: frps itself listens on for 15 s. The other tells
/// whether frpc serves this very port. Each knock at it is a connection to the backend, so there is one a minute.
fn checks(port: Port, probe_port: Option<u16>) -> Vec<ServiceCheck> {
    let knock = ServiceCheck {
        r#type: "tcp",
        port: port.number,
        path: None,
        interval: if probe_port.is_some() { "1m0s" } else { "15s" },
        timeout: "2s",
        grace_period: "1s",
    };
    let ask =
        |port| ServiceCheck { r#type: "http", port, path: Some(frpc::PROBE_PATH), interval: "4s", ..knock.clone() };
    probe_port.map(ask).into_iter().chain([knock.clone()]).collect()
}

fn service(port: Port, checks: Vec<ServiceCheck>) -> Service {
    let Port { protocol, number } = port;
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
    };
    Service {
        protocol,
        internal_port: number,
        ports: vec![WirePort { port: number }],
        concurrency: Concurrency { r#type: "connections", soft_limit: SOFT_LIMIT },
        autostop: "off",
        autostart: false,
        min_machines_running: 0,
        checks,
    }
}

/// A Machine that Fly shows, as a plan needs it.
pub fn observed(wire: Wire) -> Machine {
    let config = wire.config.or(wire.incomplete_config).unwrap_or_default();
    let ours = ours(&config);
    let checks = config.services.iter().flat_map(|service| service["checks"].as_array().into_iter().flatten());
    let is_probed = checks.into_iter().any(|check| check["type"] == "http");
    Machine {
        edits: ours.as_ref().map(|ours| edits::of(&config, ours.lane(&wire.name).as_ref())).unwrap_or_default(),
        state: state(&wire.state),
        host_ok: wire.host_status.as_deref().is_none_or(|status| status == "ok"),
        cordoned: wire.cordoned,
        created_at: wire.created_at,
        region: wire.region,
        host: host(&wire.private_ip),
        ours,
        version: wire.version,
        image: program(config.image, &config.init.exec),
        guest: config.guest.map(|guest| Guest {
            cpu_kind: guest.cpu_kind,
            cpus: guest.cpus,
            memory_mb: guest.memory_mb,
        }),
        exposed: config.services.iter().flat_map(exposed).collect(),
        passing: wire
            .checks
            .iter()
            .filter(|check| check.status == "passing")
            .filter_map(|c| checked_port(&c.name))
            .collect(),
        probe_passes: is_probed.then(|| {
            let mut results = wire.checks.iter().filter(|check| check.name.contains("-http-")).peekable();
            results.peek().is_some() && results.all(|check| check.status == "passing")
        }),
        id: wire.id,
        name: wire.name,
    }
}

/// The image, with the command where somebody gave it another than ours. Fly does not say it of a Machine on a lost host.
fn program(image: String, exec: &[String]) -> String {
    if exec.is_empty() || exec == command() { image } else { format!("{image} with the command {}", exec.join(" ")) }
}

/// The ports of a service that we know how to expose: those that Fly hands on byte by byte.
fn exposed(service: &Value) -> impl Iterator<Item = Exposed> {
    let tcp = service["protocol"].as_str().is_none_or(|protocol| protocol == "tcp");
    let (internal, checked) = (number(&service["internal_port"]).unwrap_or_default(), !is_nothing(&service["checks"]));
    let ports = service["ports"].as_array().into_iter().flatten();
    let ports = ports.filter(move |port| tcp && is_nothing(&port["handlers"]));
    let numbers = ports.filter_map(|port| number(&port["port"]));
    numbers.map(move |number| Exposed { port: Port::tcp(number), internal, checked })
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn ours(config: &ReadConfig) -> Option<Ours> {
    let metadata = &config.metadata;
    Some(Ours {
        generation: metadata.get(GENERATION)?.clone(),
        slot: SlotId::parse(metadata.get(SLOT)?)?,
        control_port: metadata.get(CONTROL_PORT)?.parse().ok()?,
        probe_port: metadata.get(PROBE_PORT).and_then(|port| port.parse().ok()),
        pool: metadata.get(POOL).and_then(|pool| pool.parse().ok()).unwrap_or(lane::POOL),
        retiring_since: metadata.get(RETIRING_SINCE).and_then(|time| humantime::parse_rfc3339(time).ok()),
        spelling: metadata.get(SPELLING).cloned(),
        recipe: config.files.iter().find_map(recipe),
    })
}

fn recipe(file: &ReadFile) -> Option<Box<str>> {
    let value = file.raw_value.as_ref().filter(|_| file.guest_path == path(RECIPE_FILE))?;
    Some(String::from_utf8(STANDARD.decode(value).ok()?).ok()?.into())
}

/// The metadata value for a time.
pub fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `servicecheck-00-tcp-443` is of port 443. Numbers can repeat between services, so the port is what tells.
fn checked_port(name: &str) -> Option<Port> {
    let (_, port) = name.strip_prefix("servicecheck-")?.split_once("-tcp-")?;
    port.parse().ok().map(Port::tcp)
}

/// A private address is `fdaa`, 32 bits of the network, 32 bits of the host, and 32 bits of the Machine (Fly's docs, private-networking).
fn host(private_ip: &str) -> Option<u32> {
    let [_, _, _, high, low, ..] = private_ip.parse::<Ipv6Addr>().ok()?.segments();
    Some(u32::from(high) << 16 | u32::from(low))
}

/// The state of that name.
pub fn state(state: &str) -> State {
    match state {
        "started" => State::Started,
        "stopped" | "suspended" => State::Stopped,
        "failed" | "launch_failed" => State::Failed,
        "destroyed" | "destroying" => State::Gone,
        _ => State::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_as_fly_shows_it() {
        let wire = serde_json::from_str(
            r#"{"id":"m1","name":"frps-0a-0-1","state":"started","created_at":"2026-01-01T00:00:00Z","host_status":"ok",
                "private_ip":"fdaa:0:1:a7b:1f0:2:3:2",
                "config":{"metadata":{"fto_generation":"0a","fto_lane":"0","fto_control_port":"7000"},
                  "guest":{"cpu_kind":"shared","cpus":2,"memory_mb":512},
                  "files":[{"guest_path":"/etc/fly-tunnel-operator/frps.key","raw_value":"a2V5"},
                    {"guest_path":"/etc/fly-tunnel-operator/recipe.json","raw_value":"e30="}],
                  "services":[{"internal_port":7000,"ports":[{"port":7000}]},
                    {"internal_port":443,"ports":[{"port":443}],"autostop":false,"checks":[{"type":"tcp","interval":"15s"}]}]},
                "checks":[{"name":"servicecheck-00-tcp-443","status":"passing"},{"name":"bg_deployments_compat","status":"warning"}]}"#,
        )
        .expect("a Machine");
        let machine = observed(wire);
        assert_eq!((machine.state, machine.host_ok, machine.is_checked()), (State::Started, true, true));
        assert_eq!(machine.host, Some(0x0A7B_01F0));
        assert_eq!(machine.guest.as_ref().map(Guest::to_string).as_deref(), Some("2 shared CPU with 512 MiB"));
        assert_eq!(machine.user_ports().collect::<Vec<_>>(), [Port::tcp(443)]);
        assert_eq!(machine.passing, [Port::tcp(443)]);
        let ours = machine.ours.expect("it is ours");
        assert_eq!((ours.control_port, ours.recipe.as_deref()), (7000, Some("{}")));
    }

    /// Such a Machine has all ports and passes all checks.
    #[test]
    fn a_port_that_fly_does_not_hand_on_as_it_is_and_another_command_show() {
        let wire = serde_json::from_str(
            r#"{"id":"m1","state":"started","config":{"image":"frps:1@sha256:0a","init":{"exec":["/bin/sleep","inf"]},
                "services":[{"internal_port":443,"ports":[{"port":443,"handlers":["tls"]}]},
                  {"internal_port":80,"ports":[{"port":80,"handlers":[]},{"port":81,"handlers":null}]}]}}"#,
        )
        .expect("a Machine");
        let machine = observed(wire);
        assert_eq!(machine.exposed.iter().map(|exposed| exposed.port.number).collect::<Vec<_>>(), [80, 81]);
        assert_eq!(machine.image, "frps:1@sha256:0a with the command /bin/sleep inf");
        assert_eq!(program("frps:1".into(), &command()), "frps:1");
        assert_eq!(program("frps:1".into(), &[]), "frps:1");
    }

    #[test]
    fn a_machine_of_a_lost_host_is_still_known_for_ours() {
        let wire = serde_json::from_str(
            r#"{"id":"m1","state":"started","host_status":"unreachable","config":null,
                "incomplete_config":{"metadata":{"fto_generation":"0a","fto_lane":"0","fto_control_port":"7000"}}}"#,
        )
        .expect("a Machine");
        let machine = observed(wire);
        assert!(!machine.host_ok && machine.ours.is_some());
    }
}
