//! Sends requests: each has one deadline, and in two cases one is sent a second time.

use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::{RequestBuilder, Timeout};

use crate::agents::Agents;
use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::error::{Error, Kind};
use crate::login::Login;
use crate::options::ClientOptions;
use crate::reply::{self, Reply};
use crate::request::{Method, Request};

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Transport {
    agents: Agents,
    /// Scheme, host, port, and perhaps the beginning of all paths, without a slash at the end.
    base: String,
    credentials: Credentials,
}

impl Transport {
    pub(crate) fn new(config: Config, options: &ClientOptions) -> Result<Transport, ConfigError> {
        let Config { server, tls_server_name, tls, proxy, credentials, namespace: _ } = config;
        let agents = Agents::new(tls, proxy, tls_server_name, options)?;
        Ok(Transport { agents, base: server, credentials })
    }

    /// Sends the request, and gives back the reply if it is a success. Its body is still to be read.
    pub(crate) fn send(&self, request: &Request, timeout: Duration) -> Result<Reply, Error> {
        self.exchange(request, timeout).map_err(|kind| request.error(kind))
    }

    fn exchange(&self, request: &Request, timeout: Duration) -> Result<Reply, Kind> {
        let deadline = Instant::now() + timeout;
        let login = self.credentials.login(deadline).map_err(Kind::Credentials)?;
        let mut reply = self.exchange_as(request, &login, deadline)?;
        if reply.status() == 401
            && let Some(renewed) = self.credentials.renewed(&login, deadline)
        {
            // The reply is read to its end so that its connection can be used again.
            reply::refusal(reply);
            reply = self.exchange_as(request, &renewed, deadline)?;
        }
        if reply.status().is_success() { Ok(reply) } else { Err(reply::refusal(reply)) }
    }

    /// Sends the request a second time where the connection was closed just as the request went out. ureq leaves that to us.
    fn exchange_as(&self, request: &Request, login: &Login, deadline: Instant) -> Result<Reply, Kind> {
        let first = self.exchange_once(request, login, deadline);
        match first {
            Err(error) if request.repeatable && is_dead_connection(&error) => {
                log::debug!("{} {}: {error}; sent again", request.method.name(), request.path);
                self.exchange_once(request, login, deadline)
            }
            other => other,
        }
        .map_err(Kind::Transport)
    }

    fn exchange_once(&self, request: &Request, login: &Login, deadline: Instant) -> Result<Reply, ureq::Error> {
        let url = format!("{}{}", self.base, request.path);
        let agent = self.agents.of(login);
        let time_left = deadline.saturating_duration_since(Instant::now());
        // Something took very long: this process may have been stopped. The caller takes it that nothing is sent any more.
        if time_left.is_zero() {
            return Err(ureq::Error::Timeout(Timeout::Global));
        }
        let parts = Parts { request, login, time_left };
        let with_body = match request.method {
            Method::Get => return parts.add_to(agent.get(url)).call(),
            Method::Delete => return parts.add_to(agent.delete(url)).call(),
            Method::Post => agent.post(url),
            Method::Put => agent.put(url),
            Method::Patch => agent.patch(url),
        };
        parts.add_to(with_body).header(CONTENT_TYPE, request.content_type).send(&request.body[..])
    }
}

/// The parts of a request that all methods have.
struct Parts<'a> {
    request: &'a Request<'a>,
    login: &'a Login,
    time_left: Duration,
}

impl Parts<'_> {
    fn add_to<Any>(&self, mut builder: RequestBuilder<Any>) -> RequestBuilder<Any> {
        for (key, value) in &self.request.query {
            builder = builder.query(key, value);
        }
        if let Some(token) = &self.login.token {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::Config;
    use crate::tls::TlsSettings;

    /// This happens where the process was stopped, and the connection was closed meanwhile.
    #[test]
    fn nothing_is_sent_when_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let config = Config {
            server: format!("http://{}", listener.local_addr().expect("a bound listener")),
            tls_server_name: None,
            tls: TlsSettings::default(),
            proxy: None,
            credentials: Credentials::None,
            namespace: None,
        };
        let transport = Transport::new(config, &ClientOptions::new("test/1")).expect("a usable configuration");
        let request = Request::new(Method::Get, "/version");
        let result = transport.exchange_as(&request, &Login::default(), Instant::now());
        assert!(matches!(result, Err(Kind::Transport(ureq::Error::Timeout(Timeout::Global)))), "{result:?}");
        listener.set_nonblocking(true).expect("a listener");
        assert_eq!(listener.accept().expect_err("nobody").kind(), std::io::ErrorKind::WouldBlock);
    }
}
