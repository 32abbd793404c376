//! Requests to Fly over HTTPS, and their replies.

use std::time::{Duration, Instant};

use kube_client_lite::LenientResolver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Method, Request, Response};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;

use super::error::{ErrorKind, FlyError};
use super::token::TokenSource;

/// A Machine with its files is some 20 KiB; a list of all Apps of an organisation some 500 bytes each.
const REPLY_LIMIT: u64 = 16 << 20;

/// Idle connections that are kept, to each server. Each costs some 50 KiB for its life, and a pool hands out its oldest
/// first, so that a trickle of requests keeps all of them alive.
pub const IDLE_CONNECTIONS: usize = 8;

/// ureq keeps two buffers for each connection, of 128 KiB each unless told otherwise.
const BUFFER: usize = 8 << 10;

/// How we call ourselves, to Fly and to Kubernetes.
pub const USER_AGENT: &str = concat!("fly-tunnel-operator/", env!("CARGO_PKG_VERSION"));

/// The way to Fly.
pub struct Http {
    agent: Agent,
    url: String,
    token: TokenSource,
    count: Box<Count>,
}

/// The purpose of a request, as metrics name it.
pub type Operation = &'static str;

/// It is told of each request: its operation, its result (`success`, or [`FlyError::name`]), and how long it took.
pub type Count = dyn Fn(Operation, &'static str, Duration) + Send + Sync;

impl Http {
    /// Requests take no longer than `timeout`.
    pub fn new(url: String, token: TokenSource, tls: TlsConfig, timeout: Duration, count: Box<Count>) -> Http {
        let config = Agent::config_builder()
            .tls_config(tls)
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
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), LenientResolver);
        Http { agent, url, token, count }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// Any.
    pub fn get<T: DeserializeOwned>(&self, operation: Operation, path: &str) -> Result<T, FlyError> {
        self.ask(operation, Method::GET, path, Vec::new(), parsed)
    }

    /// Sends something, and reads the reply.
    ///
    /// # Errors
    /// Any.
    pub fn post<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, FlyError> {
        self.ask(operation, Method::POST, path, encoded(body)?, parsed)
    }

    /// A request whose reply, if it is a success, says nothing that matters.
    ///
    /// # Errors
    /// Any.
    pub fn call(&self, operation: Operation, method: Method, path: &str, body: Vec<u8>) -> Result<(), FlyError> {
        self.ask(operation, method, path, body, |_| Ok(()))
    }

    /// Sends a request and reads its reply. Only a request that is sent is counted.
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
            .uri(format!("{}/v1{path}", self.url))
            .header("Authorization", self.token.read().map_err(ErrorKind::TokenUnreadable)?)
            .header("Content-Type", "application/json")
            .body(body)
            .map_err(|error| ErrorKind::Refused(error.to_string()).into())
    }

    fn send(&self, request: Request<Vec<u8>>) -> Result<Vec<u8>, FlyError> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = self.agent.run(request).map_err(|error| match error {
            ureq::Error::Timeout(_) => ErrorKind::Unavailable("it does not answer in time".into()),
            error => ErrorKind::Unavailable(error.to_string()),
        })?;
        let (parts, body) = response.into_parts();
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let request_id = header("fly-request-id");
        log::debug!("Fly: {method} {}: {} (request {request_id})", uri.path(), parts.status.as_u16());
        let failed = |kind| FlyError { kind, request_id: Some(request_id.to_owned()).filter(|id| !id.is_empty()) };
        let reply = Response::new(body)
            .into_body()
            .into_with_config()
            .limit(REPLY_LIMIT)
            .read_to_vec()
            .map_err(|error| failed(ErrorKind::Unavailable(format!("its reply cannot be read: {error}"))))?;
        if parts.status.is_success() && reply.trim_ascii_start().starts_with(b"<") {
            // Some proxy in between wants a person to log in, say. Nothing that it was asked for is done.
            Err(failed(ErrorKind::Unavailable("a page comes instead of its reply".into())))
        } else if parts.status.is_success() {
            Ok(reply)
        } else {
            Err(failed(ErrorKind::of_reply(parts.status.as_u16(), &reply, header("retry-after"))))
        }
    }
}

fn parsed<T: DeserializeOwned>(reply: &[u8]) -> Result<T, FlyError> {
    serde_json::from_slice(reply)
        .map_err(|error| ErrorKind::Unavailable(format!("its reply is not understood: {error}")).into())
}

/// The body of a request, as JSON.
///
/// # Errors
/// It cannot be written as JSON.
pub fn encoded(body: &impl Serialize) -> Result<Vec<u8>, FlyError> {
    serde_json::to_vec(body).map_err(|error| ErrorKind::Refused(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Only what Fly accepted is done: an App's deletion that a proxy answered, say, is asked for again at once.
    #[test]
    fn a_page_of_a_proxy_is_no_reply_of_flys() {
        for (body, taken) in [("", true), (r#"{"ok":true}"#, true), ("\n<!doctype html><p>Log in, please", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("a bound listener"));
            let proxy = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let _ = stream.read(&mut [0; 4096]).expect("a request");
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").expect("it listens");
            });
            let token = TokenSource::Value("token".into());
            let http = Http::new(url, token, TlsConfig::default(), Duration::from_secs(10), Box::new(|_, _, _| ()));
            let result = http.call("delete_app", Method::DELETE, "/apps/a?force=true", Vec::new());
            proxy.join().expect("no panic");
            match result {
                Ok(()) => assert!(taken, "{body}"),
                Err(error) => assert!(!taken && matches!(error.kind, ErrorKind::Unavailable(_)), "{body}: {error:?}"),
            }
        }
    }
}
