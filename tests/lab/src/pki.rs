//! The lab's certificate authority. It signs for the API server, for the recorders and for clients. Pods trust it
//! because of the ConfigMap `kube-root-ca.crt`, people because of the kubeconfig.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority with a key of its own, made afresh for each lab.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    #[expect(clippy::new_without_default, reason = "it makes a new key each time, so no two are equal")]
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fly-tunnel-operator lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        Authority { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A server's certificate for these DNS names and IP addresses, and its key (PKCS#8), both PEM.
    pub fn server(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names are valid DNS names or IP addresses");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "fly-tunnel-operator lab server");
        let key = new_key();
        (self.sign(params, ExtendedKeyUsagePurpose::ServerAuth, &key), key.serialize_pem())
    }

    /// The TLS configuration of a server of the lab, with a certificate for loopback and `kubernetes.default.svc`.
    pub(crate) fn server_config(&self) -> ServerConfig {
        let (certificate, key) = self.server(&["127.0.0.1", "localhost", "kubernetes.default.svc"]);
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the protocols")
            .with_no_client_auth()
            .with_single_cert(chain.expect("this is PEM"), key.expect("this is PEM"))
            .expect("the key is the certificate's")
    }

    /// A client's certificate, which the API server takes for this user and group, and its key (PKCS#8), both PEM.
    pub fn client(&self, user: &str, group: &str) -> (String, String) {
        let key = new_key();
        (self.client_with_key(user, group, &key), key.serialize_pem())
    }

    /// The same certificate, for a key that exists already (PKCS#8 in PEM, of any kind).
    pub fn client_with_pem_key(&self, user: &str, group: &str, key_pem: &str) -> String {
        self.client_with_key(user, group, &KeyPair::from_pem(key_pem).expect("a private key"))
    }

    fn client_with_key(&self, user: &str, group: &str, key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth, key)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, key: &KeyPair) -> String {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).expect("the parameters are complete").pem()
    }
}

/// The cryptography that all TLS in the lab uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A new P-256 key.
pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
