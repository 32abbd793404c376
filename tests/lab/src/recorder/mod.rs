//! The recorder: a proxy before Fly and one before the API server. It logs every request, in order and without
//! headers, and can strike it with a fault.
//!
//! ```text
//!  operator ── http ───► recorder ── http ───► Fly
//!           └─ https ──►          └─ https ──► API server
//! ```
//!
//! To stop time at a request, hold it at a [`Gate`]: the test then knows that it has arrived, that it has not been
//! ([`Fault::Hold`]) or has been ([`Fault::HoldReply`]) carried out, and that no reply was given.

mod faults;
mod log;
mod proxy;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use self::faults::{Answer, Fault, Gate, Rule};
pub use self::log::{Request, Target};
use self::proxy::Front;
use crate::pki::{Authority, provider};

/// Proxies that share one log and one list of faults. They end when the recorder is dropped.
#[derive(Default)]
pub struct Recorder {
    log: Arc<log::Log>,
    faults: Arc<faults::Faults>,
    fronts: Mutex<Vec<AbortHandle>>,
}

impl Recorder {
    /// Starts a plain proxy before a Fly; returns its address. Requests through it are logged as coming from the client
    /// `from`. To tell several clients apart, give each a proxy of its own.
    pub fn before_fly(&self, fly: SocketAddr, from: &str) -> SocketAddr {
        self.start(Target::Fly, fly, from, None)
    }

    /// Starts a TLS proxy before an API server; both have certificates of `authority`. Clients must use tokens: the API
    /// server does not see their certificates. `from` is as in [`Recorder::before_fly`].
    pub fn before_kubernetes(&self, api_server: SocketAddr, authority: &Authority, from: &str) -> SocketAddr {
        let tls = (Arc::new(authority.server_config()), Arc::new(client_config(authority)));
        self.start(Target::Kubernetes, api_server, from, Some(tls))
    }

    fn start(
        &self,
        to: Target,
        backend: SocketAddr,
        from: &str,
        tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    ) -> SocketAddr {
        let from = from.to_owned();
        let front = Front { to, from, backend, tls, log: self.log.clone(), faults: self.faults.clone() };
        let (address, task) = front.start();
        self.fronts.lock().expect("no one panics while holding it").push(task);
        address
    }

    /// Replaces all faults.
    pub fn set_faults(&self, rules: impl IntoIterator<Item = Rule>) {
        self.faults.set(rules.into_iter().collect());
    }

    /// Adds a fault behind those that are there.
    pub fn add_fault(&self, rule: Rule) {
        self.faults.add(rule);
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.log.all()
    }

    /// Waits for the `n`-th request (the first is 1) for which `wanted` holds; `None` after `deadline`.
    pub fn wait_for_request(&self, n: usize, deadline: Duration, wanted: impl Fn(&Request) -> bool) -> Option<Request> {
        self.log.wait(deadline, |requests| requests.iter().filter(|request| wanted(request)).nth(n - 1).cloned())
    }

    /// Waits until `found` finds something in the log; `None` after `deadline`.
    pub fn wait_requests<T>(&self, deadline: Duration, found: impl FnMut(&[Request]) -> Option<T>) -> Option<T> {
        self.log.wait(deadline, found)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.fronts.lock().expect("no one panics while holding it").iter().for_each(AbortHandle::abort);
    }
}

fn client_config(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.certificate_pem().as_bytes()) {
        roots.add(certificate.expect("the authority writes PEM")).expect("a certificate that can be a root");
    }
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the protocols")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
