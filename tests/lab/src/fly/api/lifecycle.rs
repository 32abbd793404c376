//! Start, stop, restart, cordon and destroy. Each checks the request, shows a transient state, and leaves the rest to
//! the Machine's task.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::leases::check_lease;
use super::{Caller, Fly, Query, flag, ok, parameter, read};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::machine::{Order, Stop};
use crate::fly::state::{Machine, State as MachineState};
use crate::fly::types::{GoDuration, Signal, StopMachine};

/// How to stop a Machine: by its own `stop_config`, else with SIGINT and 5 s (Fly docs, Machine config).
pub(super) fn default_stop(machine: &Machine) -> Stop {
    let config = machine.config.stop_config.clone().unwrap_or_default();
    Stop {
        signal: config.signal.unwrap_or(Signal::SIGINT).number(),
        timeout: config.timeout.map_or(Duration::from_secs(5), |timeout| timeout.0),
    }
}

fn stop_as_asked(machine: &Machine, signal: Option<Signal>, timeout: Option<GoDuration>) -> Stop {
    let default = default_stop(machine);
    Stop {
        signal: signal.filter(|signal| *signal != Signal::Unset).map_or(default.signal, Signal::number),
        timeout: timeout.map(|timeout| timeout.0).filter(|timeout| !timeout.is_zero()).unwrap_or(default.timeout),
    }
}

/// Refuses a Machine that takes no orders, because it is destroyed or its host is lost.
pub(super) fn check_reachable(machine: &Machine) -> FlyResult<()> {
    match machine {
        machine if !machine.exists() || machine.state == MachineState::Destroying => {
            Err(FlyError::failed_precondition(format!("machine is {}", machine.state.name())))
        }
        machine if !machine.host_up => Err(FlyError::failed_precondition("the host of the machine is unreachable")),
        _ => Ok(()),
    }
}

fn give(machine: &Machine, order: Order) {
    // It does not fail: a Machine that is not destroyed has a task that takes orders.
    let _ = machine.orders.send(order);
}

pub(super) async fn start(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    let previous = machine.state;
    match previous {
        MachineState::Started => {}
        MachineState::Stopped => start_now(machine),
        MachineState::Created if !machine.launches => start_now(machine),
        _ => {
            let text = format!("unable to start machine from current state: '{}'", previous.name());
            return Err(FlyError::failed_precondition(text));
        }
    }
    Ok(Json(json!({ "previous_state": previous.name(), "migrated": false, "new_host": "" })))
}

fn start_now(machine: &mut Machine) {
    machine.launches = true;
    machine.enter(MachineState::Starting, "start", "user");
    give(machine, Order::Start);
}

pub(super) async fn stop(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> FlyResult<Response> {
    let request: StopMachine = read(&body)?;
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    match machine.state {
        MachineState::Stopped => {}
        MachineState::Created => {
            return Err(FlyError::failed_precondition("unable to stop machine from current state: 'created'"));
        }
        _ => {
            machine.enter(MachineState::Stopping, "stop", "user");
            give(machine, Order::Stop(stop_as_asked(machine, request.signal, request.timeout)));
        }
    }
    Ok(ok())
}

pub(super) async fn restart(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    query: Query,
) -> FlyResult<Response> {
    let timeout = parameter(&query, "timeout").filter(|text| !text.is_empty()).map(GoDuration::parse);
    let timeout = timeout.transpose().map_err(FlyError::invalid_argument)?;
    let signal = parameter(&query, "signal").map(|name| serde_json::from_value(name.into()));
    let signal = signal.transpose().map_err(|error| FlyError::invalid_argument(error.to_string()))?;
    let forced = flag(&query, "force_stop")?;
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    let stop = stop_as_asked(machine, signal, timeout);
    machine.enter(MachineState::Restarting, "restart", "user");
    give(machine, Order::Restart(if forced { Stop { signal: libc::SIGKILL, ..stop } } else { stop }));
    Ok(ok())
}

pub(super) async fn cordon(
    shared: Fly,
    caller: Extension<Caller>,
    path: Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Response> {
    set_cordon(shared, caller, path, headers, true)
}

pub(super) async fn uncordon(
    shared: Fly,
    caller: Extension<Caller>,
    path: Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Response> {
    set_cordon(shared, caller, path, headers, false)
}

fn set_cordon(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    cordoned: bool,
) -> FlyResult<Response> {
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    machine.cordoned = cordoned;
    machine.touch();
    Ok(ok())
}

/// Destroys a Machine. A started one needs `force` (the word of Fly's API description) or `kill` (that of its Go
/// client). A lost host is no obstacle, and neither is a lease on a Machine there.
pub(super) async fn destroy(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    query: Query,
) -> FlyResult<Response> {
    let forced = flag(&query, "force")? || flag(&query, "kill")?;
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    if machine.host_up {
        check_lease(machine, &headers)?;
    }
    match machine.state {
        MachineState::Destroying | MachineState::Destroyed => {}
        MachineState::Created | MachineState::Stopped | MachineState::LaunchFailed => destroy_now(machine),
        _ if forced => destroy_now(machine),
        state => {
            let text = format!("unable to destroy machine in state '{}', stop it or use force", state.name());
            return Err(FlyError::failed_precondition(text));
        }
    }
    Ok(ok())
}

fn destroy_now(machine: &mut Machine) {
    machine.enter(MachineState::Destroying, "destroy", "user");
    give(machine, Order::Destroy);
}
