//! Connections: one pool of them for each client certificate, and how to reach a server whose certificate has another name.
//!
//! An agent of ureq has one pool and one setting of TLS. A credential plugin may bring a new certificate at any time. Then
//! a new agent is made; the connections of the old one end with the last request that uses it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{ClientCert, TlsConfig};
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Proxy};

use crate::config::error::ConfigError;
use crate::identity::OwnAgent;
use crate::login::{ClientCertificate, Login};
use crate::options::ClientOptions;
use crate::resolver::LenientResolver;
use crate::tls::{TlsSettings, Trust, client_cert};

/// ureq keeps two buffers for each connection, of 128 KiB each unless told otherwise.
const BUFFER: usize = 8 << 10;
/// Idle connections are closed after this time. The API server closes them after 90 s (`IdleTimeout` in apiserver's
/// `secure_serving.go`), and a request must not meet a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(60);
/// The time for a connection, with its TLS. A server that does not answer in this time is out of reach.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The agents of one client.
pub(crate) struct Agents {
    own: Mutex<OwnAgent>,
    /// The agent with the last certificate that a plugin brought.
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
    /// `name` is a URL with the name in the server's certificate, if that is another one than in the server's URL.
    ///
    /// # Errors
    /// A certificate, a key or the user agent cannot be used.
    pub fn new(
        tls: TlsSettings,
        proxy: Option<Proxy>,
        name: Option<Uri>,
        options: &ClientOptions,
    ) -> Result<Agents, ConfigError> {
        let user_agent = &options.user_agent;
        // ureq panics on a user agent that cannot be a header.
        if ureq::http::HeaderValue::from_str(user_agent).is_err() {
            return Err(ConfigError::invalid(format!("{user_agent:?} cannot be a user agent")));
        }
        let trust = Trust::new(&tls).map_err(|error| error.of(&tls.origin))?;
        let own = tls.client.as_ref().map(client_cert).transpose().map_err(|error| error.of(&tls.origin))?;
        let own = agent(trust.tls_config(own), proxy.clone(), name.clone(), options);
        let own = Mutex::new(OwnAgent::new(own, tls.client));
        Ok(Agents { own, brought: Mutex::default(), trust, proxy, name, options: options.clone() })
    }

    /// The agent to send a request with.
    pub fn of(&self, login: &Login) -> Agent {
        let Some(certificate) = &login.client else {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            return own.now(|certificate| self.with(certificate));
        };
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
    let ClientOptions { ref user_agent, timeout: _, idle_connections } = *options;
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy that the environment names is never used: it is meant for other servers than this.
        .proxy(proxy)
        .user_agent(user_agent)
        .timeout_connect(Some(CONNECT_TIMEOUT))
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
    Agent::with_parts(config, connector, LenientResolver)
}

/// TLS with a server whose certificate may have another name than its URL (`tls-server-name`). As in kubectl, the URL says
/// where the server is and what stands in the header `Host`.
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
            // A request has no settings of its own but its deadline, and that is no reason to read all authorities again.
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
