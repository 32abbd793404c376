//! Requests on their way: one pool of connections, one deadline for each request, the two cases in
//! which a request is sent a second time, and how a server is reached that goes by another name.

use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, RequestBuilder};

use crate::config::{Config, ConfigError};
use crate::credentials::{Credentials, Secret};
use crate::error::{Error, Kind};
use crate::options::ClientOptions;
use crate::reply::{self, Reply};
use crate::request::{Method, Request};
use crate::tls;

/// ureq keeps two buffers for each connection, of 128 KiB each unless told otherwise.
const BUFFER: usize = 8 << 10;
/// Idle connections are closed after this time. The API server closes them after 90 s (`IdleTimeout` in apiserver's
/// `secure_serving.go`): better to be first.
const IDLE: Duration = Duration::from_secs(60);

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Transport {
    agent: Agent,
    /// Scheme, host, port and what the paths are below, without a slash at the end.
    base: String,
    credentials: Credentials,
}

impl Transport {
    pub(crate) fn new(config: Config, options: &ClientOptions) -> Result<Transport, ConfigError> {
        let ClientOptions { ref user_agent, connect_timeout, timeout: _, idle_connections } = *options;
        // ureq panics on one that is no header.
        if ureq::http::HeaderValue::from_str(user_agent).is_err() {
            return Err(ConfigError::invalid(format!("{user_agent:?} cannot be a user agent")));
        }
        let agent_config = Agent::config_builder()
            .tls_config(tls::build(&config.tls)?)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Never the one that the environment names: it is meant for other servers than this.
            .proxy(config.proxy)
            .user_agent(user_agent)
            .timeout_connect(Some(connect_timeout))
            .max_idle_age(IDLE)
            .max_idle_connections(idle_connections)
            .max_idle_connections_per_host(idle_connections)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build();
        let (base, dial) = match config.renamed {
            Some(renamed) => (renamed.base, Some(renamed.dial)),
            None => (config.server, None),
        };
        Ok(Transport {
            agent: Agent::with_parts(agent_config, DefaultConnector::new(), Dialled(dial)),
            base,
            credentials: config.credentials,
        })
    }

    /// Sends the request, and gives back the reply if it is a success. Its body is still to be read.
    pub(crate) fn send(&self, request: &Request, timeout: Duration) -> Result<Reply, Error> {
        self.exchange(request, timeout).map_err(|kind| request.error(kind))
    }

    fn exchange(&self, request: &Request, timeout: Duration) -> Result<Reply, Kind> {
        let deadline = Instant::now() + timeout;
        let token = self.credentials.token().map_err(Kind::Credentials)?;
        let mut reply = self.exchange_as(request, token.as_ref(), deadline)?;
        if reply.status() == 401
            && let Some(renewed) = token.and_then(|refused| self.credentials.renewed(&refused))
        {
            // Read to its end, the reply gives its connection back.
            reply::refusal(reply);
            reply = self.exchange_as(request, Some(&renewed), deadline)?;
        }
        if reply.status().is_success() { Ok(reply) } else { Err(reply::refusal(reply)) }
    }

    /// Once more where the connection was closed just as the request went out. ureq leaves that to us.
    fn exchange_as(&self, request: &Request, token: Option<&Secret>, deadline: Instant) -> Result<Reply, Kind> {
        let first = self.exchange_once(request, token, deadline);
        match first {
            Err(error) if request.repeatable && is_dead_connection(&error) => {
                log::debug!("{} {}: {error}; sent again", request.method.name(), request.path);
                self.exchange_once(request, token, deadline)
            }
            other => other,
        }
        .map_err(Kind::Transport)
    }

    fn exchange_once(
        &self,
        request: &Request,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Reply, ureq::Error> {
        let url = format!("{}{}", self.base, request.path);
        let parts = Parts { request, token, time_left: deadline.saturating_duration_since(Instant::now()) };
        let with_body = match request.method {
            Method::Get => return parts.add_to(self.agent.get(url)).call(),
            Method::Post => self.agent.post(url),
            Method::Put => self.agent.put(url),
            Method::Patch => self.agent.patch(url),
            Method::Delete => self.agent.delete(url).force_send_body(),
        };
        parts.add_to(with_body).header(CONTENT_TYPE, request.content_type).send(&request.body[..])
    }
}

/// What all methods have in common.
struct Parts<'a> {
    request: &'a Request<'a>,
    token: Option<&'a Secret>,
    time_left: Duration,
}

impl Parts<'_> {
    fn add_to<Any>(&self, mut builder: RequestBuilder<Any>) -> RequestBuilder<Any> {
        for (key, value) in &self.request.query {
            builder = builder.query(key, value);
        }
        if let Some(token) = self.token {
            builder = builder.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        builder.header(ACCEPT, self.request.accept).config().timeout_global(Some(self.time_left)).build()
    }
}

/// Whether the connection ended before any part of a reply.
fn is_dead_connection(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error, ureq::Error::Io(error) if matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    ))
}

/// Looks up another address than the URL's: with `tls-server-name` the URL carries the name that the
/// server's certificate must have, and this the address at which it is to be found.
#[derive(Debug)]
struct Dialled(Option<Uri>);

impl Resolver for Dialled {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(self.0.as_ref().unwrap_or(uri), config, timeout)
    }
}
