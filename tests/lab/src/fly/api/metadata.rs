//! `…/metadata`. A change of it makes no new version of the Machine.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::{Caller, Fly, read};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::types::{MetadataValue, ReplaceMetadata};

type Metadata = BTreeMap<String, String>;

/// Changes the metadata of a Machine.
fn change(fly: &Fly, caller: &str, app: &str, id: &str, change: impl FnOnce(&mut Metadata)) -> FlyResult<StatusCode> {
    let mut world = fly.world();
    let machine = world.machine(caller, app, id)?;
    change(machine.config.metadata.get_or_insert_default());
    machine.touch();
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn get(
    fly: Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Metadata>> {
    let mut world = fly.world();
    let machine = world.machine(&caller, &app, &id)?;
    Ok(Json(machine.config.metadata.clone().unwrap_or_default()))
}

pub(super) async fn set(
    fly: Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id, key)): Path<(String, String, String)>,
    body: Bytes,
) -> FlyResult<StatusCode> {
    let request: MetadataValue = read(&body)?;
    let value = request.value.ok_or_else(|| FlyError::invalid_argument("value is required"))?;
    change(&fly, &caller, &app, &id, |metadata| {
        metadata.insert(key, value);
    })
}

pub(super) async fn remove(
    fly: Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id, key)): Path<(String, String, String)>,
) -> FlyResult<StatusCode> {
    change(&fly, &caller, &app, &id, |metadata| {
        metadata.remove(&key);
    })
}

/// `PUT` replaces all metadata by the given ones.
pub(super) async fn replace(
    fly: Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    body: Bytes,
) -> FlyResult<StatusCode> {
    let given = checked(&fly, &caller, &app, &id, &body)?;
    change(&fly, &caller, &app, &id, |metadata| *metadata = given)
}

/// `PATCH` sets the given metadata and leaves the others as they are.
pub(super) async fn merge(
    fly: Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    body: Bytes,
) -> FlyResult<StatusCode> {
    let given = checked(&fly, &caller, &app, &id, &body)?;
    change(&fly, &caller, &app, &id, |metadata| metadata.extend(given))
}

/// The metadata in a body. Refuses a body that was written for another version of the Machine than the current one.
fn checked(fly: &Fly, caller: &str, app: &str, id: &str, body: &Bytes) -> FlyResult<Metadata> {
    let request: ReplaceMetadata = read(body)?;
    let metadata = request.metadata.ok_or_else(|| FlyError::invalid_argument("metadata is required"))?;
    let mut world = fly.world();
    let current = &world.machine(caller, app, id)?.version;
    match request.machine_version.filter(|version| !version.is_empty() && version != current) {
        None => Ok(metadata),
        Some(version) => {
            Err(FlyError::failed_precondition(format!("machine_version {version} is not the current one, {current}")))
        }
    }
}
