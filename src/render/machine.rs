//! A lane's Machine, to Fly and back.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frp::frps;
use crate::fly::machine::{
    Concurrency, File, Guest, Init, Machine as Wire, MachineConfig, NewMachine, Port, Restart, Service, ServiceCheck,
};
use crate::service::machine_size::MachineSize;
use crate::tunnel::keys::{CLIENT_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY, TOKEN, TunnelKeys};
use crate::tunnel::lane::Lane;
use crate::tunnel::observed::{Machine, Ours, State};

/// Metadata of a Machine that is ours.
const OWNER: &str = "fto_owner";
const SERVICES: &str = "fto_services";
const GENERATION: &str = "fto_generation";
const LANE: &str = "fto_lane";
const CONTROL_PORT: &str = "fto_control_port";
/// When the Machine began to drain, RFC 3339.
pub const DRAINING_SINCE: &str = "fto_draining_since";

/// Fly calls a Machine full at 20 connections unless told otherwise.
const SOFT_LIMIT: u32 = 10_000;

/// The Machine of a lane: frps with its keys, its control port, and each port of the Service.
pub fn request(lane: &Lane, keys: &TunnelKeys, owner: &str, services: &str) -> NewMachine {
    let recipe = &lane.recipe;
    let config_file = format!("{}/frps.toml", frps::FOLDER);
    let file = |path: String, text: &str| File { guest_path: path, raw_value: STANDARD.encode(text), mode: 0o400 };
    let key = |name: &'static str| file(format!("{}/{name}", frps::FOLDER), keys.get(name));
    NewMachine {
        name: lane.name.clone(),
        region: recipe.region.clone(),
        config: MachineConfig {
            image: recipe.frps_image.clone(),
            guest: Guest { cpu_kind: recipe.size.cpu_kind, cpus: recipe.size.cpus, memory_mb: recipe.size.memory_mb },
            init: Init { exec: vec!["/usr/bin/frps".into(), "-c".into(), config_file.clone()] },
            files: vec![
                file(config_file, &frps::configuration(lane, keys.get(TOKEN))),
                key(SERVER_CERTIFICATE),
                key(SERVER_KEY),
                key(CLIENT_CERTIFICATE),
            ],
            // The control service has no check: frpc must get through as soon as frps listens.
            services: [service(lane.control_port, false)]
                .into_iter()
                .chain(recipe.ports.iter().map(|port| service(*port, recipe.service_checks)))
                .collect(),
            restart: Restart { policy: "always" },
            metadata: BTreeMap::from([
                (OWNER, owner.to_owned()),
                (SERVICES, services.to_owned()),
                (GENERATION, lane.generation.clone()),
                (LANE, lane.index.to_string()),
                (CONTROL_PORT, lane.control_port.to_string()),
            ]),
        },
    }
}

fn service(port: u16, checked: bool) -> Service {
    // The check passes only while an frpc serves the port, and gates routing to that port alone.
    let check = ServiceCheck { r#type: "tcp", port, interval: "15s", timeout: "2s", grace_period: "1s" };
    Service {
        protocol: "tcp",
        internal_port: port,
        ports: vec![Port { port }],
        concurrency: Concurrency { r#type: "connections", soft_limit: SOFT_LIMIT },
        autostop: "off",
        autostart: false,
        min_machines_running: 0,
        checks: if checked { vec![check] } else { Vec::new() },
    }
}

/// What a plan needs of a Machine that Fly shows.
pub fn observed(wire: Wire) -> Machine {
    let config = wire.config.or(wire.incomplete_config).unwrap_or_default();
    let ports = || config.services.iter().flat_map(|service| &service.ports);
    Machine {
        state: state(&wire.state),
        host_ok: wire.host_status.as_deref().is_none_or(|status| status == "ok"),
        cordoned: wire.cordoned,
        created_at: wire.created_at,
        ours: ours(&config.metadata),
        size: config.guest.and_then(|guest| MachineSize::find(&guest.cpu_kind, guest.cpus)),
        ports: ports().filter_map(|port| port.port).collect(),
        checked: config.services.iter().any(|service| !service.checks.is_empty()),
        passing: wire
            .checks
            .iter()
            .filter(|check| check.status == "passing")
            .filter_map(|c| checked_port(&c.name))
            .collect(),
        id: wire.id,
        name: wire.name,
    }
}

fn ours(metadata: &BTreeMap<String, String>) -> Option<Ours> {
    Some(Ours {
        generation: metadata.get(GENERATION)?.clone(),
        lane: metadata.get(LANE)?.parse().ok()?,
        control_port: metadata.get(CONTROL_PORT)?.parse().ok()?,
        draining_since: metadata.get(DRAINING_SINCE).and_then(|time| humantime::parse_rfc3339(time).ok()),
    })
}

/// The metadata value for a time.
pub fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `servicecheck-00-tcp-443` is of port 443. Numbers can repeat between services, so the port is what tells.
fn checked_port(name: &str) -> Option<u16> {
    let (_, port) = name.strip_prefix("servicecheck-")?.split_once("-tcp-")?;
    port.parse().ok()
}

fn state(state: &str) -> State {
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
                "config":{"metadata":{"fto_generation":"0a","fto_lane":"0","fto_control_port":"7000"},
                  "guest":{"cpu_kind":"shared","cpus":2,"memory_mb":512},
                  "services":[{"internal_port":7000,"ports":[{"port":7000}]},
                    {"internal_port":443,"ports":[{"port":443}],"autostop":false,"checks":[{"type":"tcp","interval":"15s"}]}]},
                "checks":[{"name":"servicecheck-00-tcp-443","status":"passing"},{"name":"bg_deployments_compat","status":"warning"}]}"#,
        )
        .expect("a Machine");
        let machine = observed(wire);
        assert_eq!((machine.state, machine.host_ok, machine.checked), (State::Started, true, true));
        assert_eq!(machine.size, MachineSize::parse("shared-cpu-2x").ok());
        assert_eq!(machine.user_ports().collect::<Vec<_>>(), [443]);
        assert_eq!(machine.passing, [443]);
        assert_eq!(machine.ours.map(|ours| ours.control_port), Some(7000));
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
