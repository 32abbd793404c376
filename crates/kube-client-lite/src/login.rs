//! A login: the token or certificate that one request is sent with. None of it is ever printed.

use std::fmt;

use ureq::tls::ClientCert;

use crate::config::error::ConfigError;
use crate::tls::{self, ClientIdentity};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A client certificate that has been checked.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    pub cert: ClientCert,
    /// The certificates in PEM, by which two logins are told from each other.
    chain: Secret,
}

impl ClientCertificate {
    /// # Errors
    /// The certificate cannot be used.
    pub(crate) fn new(identity: &ClientIdentity) -> Result<ClientCertificate, ConfigError> {
        let chain = Secret::new(String::from_utf8_lossy(&identity.certificates));
        Ok(ClientCertificate { cert: tls::client_cert(identity)?, chain })
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &ClientCertificate) -> bool {
        self.chain == other.chain
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

/// The token or certificate of one request; neither of them for a client that is nobody.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Login {
    /// The bearer token.
    pub token: Option<Secret>,
    /// It is used in place of the certificate of the configuration.
    pub client: Option<ClientCertificate>,
}

impl Login {
    pub(crate) fn with_token(token: Secret) -> Login {
        Login { token: Some(token), client: None }
    }
}
