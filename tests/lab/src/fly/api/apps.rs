//! `/apps`: names, networks, and deletions that take their time.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::{Caller, Fly, Query, flag, parameter, read};
use crate::fly::Shared;
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::state::App;
use crate::fly::types::CreateApp;

pub(super) async fn create(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    query: Query,
    body: Bytes,
) -> FlyResult<Response> {
    let request: CreateApp = read(&body)?;
    let whole = flag(&query, "wait")?;
    let visible_from = Instant::now() + shared.settings().app_appears_after;
    let mut world = shared.world();
    let organisation = request.org_slug.as_deref().unwrap_or_default();
    if organisation != caller {
        return Err(FlyError::unauthorized());
    }
    let key = request.idempotency_key.filter(|key| !key.is_empty());
    let name = request.name.or(request.app_name).filter(|name| !name.is_empty());
    let made_before = |app: &&App| key.is_some() && app.idempotency_key == key && app.organisation == caller;
    let name = match (world.apps.values().find(made_before), name) {
        (Some(app), None) => app.name.clone(),
        (Some(app), Some(name)) if app.name == name => name,
        (Some(_), Some(_)) => return Err(FlyError::validation("Idempotency key was used for another app")),
        (None, name) => {
            let name = name.unwrap_or_else(|| format!("app-{}", crate::fly::ids::nonce()));
            check_name(&name)?;
            let network = request.network.unwrap_or_default();
            check_network(&network)?;
            if world.apps.contains_key(&name) {
                return Err(FlyError::name_taken());
            }
            let app = App::new(&mut world, &name, organisation, &network, visible_from);
            world.apps.insert(name.clone(), App { idempotency_key: key, ..app });
            name
        }
    };
    let (app, organisation) = (&world.apps[&name], world.organisation(organisation));
    let since_epoch = app.created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let body = match organisation.filter(|_| whole) {
        Some(organisation) => app.to_json(organisation),
        None => json!({ "id": app.id, "created_at": since_epoch.as_millis() as u64 }),
    };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Checks a name: "Name under 63 chars using numbers, lowercase letters and dashes" (Fly's message). It must be a DNS
/// label besides, since it becomes one.
fn check_name(name: &str) -> FlyResult<()> {
    let allowed = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.len() < 63 && allowed && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(FlyError::validation("Name under 63 chars using numbers, lowercase letters and dashes"))
}

/// Checks a network's name: letters, digits and dashes, a letter first (Fly docs, custom private networks). An empty
/// name is Fly's own network.
fn check_network(network: &str) -> FlyResult<()> {
    let allowed = network.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if network.is_empty() || (allowed && network.starts_with(|c: char| c.is_ascii_alphabetic())) {
        return Ok(());
    }
    Err(FlyError::validation("Network must begin with a letter and use letters, numbers and dashes"))
}

pub(super) async fn get(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(name): Path<String>,
) -> FlyResult<Response> {
    let mut world = shared.world();
    world.app(&caller, &name)?;
    let organisation = world.organisation(&caller).ok_or_else(FlyError::unauthorized)?;
    Ok(Json(world.apps[&name].to_json(organisation)).into_response())
}

pub(super) async fn list(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    query: Query,
) -> FlyResult<Response> {
    let world = shared.world();
    let asked = parameter(&query, "org_slug").unwrap_or(&caller);
    let organisation = world.organisation(asked).filter(|organisation| organisation.slug == caller);
    let organisation = organisation.ok_or_else(FlyError::unauthenticated)?;
    let visible = |app: &&App| app.organisation == caller && app.visible_from <= Instant::now();
    let apps: Vec<_> = world.apps.values().filter(visible).map(|app| app.to_json(organisation)).collect();
    Ok(Json(json!({ "total_apps": apps.len(), "apps": apps })).into_response())
}

/// Accepts the deletion with an empty 202. The Machines, the addresses and the App itself are gone a little later.
pub(super) async fn delete(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(name): Path<String>,
) -> FlyResult<Response> {
    let app_deletion = shared.settings().app_deletion;
    let mut world = shared.world();
    let app = world.app(&caller, &name)?;
    if !std::mem::replace(&mut app.deleting, true) {
        tokio::spawn(remove(shared.clone(), name, app_deletion));
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn remove(shared: Arc<Shared>, name: String, after: std::time::Duration) {
    tokio::time::sleep(after).await;
    shared.remove_app(&name);
}
