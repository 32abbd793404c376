//! The Machines API over HTTP: the routes, and the layers that all requests pass (latency, token, rate limits, request
//! id).

mod addresses;
mod apps;
mod leases;
mod lifecycle;
mod machines;
mod metadata;
mod platform;
mod wait;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;

use super::error::{FlyError, FlyResult};
use super::{Shared, ids, limits};

/// The slug of the organisation whose token a request carries.
#[derive(Clone)]
struct Caller(String);

type Fly = State<Arc<Shared>>;
type Query = axum::extract::Query<Vec<(String, String)>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let machine = Router::new()
        .route("/", get(machines::get).post(machines::update).delete(lifecycle::destroy))
        .route("/wait", get(wait::wait))
        .route("/start", post(lifecycle::start))
        .route("/stop", post(lifecycle::stop))
        .route("/restart", post(lifecycle::restart))
        .route("/cordon", post(lifecycle::cordon))
        .route("/uncordon", post(lifecycle::uncordon))
        .route("/events", get(machines::events))
        .route("/lease", get(leases::get).post(leases::acquire).delete(leases::release))
        .route("/metadata", get(metadata::get).put(metadata::replace).patch(metadata::merge))
        .route("/metadata/{key}", post(metadata::set).delete(metadata::remove));
    let v1 = Router::new()
        .route("/apps", get(apps::list).post(apps::create))
        .route("/apps/{app}", get(apps::get).delete(apps::delete))
        .route("/apps/{app}/machines", get(machines::list).post(machines::create))
        .nest("/apps/{app}/machines/{machine}", machine)
        .route("/apps/{app}/ip_assignments", get(addresses::list).post(addresses::assign))
        .route("/apps/{app}/ip_assignments/{ip}", delete(addresses::release))
        .route("/orgs/{org}/machines", get(machines::list_of_organisation))
        .route("/platform/regions", get(platform::regions))
        .route("/tokens/current", get(platform::current_token))
        .method_not_allowed_fallback(|| async {
            FlyError::new(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed")
        })
        .route_layer(from_fn_with_state(shared.clone(), admit));
    Router::new()
        .nest("/v1", v1)
        .fallback(|| async { FlyError::new(StatusCode::NOT_FOUND, "404 page not found") })
        .layer(from_fn_with_state(shared.clone(), deliver))
        .with_state(shared)
}

/// The outer layer of every request, refused ones included: latency, and a request id in the response.
async fn deliver(State(shared): Fly, request: Request, next: Next) -> Response {
    tokio::time::sleep(shared.settings().latency).await;
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&ids::nonce()) {
        response.headers_mut().insert("fly-request-id", id);
    }
    response
}

/// Lets a request pass if its token is known and it is within the rate limits.
async fn admit(
    State(shared): Fly,
    path: MatchedPath,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> FlyResult<Response> {
    let caller = caller(&shared, request.headers()).ok_or_else(FlyError::unauthenticated)?;
    if shared.settings().rate_limits {
        let parameters: HashMap<&str, &str> = parameters.iter().collect();
        admit_rate(&shared, request.method(), path.as_str(), &parameters, &caller)?;
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Applies the rate limits. A request counts for the Machine that it names, else for the App; one that names neither is
/// not limited.
fn admit_rate(
    shared: &Shared,
    method: &Method,
    path: &str,
    parameters: &HashMap<&str, &str>,
    caller: &Caller,
) -> FlyResult<()> {
    let Some(identifier) = parameters.get("machine").or(parameters.get("app")) else { return Ok(()) };
    let mut limits = shared.limits.lock().expect("no one panics while holding it");
    let now = Instant::now();
    let is = |wanted: Method, suffix: &str| *method == wanted && path.trim_end_matches('/').ends_with(suffix);
    let rate = if is(Method::GET, "/machines/{machine}") { limits::GET_MACHINE } else { limits::ACTION };
    let mut allowed = limits.take(&format!("{method} {path}"), identifier, rate, now);
    if allowed && is(Method::DELETE, "/apps/{app}") {
        allowed = limits.take("delete apps", &caller.0, limits::DELETE_APP, now);
    }
    if allowed { Ok(()) } else { Err(FlyError::rate_limited()) }
}

/// Finds the organisation of the request's token. Tokens come as `Bearer T` or `FlyV1 T`, or with both words; there may
/// be several, separated by commas.
fn caller(shared: &Shared, headers: &HeaderMap) -> Option<Caller> {
    let header = headers.get("authorization")?.to_str().ok()?;
    let tokens = header.split([' ', ',']).filter(|word| !word.eq_ignore_ascii_case("bearer") && *word != "FlyV1");
    let world = shared.world();
    tokens
        .filter_map(|token| world.organisations.iter().find(|organisation| organisation.token == token))
        .map(|organisation| Caller(organisation.slug.clone()))
        .next()
}

/// Reads a body strictly. An empty one is an empty object, since some requests may leave it out.
fn read<T: DeserializeOwned>(body: &Bytes) -> FlyResult<T> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| FlyError::invalid_argument(format!("unable to decode the request's body: {error}")))
}

/// The last value of a query parameter.
fn parameter<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A boolean in a query, as Go reads it.
fn flag(query: &Query, name: &str) -> FlyResult<bool> {
    match parameter(query, name) {
        None | Some("" | "0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => Err(FlyError::invalid_argument(format!("{name}: {other:?} is no boolean"))),
    }
}

/// The answer `{"ok": true}`.
fn ok() -> Response {
    axum::Json(serde_json::json!({ "ok": true })).into_response()
}
