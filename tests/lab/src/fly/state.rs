//! The state of Fly: organisations, Apps, Machines, addresses. Everything here is plain data under one lock
//! ([`super::Shared::world`]). [`super::machine`], [`super::checks`] and [`super::edge`] change it over time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::delayed::Delayed;
use super::edge::Load;
use super::error::{FlyError, FlyResult};
use super::machine::Order;
use super::types::*;
use super::view::event_json;

/// Everything that one Fly holds.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) organisations: Vec<Organisation>,
    /// The Apps by name, which is unique among all organisations.
    pub(crate) apps: BTreeMap<String, App>,
    /// How many Machines a region takes. Regions not named take any number.
    pub(crate) capacity: BTreeMap<String, usize>,
    /// The regions of which all hosts are lost. They take no Machines.
    pub(crate) lost_regions: BTreeSet<String>,
    /// How many numbers [`World::next_number`] has given out.
    numbers: u32,
}

/// An organisation, which owns Apps and pays for them.
pub(crate) struct Organisation {
    pub(crate) slug: String,
    pub(crate) id: u32,
    pub(crate) token: String,
    pub(crate) account: Account,
}

/// The limits of an organisation's account. The default is a paying customer without a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whether there is a payment method. Without one, Machines are refused with a text about payment.
    pub payment_method: bool,
    /// Whether the account may have dedicated IPv4 addresses. A trial may not.
    pub dedicated_v4: bool,
    /// The most memory that all Machines in a region may have together, in megabytes.
    pub memory_quota: Option<u32>,
}

impl Default for Account {
    fn default() -> Account {
        Account { payment_method: true, dedicated_v4: true, memory_quota: None }
    }
}

/// The Machine that is meant, and its App.
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
    /// Until this time every request about the App, its deletion too, answers 404.
    pub(crate) visible_from: Instant,
    /// Whether its deletion was accepted.
    pub(crate) deleting: bool,
    /// The Machines by ID, destroyed ones too.
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) addresses: Vec<Address>,
}

#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) kind: AddressType,
    pub(crate) region: String,
    pub(crate) created_at: SystemTime,
    /// Lists are without it before.
    pub(crate) visible_from: Instant,
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
    /// Whether it goes on from `created` by itself.
    pub(crate) launches: bool,
    /// The Machine's `instance_id`.
    pub(crate) version: String,
    pub(crate) config: MachineConfig,
    pub(crate) cordoned: bool,
    /// Whether its host answers.
    pub(crate) host_up: bool,
    /// Whether the API says that its host answers. It learns late that one is lost.
    pub(crate) host_shown_up: bool,
    /// Whether its host is lost. Edges learn of it late.
    pub(crate) host_lost: Delayed,
    pub(crate) services: Vec<ServiceState>,
    pub(crate) top_level_checks: Vec<CheckState>,
    /// The events, newest first.
    pub(crate) events: Vec<Value>,
    pub(crate) lease: Option<Lease>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    pub(crate) visible_from: Instant,
    /// The addresses that `0.0.0.0` and `fly-global-services` stand for; `None` once it is destroyed.
    pub(crate) addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) private_ip: String,
    /// Sends orders to the task that runs it.
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    /// A count of changes, for requests that wait for one.
    pub(crate) changes: watch::Sender<u64>,
}

/// A service of a Machine, and how well it is.
pub(crate) struct ServiceState {
    pub(crate) definition: Service,
    pub(crate) checks: Vec<CheckState>,
    /// Whether its Machine runs and is not cordoned.
    pub(crate) open: Delayed,
    /// Whether its checks pass. Edges may learn of this later.
    pub(crate) healthy: Delayed,
    /// Whether frps listens there for its clients.
    pub(crate) is_control: bool,
    pub(super) load: Arc<Load>,
}

