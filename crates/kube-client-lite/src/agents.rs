//! Connections: one pool of them for each client certificate, and how a server is reached that goes by another name.
//!
//! ureq's agent has one pool and one setting of TLS. A credential plugin may bring a new certificate at any time: then
//! a new agent is made, and with the last request that uses the old one, its connections go.

use std::sync::{Mutex, PoisonError};

use ureq::http::Uri;
use ureq::tls::{ClientCert, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Proxy};

use crate::config::error::ConfigError;
use crate::login::{ClientCertificate, Login};
use crate::options::ClientOptions;
use crate::tls::{TlsSettings, Trust, client_cert};

/// ureq keeps two buffers for each connection, of 128 KiB each unless told otherwise.
const BUFFER: usize = 8 << 10;
/// Idle connections are closed after this time. The API server closes them after 90 s (`IdleTimeout` in apiserver's
/// `secure_serving.go`): better to be first.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// The agents of one client.
pub(crate) struct Agents {
    /// With the certificate that the configuration has, if any.
    own: Agent,
    /// With the last certificate that a plugin brought.
    brought: Mutex<Option<(ClientCertificate, Agent)>>,
    trust: Trust,
    proxy: Option<Proxy>,
    name: Option<Uri>,
    options: ClientOptions,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agents")
    }
}

impl Agents {
    /// `name`: a URL with the name that the server's certificate has, if it is another.
    ///
    /// # Errors
    /// A certificate, a key or a user agent that cannot be used.
    pub fn new(
        tls: &TlsSettings,
        proxy: Option<Proxy>,
        name: Option<Uri>,
        options: &ClientOptions,
    ) -> Result<Agents, ConfigError> {
        let user_agent = &options.user_agent;
        // ureq panics on one that is no header.
        if ureq::http::HeaderValue::from_str(user_agent).is_err() {
            return Err(ConfigError::invalid(format!("{user_agent:?} cannot be a user agent")));
        }
        let trust = Trust::new(tls).map_err(|error| error.of(&tls.origin))?;
        let own = tls.client.as_ref().map(client_cert).transpose().map_err(|error| error.of(&tls.origin))?;
        let own = agent(trust.tls_config(own), proxy.clone(), name.clone(), options);
        Ok(Agents { own, brought: Mutex::default(), trust, proxy, name, options: options.clone() })
    }

    /// The agent to send a request with.
    pub fn of(&self, login: &Login) -> Agent {
        let Some(certificate) = &login.client else { return self.own.clone() };
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        match &*brought {
            Some((last, agent)) if last == certificate => agent.clone(),
            _ => {
                let agent = self.with(certificate.cert.clone());
                *brought = Some((certificate.clone(), agent.clone()));
                agent
            }
        }
    }

    fn with(&self, client: ClientCert) -> Agent {
        agent(self.trust.tls_config(Some(client)), self.proxy.clone(), self.name.clone(), &self.options)
    }
}

fn agent(tls: TlsConfig, proxy: Option<Proxy>, name: Option<Uri>, options: &ClientOptions) -> Agent {
    let ClientOptions { ref user_agent, connect_timeout, timeout: _, idle_connections } = *options;
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Never the one that the environment names: it is meant for other servers than this.
        .proxy(proxy)
        .user_agent(user_agent)
        .timeout_connect(Some(connect_timeout))
        .max_idle_age(IDLE)
        .max_idle_connections(idle_connections)
        .max_idle_connections_per_host(idle_connections)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(Tls { inner: RustlsConnector::default(), name });
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// TLS with a server whose certificate may have another name than its URL (`tls-server-name`). The URL says where it is
/// and what goes into `Host`, as in kubectl.
#[derive(Debug)]
struct Tls {
    inner: RustlsConnector,
    name: Option<Uri>,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        // A proxy has its own name, and no TLS.
        let name = self.name.as_ref().filter(|_| details.needs_tls());
        let details = ConnectionDetails {
            uri: name.unwrap_or(details.uri),
            addrs: details.addrs.clone(),
            config: details.config,
            // What a request has of its own is its deadline, which is no reason to read all authorities again.
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.inner.connect(&details, chained)
    }
}
