//! Certificates: which servers the client trusts, under which names, and the client's own.

use std::sync::Arc;

use kube_client_lite::{Client, ClientOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::{Directory, config, fixture, kubeconfig, load};

/// A self-signed certificate for these names, and a server's configuration with it.
pub struct Identity {
    pub pem: String,
    pub server: ServerConfig,
}

pub fn identity(names: &[&str], client_authority: Option<&str>) -> Identity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("valid names");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider's own versions");
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(file).expect("a certificate")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a root"))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let server = builder.with_single_cert(vec![made.cert.der().clone()], key).expect("a key of its certificate");
    Identity { pem: made.cert.pem(), server }
}

fn start(server: ServerConfig) -> Server {
    Server::start_tls(Arc::new(server), |_, _| Answer::json("{}"))
}

fn get(cluster: &str, user: &str) -> Result<Value, String> {
    let client =
        Client::new(config(cluster, user), &ClientOptions::new("test/1")).map_err(|error| error.to_string())?;
    client.get("/version").map_err(|error| error.to_string())
}

#[test]
fn a_server_is_known_by_its_authority_and_its_name() {
    let identity = identity(&["127.0.0.1"], None);
    let stranger = self::identity(&["127.0.0.1"], None);
    let directory = Directory::new();
    let authority = directory.file("ca.crt", &identity.pem);
    let wrong_authority = directory.file("other.crt", &stranger.pem);
    let server = start(identity.server);
    let port = server.address().port();
    let address = format!("server: 'https://127.0.0.1:{port}'");

    let trusting = get(&format!("{address}, certificate-authority: {authority}"), "");
    assert!(trusting.is_ok(), "{trusting:?}");
    assert!(get(&format!("{address}, certificate-authority: {wrong_authority}"), "").is_err());
    assert!(get(&address, "").is_err(), "no authority of the public web knows it");
    let by_other_name = get(&format!("server: 'https://localhost:{port}', certificate-authority: {authority}"), "");
    assert!(by_other_name.is_err(), "the certificate has only the address");
    let careless = get(&format!("{address}, insecure-skip-tls-verify: true"), "");
    assert!(careless.is_ok(), "{careless:?}");
}

#[test]
fn a_server_may_go_by_another_name() {
    let identity = identity(&["kubernetes.example"], None);
    let authority = Directory::new();
    let authority_file = authority.file("ca.crt", &identity.pem);
    let server = start(identity.server);
    let cluster = format!("server: 'https://{}', certificate-authority: {authority_file}", server.address());

    assert!(get(&cluster, "").is_err());
    let named = get(&format!("{cluster}, tls-server-name: kubernetes.example"), "");
    assert!(named.is_ok(), "{named:?}");
    assert!(get(&format!("{cluster}, tls-server-name: other.example"), "").is_err());
}

#[test]
fn keys_of_all_three_kinds_open_the_door() {
    let identity = identity(&["127.0.0.1"], Some(&fixture("ca.crt")));
    let directory = Directory::new();
    let authority = directory.file("ca.crt", &identity.pem);
    let server = start(identity.server);
    let cluster = format!("server: 'https://{}', certificate-authority: {authority}", server.address());

    for kind in ["pkcs1", "pkcs8", "sec1"] {
        let certificate = fixture(&format!("{kind}.crt"));
        let key = fixture(&format!("{kind}.key"));
        let known = get(&cluster, &format!("client-certificate: {certificate}, client-key: {key}"));
        assert!(known.is_ok(), "{kind}: {known:?}");
    }
    assert!(get(&cluster, "").is_err(), "a client without a certificate is a stranger");
}

fn refusal(cluster: &str, user: &str) -> String {
    let directory = Directory::new();
    let file = directory.file("config", kubeconfig(cluster, user));
    let result = load(&file).and_then(|config| Client::new(config, &ClientOptions::new("test/1")));
    let message = result.expect_err("a refusal").to_string();
    message.strip_prefix(&format!("{file}: ")).expect("the file is named").to_owned()
}

/// ureq would panic at each of these, or not notice it.
#[test]
fn certificates_and_keys_that_cannot_be_used_are_refused() {
    let directory = Directory::new();
    let empty = directory.file("empty", "");
    let broken = directory.file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let (certificate, key) = (fixture("sec1.crt"), fixture("sec1.key"));
    let other_key = fixture("pkcs8.key");
    let server = "server: 'https://127.0.0.1:1'";

    let table = [
        (
            format!("{server}, certificate-authority: {empty}"),
            String::new(),
            "certificate-authority has no certificate in it",
        ),
        (format!("{server}, certificate-authority: {broken}"), String::new(), "certificate-authority is not usable"),
        (
            server.to_owned(),
            format!("client-certificate: {certificate}, client-key: {other_key}"),
            "client-certificate and client-key cannot be used together",
        ),
        (
            server.to_owned(),
            format!("client-certificate: {certificate}, client-key: {certificate}"),
            "client-key has no private key",
        ),
        (
            server.to_owned(),
            format!("client-certificate: {key}, client-key: {key}"),
            "client-certificate has no certificate in it",
        ),
    ];
    for (cluster, user, expected) in table {
        let message = refusal(&cluster, &user);
        assert!(message.starts_with(expected), "{message}");
    }
}
