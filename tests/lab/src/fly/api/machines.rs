//! `/apps/{app}/machines`: create, read, list, update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::leases::check_lease;
use super::lifecycle::{check_reachable, default_stop};
use super::{Caller, Fly, Query, flag, parameter, read};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::machine::{self, Order};
use crate::fly::state::{Key, Lease, Machine, State as MachineState, World};
use crate::fly::types::{CreateMachine, MachineConfig, normalise};
use crate::fly::{Shared, ids, regions};

pub(super) async fn create(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(app): Path<String>,
    body: Bytes,
) -> FlyResult<Json<Value>> {
    let request: CreateMachine = read(&body)?;
    let mut world = shared.world();
    world.app(&caller, &app)?;
    let config = request.config.ok_or_else(|| FlyError::invalid_argument("config is required"))?;
    let config = normalise(config).map_err(FlyError::invalid_argument)?;
    let id = ids::machine();
    let name = request.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("machine-{id}"));
    check_name(&name)?;
    if let Some(other) = world.app(&caller, &app)?.live_machines().find(|machine| machine.name == name) {
        let text = format!("unique machine name violation, machine ID {} already exists with name {name:?}", other.id);
        return Err(FlyError::new(StatusCode::CONFLICT, format!("already_exists: {text}")));
    }
    let region = place(&world, &caller, request.region.as_deref().unwrap_or_default(), &config)?;
    let launches = request.skip_launch != Some(true);
    let mut machine = build(&shared, &app, Identity { id: id.clone(), name, region, launches }, config);
    // No edge sends anything to a Machine whose services are not registered, so it is like a cordoned one.
    machine.cordoned = request.skip_service_registration == Some(true);
    machine.lease =
        request.lease_ttl.filter(|ttl| *ttl > 0).map(|ttl| Lease::new(Duration::from_secs(ttl), String::new()));
    let body = with_nonce(&machine);
    if launches {
        // It does not fail: the Machine's task has only just started.
        let _ = machine.orders.send(Order::Start);
    }
    world.app(&caller, &app)?.machines.insert(id, machine);
    drop(world);
    shared.edge_must_look();
    Ok(Json(body))
}

struct Identity {
    id: String,
    name: String,
    region: String,
    launches: bool,
}

/// A Machine in state `created`, and its task.
fn build(shared: &Arc<Shared>, app: &str, identity: Identity, config: MachineConfig) -> Machine {
    let Identity { id, name, region, launches } = identity;
    let addresses = shared.traffic.then(|| shared.slot.machine_addresses());
    let (orders, to_obey) = mpsc::unbounded_channel();
    machine::start(shared.strong(), Key { app: app.to_owned(), id: id.clone() }, addresses, to_obey);
    let now = SystemTime::now();
    let mut machine = Machine {
        private_ip: format!("fdaa:0:1:a7b:{}:{}:{}:2", &id[..3], &id[3..7], &id[7..11]),
        id,
        name,
        region,
        state: MachineState::Created,
        launches,
        version: String::new(),
        config: MachineConfig::default(),
        cordoned: false,
        host_up: true,
        host_shown_up: true,
        host_lost: Default::default(),
        services: Vec::new(),
        top_level_checks: Vec::new(),
        events: Vec::new(),
        lease: None,
        created_at: now,
        updated_at: now,
        visible_from: Instant::now() + shared.settings().machine_appears_after,
        addresses,
        orders,
        changes: watch::Sender::new(0),
    };
    machine.configure(config);
    machine.enter(MachineState::Created, "launch", "user");
    machine
}

/// Checks a name. Fly does not say which names it takes; `ASSUMPTIONS.md` has our guess.
fn check_name(name: &str) -> FlyResult<()> {
    let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.len() <= 63 && allowed {
        return Ok(());
    }
    Err(FlyError::invalid_argument(format!(
        "name {name:?} must have at most 63 letters, digits, dashes and underscores"
    )))
}

/// Chooses the first of the requested regions that has room. Refuses if the account may not have the Machine.
fn place(world: &World, caller: &str, request: &str, config: &MachineConfig) -> FlyResult<String> {
    let candidates = regions::candidates(request)
        .map_err(|name| FlyError::invalid_argument(format!("region {name:?} not found")))?;
    let account = world.organisation(caller).map(|organisation| organisation.account).unwrap_or_default();
    if !account.payment_method {
        let text = "please add a payment method to your organization before you create a machine";
        return Err(FlyError::new(StatusCode::PAYMENT_REQUIRED, text));
    }
    let has_room = |region: &&&str| {
        !world.lost_regions.contains(**region)
            && world.capacity.get(**region).is_none_or(|capacity| world.machines_in(region).count() < *capacity)
    };
    let region = candidates.iter().find(has_room).ok_or_else(FlyError::insufficient_capacity)?;
    if let Some(quota) = account.memory_quota {
        let memory =
            |config: &MachineConfig| config.guest.as_ref().and_then(|guest| guest.memory_mb).unwrap_or_default();
        let ours = world.machines_in(region).filter(|(app, _)| app.organisation == caller);
        let used: u32 = ours.map(|(_, machine)| memory(&machine.config)).sum();
        if used + memory(config) > quota {
            let text = format!(
                "organization {caller:?} is using {used} MB of memory in {region} which is over the allowed quota"
            );
            return Err(FlyError::new(StatusCode::FORBIDDEN, text));
        }
    }
    Ok((*region).to_owned())
}

