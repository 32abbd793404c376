//! `…/lease`: a claim on a Machine, held by whoever knows its nonce.

use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::lifecycle::check_reachable;
use super::{Caller, Fly, Query, ok, parameter, read};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::state::{Lease, Machine};
use crate::fly::types::AcquireLease;
use crate::fly::view::rfc3339;

const NONCE: &str = "fly-machine-lease-nonce";
const DEFAULT_TTL: u64 = 30;

impl Lease {
    /// The `data` of a lease's body. `owner` is the organisation of the token.
    pub(crate) fn to_json(&self, owner: &str, version: &str) -> Value {
        let expires_at = self.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({
            "nonce": self.nonce,
            "expires_at": expires_at,
            "owner": owner,
            "description": self.description,
            "version": version,
        })
    }
}

fn body(lease: &Lease, owner: &str, version: &str) -> Json<Value> {
    Json(json!({ "status": "success", "data": lease.to_json(owner, version) }))
}

fn nonce(headers: &HeaderMap) -> Option<&str> {
    headers.get(NONCE)?.to_str().ok()
}

/// Refuses a change of a Machine that is leased to somebody else.
///
/// # Errors
/// It refuses with 409.
pub(super) fn check_lease(machine: &Machine, headers: &HeaderMap) -> FlyResult<()> {
    match machine.current_lease() {
        Some(lease) if nonce(headers) != Some(lease.nonce.as_str()) => {
            let until = rfc3339(lease.expires_at);
            let text = format!("machine {} lease currently held, expires at {until}", machine.id);
            Err(FlyError::new(StatusCode::CONFLICT, text))
        }
        _ => Ok(()),
    }
}

/// Grants a new lease or, if the request has the nonce of the current one, prolongs that. `ttl` comes in the body or in
/// the query.
pub(super) async fn acquire(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
    bytes: Bytes,
) -> FlyResult<(StatusCode, Json<Value>)> {
    let request: AcquireLease = read(&bytes)?;
    let ttl = parameter(&query, "ttl").map(str::parse).transpose();
    let ttl = ttl.map_err(|_| FlyError::invalid_argument("ttl must be a number of seconds"))?.or(request.ttl);
    let ttl = Duration::from_secs(ttl.filter(|ttl| *ttl > 0).unwrap_or(DEFAULT_TTL));
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    check_reachable(machine)?;
    check_lease(machine, &headers)?;
    let mut lease = Lease::new(ttl, request.description.unwrap_or_default());
    if let Some(current) = machine.current_lease() {
        lease.nonce.clone_from(&current.nonce);
    }
    let body = body(&lease, &caller, &machine.version);
    machine.lease = Some(lease);
    Ok((StatusCode::CREATED, body))
}

pub(super) async fn get(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    let lease = machine.current_lease().ok_or_else(|| FlyError::not_found("lease"))?;
    Ok(body(lease, &caller, &machine.version))
}

pub(super) async fn release(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Response> {
    let mut world = shared.world();
    let machine = world.machine(&caller, &app, &id)?;
    if machine.current_lease().is_none() {
        return Err(FlyError::not_found("lease"));
    }
    check_lease(machine, &headers)?;
    machine.lease = None;
    Ok(ok())
}
