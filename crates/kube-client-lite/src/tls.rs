//! Certificates: by which the server proves itself, and the client.
//!
//! Everything is checked before ureq sees it: a key that does not fit its certificate makes
//! ureq panic, and ureq drops an authority that it cannot read without a word.
//!
//! An agent of ureq has one setting of TLS. The certificate of the client may change while the rest stays: see
//! `agents.rs`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::config::error::ConfigError;
use crate::web::web_tls;

/// The settings of TLS in a configuration. Certificates and keys are in PEM.
#[derive(Default)]
pub(crate) struct TlsSettings {
    /// The files that the settings come from, for messages.
    pub origin: String,
    /// The authorities that may sign the certificate of the server; `None`: those that the system has for the public web.
    pub authorities: Option<Vec<u8>>,
    pub client: Option<ClientIdentity>,
    /// Any server is taken for the right one.
    pub insecure: bool,
}

/// A client certificate with its chain, and its key (PKCS#8, PKCS#1 or SEC1), in PEM.
pub(crate) struct ClientIdentity {
    pub certificates: Vec<u8>,
    pub key: Vec<u8>,
    /// The files that they are from. What has no file stays as it is.
    pub files: IdentityFiles,
}

#[derive(Clone, Default)]
pub(crate) struct IdentityFiles {
    pub certificates: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("origin", &self.origin)
            .field("authorities", &self.authorities.is_some())
            .field("client", &self.client.is_some())
            .field("insecure", &self.insecure)
            .finish()
    }
}

/// How the server must prove itself.
pub(crate) struct Trust {
    roots: RootCerts,
    provider: Arc<CryptoProvider>,
    insecure: bool,
}

impl Trust {
    /// # Errors
    /// An authority cannot be used. The message has the name of the setting in the kubeconfig.
    pub fn new(settings: &TlsSettings) -> Result<Trust, ConfigError> {
        let roots = match &settings.authorities {
            Some(pem) => RootCerts::new_with_certs(&authorities(pem)?),
            // Without any, no server can prove itself.
            None => web_tls().map_or_else(|| RootCerts::new_with_certs(&[]), |web| web.root_certs().clone()),
        };
        Ok(Trust { roots, provider: Arc::new(default_provider()), insecure: settings.insecure })
    }

    /// The setting of ureq for a client with this certificate.
    pub fn tls_config(&self, client: Option<ClientCert>) -> TlsConfig {
        TlsConfig::builder()
            .root_certs(self.roots.clone())
            .unversioned_rustls_crypto_provider(Arc::clone(&self.provider))
            .client_cert(client)
            .disable_verification(self.insecure)
            .build()
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let certificates = certificates(pem, "certificate-authority")?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| ConfigError::invalid(format!("certificate-authority is not usable: {error}")))?;
    }
    Ok(to_ureq(&certificates))
}

/// The certificate of the client, as ureq takes it.
///
/// # Errors
/// Certificate or key cannot be used. The message has the name of the setting in the kubeconfig.
pub(crate) fn client_cert(identity: &ClientIdentity) -> Result<ClientCert, ConfigError> {
    let chain = certificates(&identity.certificates, "client-certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|error| ConfigError::invalid(format!("client-key has no private key: {error}")))?;
    let ureq_chain = to_ureq(&chain);
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
        ConfigError::invalid(format!("client-certificate and client-key cannot be used together: {error}"))
    })?;
    let key = PrivateKey::from_pem(&identity.key)
        .map_err(|error| ConfigError::invalid(format!("client-key is not usable: {error}")))?;
    Ok(ClientCert::new_with_certs(&ureq_chain, key))
}

/// All certificates of a PEM text. There must be one at least.
fn certificates(pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ConfigError::invalid(format!("{setting} is no PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(ConfigError::invalid(format!("{setting} has no certificate in it")));
    }
    Ok(certificates)
}

fn to_ureq(certificates: &[CertificateDer]) -> Vec<Certificate<'static>> {
    certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}
