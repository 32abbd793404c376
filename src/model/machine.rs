//! Machines, as the model of Fly shows them.

use std::collections::BTreeMap;

use serde_json::json;

use super::State;
use crate::render::machine::wire::{
    CheckResult, File, Machine, MachineConfig, ReadConfig, ReadFile, ReadGuest, ReadInit,
};
use crate::render::objects::MACHINE_LABEL;

impl State {
    /// Whether an frpc of this Machine runs.
    fn is_connected(&self, machine: &Machine) -> bool {
        let labelled =
            |labels: &BTreeMap<String, String>| labels.get(MACHINE_LABEL).is_some_and(|id| *id == machine.id);
        let mut running = self.deployments.values().filter(|deployment| deployment.status.available_replicas > 0);
        running.any(|deployment| labelled(&deployment.metadata.labels))
            && self.config_maps.values().any(|map| labelled(&map.metadata.labels))
    }

    /// The Machine as Fly shows it: a check passes where the frpc of this Machine runs. Of one on a lost host Fly knows little.
    pub(super) fn shown_machine(&self, machine: &Machine) -> Machine {
        let lost = machine.host_status.as_deref() == Some("unreachable");
        let serves = machine.state == "started" && !lost && self.is_connected(machine);
        let checked = machine.config.iter().flat_map(|config| &config.services).filter(|s| !s["checks"].is_null());
        let checks = checked.flat_map(|service| {
            let types = service["checks"].as_array().into_iter().flatten().filter_map(|check| check["type"].as_str());
            types.map(move |kind| CheckResult {
                name: format!("servicecheck-00-{kind}-{}", service["internal_port"]),
                status: if serves { "passing".into() } else { "critical".into() },
            })
        });
        let mut shown = Machine { checks: checks.collect(), ..machine.clone() };
        if lost {
            let metadata = shown.config.take().unwrap_or_default().metadata;
            shown.incomplete_config = Some(ReadConfig { metadata, ..ReadConfig::default() });
        }
        shown
    }
}

/// The part of a configuration that Fly gives back and somebody reads.
pub(super) fn read_back(config: &MachineConfig) -> ReadConfig {
    let file = |file: &File| ReadFile { guest_path: file.guest_path.clone(), raw_value: Some(file.raw_value.clone()) };
    ReadConfig {
        image: config.image.clone(),
        guest: Some(ReadGuest {
            cpu_kind: config.guest.cpu_kind.into(),
            cpus: config.guest.cpus,
            memory_mb: config.guest.memory_mb,
        }),
        init: ReadInit { exec: config.init.exec.clone() },
        files: config.files.iter().map(file).collect(),
        metadata: config.metadata.iter().map(|(key, value)| ((*key).into(), value.clone())).collect(),
        services: config.services.iter().map(|service| json!(service)).collect(),
        restart: json!(config.restart),
        env: json!(config.env),
        ..ReadConfig::default()
    }
}