#[derive(Clone)]
pub(crate) struct CheckState {
    pub(crate) name: String,
    pub(crate) definition: Check,
    /// The last result, or `None` until the check has run once.
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

/// A claim on a Machine. While it lasts, only a client that knows the nonce may change the Machine.
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

    /// The App, if the caller may see it.
    ///
    /// # Errors
    /// The error is 404 if there is no such App (or readers do not see it yet), 403 if it is another organisation's.
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
    /// The errors are those of [`World::app`], and 404 if the App has no such Machine (or readers do not see it yet).
    pub(crate) fn machine(&mut self, caller: &str, app: &str, id: &str) -> FlyResult<&mut Machine> {
        let machine = self.app(caller, app)?.machines.get_mut(id);
        let machine = machine.filter(|machine| machine.visible_from <= Instant::now());
        machine.ok_or_else(|| FlyError::not_found("machine"))
    }

    /// The Machines in a region, of all organisations, that are not destroyed.
    pub(crate) fn machines_in<'a>(&'a self, region: &'a str) -> impl Iterator<Item = (&'a App, &'a Machine)> {
        self.apps
            .values()
            .flat_map(|app| app.machines.values().map(move |machine| (app, machine)))
            .filter(move |(_, machine)| machine.exists() && machine.region == region)
    }
}

impl App {
    /// The Machines that are not destroyed.
    pub(crate) fn live_machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(|machine| machine.exists())
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

    /// Must be called after every change: updates everything that depends on it and wakes the requests that wait.
    pub(crate) fn touch(&mut self) {
        let up = self.state == State::Started && !self.cordoned;
        let ready = |check: &CheckState| check.definition.kind != Some(CheckKind::Readiness) || check.passes();
        let ready = self.top_level_checks.iter().all(ready);
        let now = Instant::now();
        self.host_lost.set(now, !self.host_up);
        for service in &mut self.services {
            service.open.set(now, up);
            service.healthy.set(now, ready && service.checks.iter().all(CheckState::passes));
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Enters another state, and adds an event that tells of it.
    pub(crate) fn enter(&mut self, state: State, event: &str, source: &str) {
        self.state = state;
        self.updated_at = SystemTime::now();
        self.events.insert(0, event_json(event, state.name(), source));
        self.events.truncate(50);
        self.touch();
    }

    /// Replaces the config, as a new version.
    pub(crate) fn configure(&mut self, config: MachineConfig) {
        let control_ports = frps_bind_ports(&config);
        self.services = config.services().iter().map(|service| ServiceState::new(service, &control_ports)).collect();
        self.top_level_checks =
            config.checks.iter().flatten().map(|(name, check)| CheckState::new(name, check)).collect();
        self.config = config;
        self.updated_at = SystemTime::now();
        self.version = super::ids::ulid();
        self.touch();
    }

    /// The lease that holds now.
    pub(crate) fn current_lease(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.expires_at > SystemTime::now())
    }
}

impl ServiceState {
    fn new(definition: &Service, control_ports: &[u16]) -> ServiceState {
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
            open: Delayed::default(),
            healthy: Delayed::default(),
            is_control: definition.internal_port.is_some_and(|port| control_ports.contains(&port)),
            load: Arc::default(),
        }
    }

    /// The entry among its ports that exposes this external port.
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
}

impl Lease {
    pub(crate) fn new(ttl: Duration, description: String) -> Lease {
        Lease { nonce: super::ids::nonce(), expires_at: SystemTime::now() + ttl, description }
    }
}

/// The ports on which the Machine's frps listens for its clients, read from the configurations among its files.
fn frps_bind_ports(config: &MachineConfig) -> Vec<u16> {
    let contents = config.files.iter().flatten().filter_map(|file| content(file).ok());
    let bind_port = |text: String| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix("bindPort"))?;
        value.trim().strip_prefix('=')?.trim().parse().ok()
    };
    contents.filter_map(|content| String::from_utf8(content).ok()).filter_map(bind_port).collect()
}
