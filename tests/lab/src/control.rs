//! The HTTP server that `scripts/lab` runs at `LAB_URL`. It shows what exists and what was asked, and breaks things on
//! request.
//!
//! | request | |
//! |---|---|
//! | `GET /state` | Apps with addresses and Machines, as they are now |
//! | `GET /requests` | every request through the recorder, in order |
//! | `PUT /faults` | a list of faults ([`crate::recorder::Rule`]); `[]` clears |
//! | `PUT /capacity` | `{"ord": 0}`: how many Machines a region takes; regions not named take any number |
//! | `POST /machines/ID/crash` | the Machine's main process dies |
//! | `POST /hosts/ID/down`, `/up` | the host of Machine ID is lost, or is back |
//! | `POST /nodes/NAME/down`, `/up` | the same for a node of the cluster |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::homelab::Homelab;
use crate::recorder::Rule;

type Lab = State<Arc<Homelab>>;
type Answer = Result<StatusCode, (StatusCode, String)>;

/// A running server; it ends when dropped.
pub struct Control {
    address: SocketAddr,
    server: AbortHandle,
}

impl Control {
    /// Serves `lab` on a free port.
    pub fn start(lab: Arc<Homelab>) -> Control {
        let router = Router::new()
            .route("/state", get(async |State(lab): Lab| Json(lab.fly().state())))
            .route("/requests", get(async |State(lab): Lab| Json(lab.requests())))
            .route("/faults", put(set_faults))
            .route("/capacity", put(set_capacity))
            .route("/machines/{id}/crash", post(crash))
            .route("/hosts/{id}/{way}", post(host))
            .route("/nodes/{name}/{way}", post(node))
            .with_state(lab);
        let listener = crate::runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = crate::runtime().spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Control { address, server }
    }

    /// The value of `LAB_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn set_faults(State(lab): Lab, body: Bytes) -> Answer {
    let rules: Vec<Value> = read(&body)?;
    let rules: Result<Vec<Rule>, String> = rules.into_iter().map(Rule::try_from).collect();
    lab.faults(rules.map_err(bad_request)?);
    Ok(StatusCode::NO_CONTENT)
}

async fn set_capacity(State(lab): Lab, body: Bytes) -> Answer {
    let regions: BTreeMap<String, usize> = read(&body)?;
    lab.fly().set_capacity(regions);
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a body as JSON, whatever its `Content-Type` says: `curl -d` says that it is a form.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| bad_request(error.to_string()))
}

fn bad_request(why: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{why}\n"))
}

async fn crash(State(lab): Lab, Path(id): Path<String>) -> StatusCode {
    done(lab.fly().crash(&id))
}

async fn host(State(lab): Lab, Path((id, way)): Path<(String, String)>) -> StatusCode {
    match way.as_str() {
        "down" => done(lab.fly().host_down(&id)),
        "up" => done(lab.fly().host_up(&id)),
        _ => StatusCode::NOT_FOUND,
    }
}

async fn node(State(lab): Lab, Path((name, way)): Path<(String, String)>) -> StatusCode {
    if !lab.cluster().node_names().contains(&name) || !matches!(way.as_str(), "down" | "up") {
        return StatusCode::NOT_FOUND;
    }
    // The cluster's calls block, and a task of the runtime must not.
    let act = move || if way == "down" { lab.cluster().node_down(&name) } else { lab.cluster().node_up(&name) };
    match tokio::task::spawn_blocking(act).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn done(found: bool) -> StatusCode {
    if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
