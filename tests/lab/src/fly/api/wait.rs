//! `GET …/wait`. The request is held until the Machine reaches a state, or until the time is up.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{Caller, Fly, Query, parameter};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::state::Machine;

/// The states that may be waited for.
const STATES: &[&str] = &["started", "stopped", "suspended", "destroyed", "failed", "settled"];

pub(super) async fn wait(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    query: Query,
) -> FlyResult<Json<Value>> {
    let deadline = Instant::now() + timeout(&query)?;
    let states = states(&query)?;
    let version =
        parameter(&query, "version").or(parameter(&query, "instance_id")).filter(|version| !version.is_empty());
    loop {
        let (mut changes, current) = {
            let mut world = shared.world();
            let machine = world.machine(&caller, &app, &id)?;
            if version.is_some_and(|version| version != machine.version) {
                return Err(failed(&states, "replaced"));
            }
            if reached(machine, &states) {
                return Ok(Json(json!({
                    "ok": true,
                    "state": machine.state.name(),
                    "event_id": machine.events.first().map(|event| &event["id"]),
                    "version": machine.version,
                })));
            }
            (machine.changes.subscribe(), machine.state.name())
        };
        // `changed` also returns if the Machine is removed with its App; the next look finds that out.
        if timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(failed(&states, current));
        }
    }
}

fn reached(machine: &Machine, states: &[String]) -> bool {
    let is = |state: &String| state == machine.state.name() || (state == "settled" && machine.is_settled());
    states.iter().any(is)
}

fn failed(states: &[String], current: &str) -> FlyError {
    let wanted = states.join(", ");
    let text = format!("deadline_exceeded: machine failed to reach desired state, {wanted}, currently {current}");
    FlyError::new(StatusCode::REQUEST_TIMEOUT, text)
}

/// The `timeout` of a request: 1 to 60 s, or 60 s if it gives none.
fn timeout(query: &Query) -> FlyResult<Duration> {
    let text = parameter(query, "timeout").filter(|text| !text.is_empty()).unwrap_or("60");
    let seconds: u64 =
        text.parse().map_err(|_| FlyError::invalid_argument(format!("timeout: {text:?} is no number")))?;
    if !(1..=60).contains(&seconds) {
        let why = "invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]";
        return Err(FlyError::invalid_argument(why));
    }
    Ok(Duration::from_secs(seconds))
}

/// The values of `state`, which may be repeated or have commas; `started` if there is none.
fn states(query: &Query) -> FlyResult<Vec<String>> {
    let values = query.iter().filter(|(name, _)| name == "state").flat_map(|(_, value)| value.split(','));
    let mut states: Vec<String> = values.filter(|state| !state.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
        return Err(FlyError::invalid_argument(format!("state: {unknown:?} cannot be waited for")));
    }
    if states.is_empty() {
        states.push("started".to_owned());
    }
    Ok(states)
}
