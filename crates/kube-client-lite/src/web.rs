//! The certificate authorities of the public web, as the system has them.

use std::sync::Arc;
use std::{env, fs};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Systems keep the authorities in one of these files (Go looks for them in the same places, `crypto/x509/root_linux.go`).
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, distroless
    "/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora
    "/etc/ssl/ca-bundle.pem",                            // openSUSE
    "/etc/pki/tls/cacert.pem",                           // OpenELEC
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
    "/etc/ssl/cert.pem",                                 // macOS, BSD
];

/// The settings of TLS for a server of the public web, for your own agents of ureq: its certificate must lead to an authority in the file
/// that the variable `SSL_CERT_FILE` names, or else in the file where the system keeps them. `None`: there is no such file, or no
/// certificate in it.
pub fn web_tls() -> Option<TlsConfig> {
    let files = env::var("SSL_CERT_FILE").map_or_else(|_| FILES.map(str::to_owned).to_vec(), |file| vec![file]);
    let authorities = files.iter().find_map(|file| read(file))?;
    let roots = RootCerts::new_with_certs(&authorities);
    Some(
        TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(Arc::new(default_provider())).build(),
    )
}

/// A file has more than a hundred certificates. One that cannot be read is passed over.
fn read(file: &str) -> Option<Vec<Certificate<'static>>> {
    let text = fs::read(file).ok()?;
    let certificates = CertificateDer::pem_slice_iter(&text).flatten();
    let authorities: Vec<_> = certificates.map(|der| Certificate::from_der(&der).to_owned()).collect();
    (!authorities.is_empty()).then_some(authorities)
}