pub(super) async fn get(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    Ok(Json(shared.world().machine(&caller, &app, &id)?.to_json()))
}

/// The Machine's JSON, with the nonce of the lease that the request got.
fn with_nonce(machine: &Machine) -> Value {
    let mut body = machine.to_json();
    if let Some(lease) = machine.current_lease() {
        body["nonce"] = lease.nonce.as_str().into();
    }
    body
}

/// Lists an App's Machines as a bare array. The filters `metadata.K=V`, `region` and `state` (a list) all have to
/// match.
pub(super) async fn list(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(app): Path<String>,
    query: Query,
) -> FlyResult<Json<Value>> {
    let (deleted, leases) = (flag(&query, "include_deleted")?, flag(&query, "include_leases")?);
    let mut world = shared.world();
    let none = BTreeMap::new();
    let wanted = |machine: &&Machine| {
        let metadata = machine.config.metadata.as_ref().unwrap_or(&none);
        let holds = |(key, value): &(String, String)| match (key.strip_prefix("metadata."), key.as_str()) {
            (Some(name), _) => metadata.get(name) == Some(value),
            (None, "region") => value.is_empty() || machine.region == *value,
            (None, "state") => value.is_empty() || value.split(',').any(|state| state == machine.state.name()),
            _ => true,
        };
        machine.visible_from <= Instant::now() && (deleted || machine.exists()) && query.iter().all(holds)
    };
    let row = |machine: &Machine| {
        let mut row = machine.to_json();
        if let Some(lease) = machine.current_lease().filter(|_| leases) {
            row["lease"] = lease.to_json(&caller, &machine.version);
        }
        row
    };
    let machines = world.app(&caller, &app)?.machines.values().filter(wanted).map(row);
    Ok(Json(machines.collect()))
}

/// Lists all Machines of an organisation, in pages: `cursor` is the last ID of the page before.
pub(super) async fn list_of_organisation(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(organisation): Path<String>,
    query: Query,
) -> FlyResult<Json<Value>> {
    if organisation != caller {
        return Err(FlyError::unauthorized());
    }
    let limit = parameter(&query, "limit").map_or(Ok(1000), str::parse).ok().filter(|limit| (1..=1000).contains(limit));
    let limit = limit.ok_or_else(|| FlyError::invalid_argument("limit must be between 1 and 1000"))?;
    let cursor = parameter(&query, "cursor").unwrap_or_default();
    let since = parameter(&query, "updated_after").filter(|text| !text.is_empty()).map(humantime::parse_rfc3339);
    let since = since.transpose().map_err(|error| FlyError::invalid_argument(format!("updated_after: {error}")))?;
    let world = shared.world();
    let apps = world.apps.values().filter(|app| app.organisation == caller && app.visible_from <= Instant::now());
    let rows: BTreeMap<&str, (&str, &Machine)> = apps
        .flat_map(|app| app.live_machines().map(|machine| (machine.id.as_str(), (app.name.as_str(), machine))))
        .filter(|(id, (_, machine))| *id > cursor && machine.visible_from <= Instant::now())
        .filter(|(_, (_, machine))| since.is_none_or(|since| machine.updated_at > since))
        .collect();
    let page: Vec<Value> = rows.values().take(limit).map(|(app, machine)| machine.to_summary_json(app)).collect();
    let next = if rows.len() > limit { page[limit - 1]["id"].clone() } else { "".into() };
    Ok(Json(json!({ "machines": page, "next_cursor": next, "error_regions": [] })))
}

pub(super) async fn events(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    query: Query,
) -> FlyResult<Json<Value>> {
    let limit = parameter(&query, "limit").map_or(Ok(20), str::parse::<usize>);
    let limit = limit.map_err(|_| FlyError::invalid_argument("limit must be a number"))?.min(50);
    let mut world = shared.world();
    let events = &world.machine(&caller, &app, &id)?.events;
    Ok(Json(json!(&events[..limit.min(events.len())])))
}

/// Replaces the whole config, as a new version, and boots the Machine with it unless told not to.
pub(super) async fn update(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> FlyResult<Json<Value>> {
    let request: CreateMachine = read(&body)?;
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    let config = request.config.ok_or_else(|| FlyError::invalid_argument("config is required"))?;
    let config = normalise(config).map_err(FlyError::invalid_argument)?;
    let other =
        |given: &Option<String>, current: &str| given.as_deref().is_some_and(|new| !new.is_empty() && new != current);
    if other(&request.region, &machine.region) || other(&request.name, &machine.name) {
        return Err(FlyError::invalid_argument("region and name of a machine cannot be changed"));
    }
    if other(&request.current_version, &machine.version) {
        return Err(FlyError::aborted("machine update failed due to concurrent update"));
    }
    machine.configure(config);
    let stop = default_stop(machine);
    let order = if request.skip_launch == Some(true) { Order::Stop(stop) } else { Order::Restart(stop) };
    if matches!(order, Order::Restart(_)) || machine.state == MachineState::Started {
        machine.launches = true;
        machine.enter(MachineState::Replacing, "update", "user");
        // It does not fail: a Machine that is reachable and not destroyed has a task that takes orders.
        let _ = machine.orders.send(order);
    }
    let body = machine.to_json();
    drop(world);
    shared.edge_must_look();
    Ok(Json(body))
}
