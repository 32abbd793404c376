//! The state as it looks from outside: the JSON of the Machines API, and of the lab's own `GET /state`.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::ids;
use super::state::{Address, App, CheckState, Machine, Organisation};
use super::types::AddressType;

impl App {
    /// The body of `GET /apps/{app}`, and a row of the organisation's list.
    pub(crate) fn to_json(&self, organisation: &Organisation) -> Value {
        let machines = self.live_machines().count();
        json!({
            "id": self.id,
            "name": self.name,
            "internal_numeric_id": self.number,
            "network": self.network,
            "network_cidr": format!("fdaa:{:x}::/48", self.number),
            "status": if machines > 0 { "deployed" } else { "pending" },
            "machine_count": machines,
            "volume_count": 0,
            "organization": {
                "name": organisation.slug,
                "slug": organisation.slug,
                "internal_numeric_id": organisation.id,
            },
        })
    }

    /// The App's part of the lab's `GET /state`.
    pub(crate) fn to_state(&self) -> Value {
        let addresses = self.addresses.iter().map(|address| json!({ "ip": address.ip, "type": address.kind }));
        let machines = self.live_machines().map(Machine::to_state);
        json!({
            "name": self.name,
            "org": self.organisation,
            "network": self.network,
            "ips": addresses.collect::<Vec<_>>(),
            "machines": machines.collect::<Vec<_>>(),
        })
    }
}

impl Address {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "ip": self.ip,
            "region": self.region,
            "service_name": "",
            "shared": self.kind == AddressType::SharedV4,
            "egress": false,
            "network": null,
            "created_at": rfc3339(self.created_at),
        })
    }
}

impl Machine {
    /// The body of `GET …/machines/{id}`. A Machine on a host that does not answer has no `config`, only an
    /// `incomplete_config`.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.name(),
            "region": self.region,
            "instance_id": self.version,
            "version": self.version,
            "private_ip": self.private_ip,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "image_ref": image_ref(self.config.image.as_deref().unwrap_or_default()),
            "events": &self.events[..self.events.len().min(20)],
            "checks": self.checks_json(),
            "host_status": if self.host_shown_up { "ok" } else { "unreachable" },
            "cordoned": self.cordoned,
        });
        let config = if self.host_shown_up { "config" } else { "incomplete_config" };
        value[config] = json!(self.config);
        value
    }

    /// A row of `GET /orgs/{org}/machines`: no checks, cordon, host or instance.
    pub(crate) fn to_summary_json(&self, app: &str) -> Value {
        json!({
            "app_name": app,
            "id": self.id,
            "name": self.name,
            "region": self.region,
            "state": self.state.name(),
            "version": self.version,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "config": {
                "guest": self.config.guest,
                "image": self.config.image,
                "metadata": self.config.metadata.clone().unwrap_or_default(),
            },
        })
    }

    fn to_state(&self) -> Value {
        let ports = self.config.services().iter().flat_map(|service| service.ports.iter().flatten());
        let mut checks = self.checks_json();
        checks.iter_mut().filter_map(Value::as_object_mut).for_each(|check| {
            check.retain(|field, _| matches!(field.as_str(), "name" | "status"));
        });
        json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.name(),
            "region": self.region,
            "cordoned": self.cordoned,
            "checks": checks,
            "metadata": self.config.metadata.clone().unwrap_or_default(),
            "ports": ports.flat_map(|port| port.range()).collect::<Vec<u16>>(),
        })
    }

    /// All checks, those of services and the top-level ones. A check shows only once it has run.
    fn checks_json(&self) -> Vec<Value> {
        let mut shown: Vec<&CheckState> = Vec::new();
        for check in self.services.iter().flat_map(|service| &service.checks).chain(&self.top_level_checks) {
            if !shown.iter().any(|other| other.name == check.name && other.definition == check.definition) {
                shown.push(check);
            }
        }
        shown.into_iter().filter_map(CheckState::to_json).collect()
    }
}

impl CheckState {
    fn to_json(&self) -> Option<Value> {
        let result = self.result.as_ref()?;
        Some(json!({
            "name": self.name,
            "status": result.status.name(),
            "output": result.output,
            "updated_at": rfc3339(result.updated_at),
        }))
    }
}

/// An event as Machines and `GET …/events` show it. `timestamp` is in milliseconds.
pub(super) fn event_json(kind: &str, status: &str, source: &str) -> Value {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": ids::ulid(),
        "type": kind,
        "status": status,
        "source": source,
        "timestamp": since_epoch.as_millis() as u64,
    })
}

/// The parts of `registry/repository:tag@digest`. Without a registry, Docker Hub is meant.
fn image_ref(image: &str) -> Value {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let (name, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, tag),
        None => (name, if digest.is_empty() { "latest" } else { "" }),
    };
    let is_registry = |host: &str| host.contains(['.', ':']) || host == "localhost";
    let (registry, repository) = match name.split_once('/').filter(|(host, _)| is_registry(host)) {
        Some(parts) => parts,
        None => ("docker-hub-mirror.fly.io", name),
    };
    json!({ "registry": registry, "repository": repository, "tag": tag, "digest": digest, "labels": {} })
}

pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
