//! What exists at Fly: organisations, Apps, Machines, addresses. Everything here is plain data under one lock
//! ([`Shared::world`]); what happens over time is done by [`super::machine`], [`super::checks`] and [`super::edge`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::delayed::Delayed;
use super::edge::Load;
use super::error::{FlyError, FlyResult};
use super::machine::Order;
use super::types::*;

/// All that one Fly holds.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) organisations: Vec<Organisation>,
    /// By name, which is unique among all organisations.
    pub(crate) apps: BTreeMap<String, App>,
    /// How many Machines a region takes; those not named take any number.
    pub(crate) capacity: BTreeMap<String, usize>,
    /// How many numbers were given out.
    numbers: u32,
}

/// Who pays, and what for.
pub(crate) struct Organisation {
    pub(crate) slug: String,
    pub(crate) id: u32,
    pub(crate) token: String,
    pub(crate) account: Account,
}

/// What an organisation's account allows. The default is a paying customer without a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Without one, Machines are refused with a text that speaks of payment.
    pub payment_method: bool,
    /// Whether dedicated IPv4 addresses may be had; not on a trial.
    pub dedicated_v4: bool,
    /// Megabytes of all Machines in a region together.
    pub memory_quota: Option<u32>,
}

impl Default for Account {
    fn default() -> Account {
        Account { payment_method: true, dedicated_v4: true, memory_quota: None }
    }
}

/// Which Machine, of which App.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) app: String,
    pub(crate) id: String,
}

pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) organisation: String,
    pub(crate) network: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) created_at: SystemTime,
    /// Until then every read, and also its deletion, answers 404.
    pub(crate) visible_from: Instant,
    /// Its deletion was accepted.
    pub(crate) deleting: bool,
    /// By ID, destroyed ones too.
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) addresses: Vec<Address>,
}

#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) kind: AddressType,
    pub(crate) region: String,
    pub(crate) created_at: SystemTime,
}

/// A Machine's `state` (Fly docs, Machine states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Starting,
    Started,
    Stopping,
    Stopped,
    Restarting,
    Replacing,
    Destroying,
    Destroyed,
    LaunchFailed,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Starting => "starting",
            State::Started => "started",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Restarting => "restarting",
            State::Replacing => "replacing",
            State::Destroying => "destroying",
            State::Destroyed => "destroyed",
            State::LaunchFailed => "launch_failed",
        }
    }
}

pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) state: State,
    /// Whether `created` is only its first moment.
    pub(crate) launches: bool,
    /// `instance_id`: of its current version, and of those before.
    pub(crate) version: String,
    pub(crate) old_versions: Vec<String>,
    pub(crate) config: MachineConfig,
    pub(crate) cordoned: bool,
    /// Whether its host answers.
    pub(crate) host_up: bool,
    pub(crate) services: Vec<ServiceState>,
    pub(crate) top_level_checks: Vec<CheckState>,
    /// Newest first.
    pub(crate) events: Vec<Value>,
    pub(crate) lease: Option<Lease>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    pub(crate) visible_from: Instant,
    /// What `0.0.0.0` and `fly-global-services` are for it; `None` once it is destroyed.
    pub(crate) addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) private_ip: String,
    /// To the task that runs it.
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    /// Counts changes, for those who wait for one.
    pub(crate) changes: watch::Sender<u64>,
}

/// A service of a Machine, and how well it is.
pub(crate) struct ServiceState {
    pub(crate) definition: Service,
    pub(crate) checks: Vec<CheckState>,
    /// Whether an edge that knows all sends connections to it.
    pub(crate) routable: Delayed,
    /// Whether frps listens there for its clients.
    pub(crate) is_control: bool,
    pub(super) load: Arc<Load>,
}

#[derive(Clone)]
pub(crate) struct CheckState {
    pub(crate) name: String,
    pub(crate) definition: Check,
    /// `None` until it was first run.
    pub(crate) result: Option<CheckResult>,
}

#[derive(Clone)]
pub(crate) struct CheckResult {
    pub(crate) status: CheckStatus,
    pub(crate) output: String,
    pub(crate) updated_at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckStatus {
    Passing,
    Warning,
    Critical,
}

impl CheckStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            CheckStatus::Passing => "passing",
            CheckStatus::Warning => "warning",
            CheckStatus::Critical => "critical",
        }
    }
}

/// A claim on a Machine: while it lasts, only who knows the nonce may change it.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) nonce: String,
    pub(crate) expires_at: SystemTime,
    pub(crate) description: String,
}

impl World {
    /// A number that nothing else has.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn organisation(&self, slug: &str) -> Option<&Organisation> {
        self.organisations.iter().find(|organisation| organisation.slug == slug)
    }

    /// The App, where the caller may see it.
    ///
    /// # Errors
    /// 404 where there is none (or not for readers yet), 403 where it is another organisation's.
    pub(crate) fn app(&mut self, caller: &str, name: &str) -> FlyResult<&mut App> {
        let app = self.apps.get_mut(name).filter(|app| app.visible_from <= Instant::now());
        let app = app.ok_or_else(|| FlyError::not_found("app"))?;
        if app.organisation != caller {
            return Err(FlyError::unauthorized());
        }
        Ok(app)
    }

    /// The Machine, destroyed or not.
    ///
    /// # Errors
    /// As [`World::app`], and 404 where the App has no such Machine (or not for readers yet).
    pub(crate) fn machine(&mut self, caller: &str, app: &str, id: &str) -> FlyResult<&mut Machine> {
        let machine = self.app(caller, app)?.machines.get_mut(id);
        let machine = machine.filter(|machine| machine.visible_from <= Instant::now());
        machine.ok_or_else(|| FlyError::not_found("machine"))
    }

    /// Machines in a region, of all organisations, that are not destroyed.
    pub(crate) fn machines_in<'a>(&'a self, region: &'a str) -> impl Iterator<Item = (&'a App, &'a Machine)> {
        self.apps
            .values()
            .flat_map(|app| app.machines.values().map(move |machine| (app, machine)))
            .filter(move |(_, machine)| machine.exists() && machine.region == region)
    }
}

