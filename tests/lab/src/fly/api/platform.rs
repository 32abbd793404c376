//! `/platform/regions` and `/tokens/current`.

use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Caller;
use crate::fly::regions;

pub(super) async fn regions() -> Json<Value> {
    Json(regions::listing())
}

pub(super) async fn current_token(Extension(Caller(caller)): Extension<Caller>) -> Json<Value> {
    Json(json!({ "tokens": [{
        "token_id": "1",
        "org_slug": caller,
        "organization": caller,
        "apps": [],
        "user": "",
        "restricted_to_machine": "",
        "source_machine_id": "",
    }] }))
}
