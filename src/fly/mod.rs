//! Fly's Machines API, as far as a tunnel needs it. Facts: docs.machines.dev, superfly/fly-go.

pub mod address;
pub mod app;
pub mod error;
pub mod machine;
pub mod token;

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Method, Request, Response};

use error::FlyError;
use token::TokenSource;

/// A Machine with its files is some 20 KiB; a list of all Apps of an organisation some 500 bytes each.
const REPLY_LIMIT: u64 = 16 << 20;

/// Idle connections that are kept, to each server. Each costs some 50 KiB for its life, and a pool hands out its oldest
/// first, so that a trickle of requests keeps all of them alive.
pub const IDLE_CONNECTIONS: usize = 8;

/// ureq keeps two buffers for each connection, of 128 KiB each unless told otherwise.
const BUFFER: usize = 8 << 10;

/// How we call ourselves, to Fly and to Kubernetes.
pub const USER_AGENT: &str = concat!("fly-tunnel-operator/", env!("CARGO_PKG_VERSION"));

/// Where Fly is, who we are there, and by what right.
#[derive(Clone)]
pub struct FlyConfig {
    pub url: String,
    pub org: String,
    pub token: TokenSource,
}

/// A client for one organisation. Cheap to share between threads.
pub struct Fly {
    agent: Agent,
    config: FlyConfig,
    count: Box<Count>,
}

/// What a request is for, as metrics name it.
type Operation = &'static str;

/// Is told of each request: its operation, its result (`success`, or [`FlyError::name`]), and how long it took.
type Count = dyn Fn(Operation, &'static str, Duration) + Send + Sync;

impl Fly {
    /// A client whose requests take no longer than `timeout`; nothing is sent yet.
    pub fn new(config: FlyConfig, timeout: Duration) -> Fly {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(timeout))
            .max_idle_age(Duration::from_secs(30))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build()
            .new_agent();
        Fly { agent, config, count: Box::new(|_, _, _| {}) }
    }

    /// Tells of each request.
    pub fn counted_by(self, count: impl Fn(Operation, &'static str, Duration) + Send + Sync + 'static) -> Fly {
        Fly { count: Box::new(count), ..self }
    }

    /// The organisation whose Apps these are.
    pub fn org(&self) -> &str {
        &self.config.org
    }

    fn get<T: DeserializeOwned>(&self, operation: Operation, path: &str) -> Result<T, FlyError> {
        self.ask(operation, Method::GET, path, Vec::new(), parsed)
    }

    fn post<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, FlyError> {
        self.ask(operation, Method::POST, path, encoded(body)?, parsed)
    }

    /// A request whose reply, if it is a success, says nothing that matters.
    fn call(&self, operation: Operation, method: Method, path: &str, body: Vec<u8>) -> Result<(), FlyError> {
        self.ask(operation, method, path, body, |_| Ok(()))
    }

    /// Sends a request and reads its reply. It counts once it is sent.
    fn ask<T>(
        &self,
        operation: Operation,
        method: Method,
        path: &str,
        body: Vec<u8>,
        read: impl FnOnce(&[u8]) -> Result<T, FlyError>,
    ) -> Result<T, FlyError> {
        let request = self.request(method, path, body)?;
        let began = Instant::now();
        let result = self.send(request).and_then(|reply| read(&reply));
        let outcome = result.as_ref().map_or_else(FlyError::name, |_| "success");
        (self.count)(operation, outcome, began.elapsed());
        result
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, FlyError> {
        Request::builder()
            .method(method)
            .uri(format!("{}/v1{path}", self.config.url))
            .header("Authorization", self.config.token.read().map_err(FlyError::Unauthorized)?)
            .header("Content-Type", "application/json")
            .body(body)
            .map_err(|error| FlyError::Refused(error.to_string()))
    }

    fn send(&self, request: Request<Vec<u8>>) -> Result<Vec<u8>, FlyError> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = self.agent.run(request).map_err(|error| match error {
            ureq::Error::Timeout(_) => FlyError::Unavailable("it does not answer in time".into()),
            error => FlyError::Unavailable(error.to_string()),
        })?;
        let (parts, body) = response.into_parts();
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        log::debug!("Fly: {method} {}: {} (request {})", uri.path(), parts.status.as_u16(), header("fly-request-id"));
        let reply = Response::new(body)
            .into_body()
            .into_with_config()
            .limit(REPLY_LIMIT)
            .read_to_vec()
            .map_err(|error| FlyError::Unavailable(format!("its reply cannot be read: {error}")))?;
        match parts.status.is_success() {
            true => Ok(reply),
            false => Err(FlyError::from_reply(parts.status.as_u16(), &reply, header("retry-after"))),
        }
    }
}

fn parsed<T: DeserializeOwned>(reply: &[u8]) -> Result<T, FlyError> {
    serde_json::from_slice(reply)
        .map_err(|error| FlyError::Unavailable(format!("its reply is not understood: {error}")))
}

fn encoded(body: &impl Serialize) -> Result<Vec<u8>, FlyError> {
    serde_json::to_vec(body).map_err(|error| FlyError::Refused(error.to_string()))
}