impl App {
    /// Machines that are not destroyed.
    pub(crate) fn live_machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(|machine| machine.exists())
    }

    /// `GET /apps/{app}`, and a row of the organisation's list.
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
    /// Whether it is not destroyed.
    pub(crate) fn exists(&self) -> bool {
        self.state != State::Destroyed
    }

    /// Whether its state lasts until somebody acts.
    pub(crate) fn is_settled(&self) -> bool {
        match self.state {
            State::Created => !self.launches,
            state => matches!(state, State::Started | State::Stopped | State::Destroyed),
        }
    }

    /// Must be called after every change: brings up to date what depends on it and wakes those who wait.
    pub(crate) fn touch(&mut self) {
        let up = self.state == State::Started && !self.cordoned && self.host_up;
        let ready = |check: &CheckState| check.definition.kind != Some(CheckKind::Readiness) || check.passes();
        let ready = self.top_level_checks.iter().all(ready);
        for service in &mut self.services {
            let healthy = service.checks.iter().all(CheckState::passes);
            service.routable.set(Instant::now(), up && ready && healthy);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Goes to another state, with the event that tells of it.
    pub(crate) fn enter(&mut self, state: State, event: &str, source: &str) {
        self.state = state;
        self.updated_at = SystemTime::now();
        self.events.insert(0, event_json(event, state.name(), source));
        self.events.truncate(50);
        self.touch();
    }

    /// Replaces the config, as a new version.
    pub(crate) fn configure(&mut self, config: MachineConfig) {
        let control_port = frps_bind_port(&config);
        self.services = config.services().iter().map(|service| ServiceState::new(service, control_port)).collect();
        self.top_level_checks =
            config.checks.iter().flatten().map(|(name, check)| CheckState::new(name, check)).collect();
        self.config = config;
        self.updated_at = SystemTime::now();
        let version = super::ids::ulid();
        self.old_versions.push(std::mem::replace(&mut self.version, version));
        self.touch();
    }

    /// All checks, those of services and the top-level ones; for as long as they have not run they do not show.
    fn checks_json(&self) -> Vec<Value> {
        let mut shown: Vec<&CheckState> = Vec::new();
        for check in self.services.iter().flat_map(|service| &service.checks).chain(&self.top_level_checks) {
            if !shown.iter().any(|other| other.name == check.name && other.definition == check.definition) {
                shown.push(check);
            }
        }
        shown.into_iter().filter_map(CheckState::to_json).collect()
    }

    /// `GET …/machines/{id}`. A Machine on a host that does not answer has no `config`, only an `incomplete_config`.
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
            "host_status": if self.host_up { "ok" } else { "unreachable" },
            "cordoned": self.cordoned,
        });
        let config = if self.host_up { "config" } else { "incomplete_config" };
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

    /// The lease that holds now.
    pub(crate) fn current_lease(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.expires_at > SystemTime::now())
    }
}

impl ServiceState {
    fn new(definition: &Service, control_port: Option<u16>) -> ServiceState {
        let checks = definition.checks.iter().flatten().enumerate();
        ServiceState {
            definition: definition.clone(),
            checks: checks
                .map(|(number, check)| {
                    let kind = if check.r#type == Some(CheckType::Http) { "http" } else { "tcp" };
                    let port = definition.internal_port.unwrap_or_default();
                    CheckState::new(&format!("servicecheck-{number:02}-{kind}-{port}"), check)
                })
                .collect(),
            routable: Delayed::default(),
            is_control: definition.internal_port.is_some() && definition.internal_port == control_port,
            load: Arc::default(),
        }
    }

    /// The entry of its ports that exposes an external one.
    pub(crate) fn port(&self, protocol: Protocol, external: u16) -> Option<&Port> {
        let ports = self.definition.ports.iter().flatten();
        ports.filter(|_| self.definition.protocol == Some(protocol)).find(|port| port.range().contains(&external))
    }
}

impl CheckState {
    fn new(name: &str, definition: &Check) -> CheckState {
        CheckState { name: name.to_owned(), definition: definition.clone(), result: None }
    }

    pub(crate) fn passes(&self) -> bool {
        self.result.as_ref().is_some_and(|result| result.status == CheckStatus::Passing)
    }

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

impl Lease {
    pub(crate) fn new(ttl: Duration, description: String) -> Lease {
        Lease { nonce: super::ids::nonce(), expires_at: SystemTime::now() + ttl, description }
    }
}

/// An event as Machines and `GET …/events` show it. `timestamp` is in milliseconds.
fn event_json(kind: &str, status: &str, source: &str) -> Value {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": super::ids::ulid(),
        "type": kind,
        "status": status,
        "source": source,
        "timestamp": since_epoch.as_millis() as u64,
    })
}

/// `registry/repository:tag@digest` in its parts. Docker Hub is meant where no registry is named.
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

/// The port on which the Machine's frps listens for its clients, by the `frps.toml` among its files.
fn frps_bind_port(config: &MachineConfig) -> Option<u16> {
    let texts = config.files.iter().flatten().filter_map(|file| content(file).ok());
    texts.filter_map(|content| String::from_utf8(content).ok()).find_map(|text| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix("bindPort"))?;
        value.trim().strip_prefix('=')?.trim().parse().ok()
    })
}

pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

impl App {
    /// Its part of the lab's `GET /state`.
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

impl Machine {
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
}
