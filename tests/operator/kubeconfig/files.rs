//! The files that kubeconfigs refer to: certificates and keys of all kinds, a token, a plugin.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lab::cluster::Cluster;
use lab::homelab::Homelab;
use lab::pki::Authority;
use lab::process::write_script;
use serde_json::{Value, json};

use super::relay::Relay;

/// A folder with `ca.crt`, `token`, `{pkcs8,pkcs1,sec1,stranger}.{crt,key}` and `bin/plugin`. The certificates are
/// those of users called `pkcs8-user` and so on; the cluster does not know the authority of `stranger`.
pub struct Files {
    lab: Homelab,
    /// The API server at an address that its certificate does not have.
    elsewhere: Relay,
    proxy: Relay,
    socks: Relay,
}

impl Files {
    pub fn new(cluster: &Cluster) -> Files {
        let server = cluster.api_server();
        let files =
            Files { lab: Homelab::new(), elsewhere: Relay::to(server), proxy: Relay::proxy(), socks: Relay::socks() };
        files.write("ca.crt", cluster.authority().certificate_pem());
        files.write("token", cluster.admin_token());
        for kind in ["pkcs8", "pkcs1", "sec1"] {
            let key = fixture(&format!("{kind}.key"));
            let user = format!("{kind}-user");
            files
                .write(&format!("{kind}.crt"), cluster.authority().client_with_pem_key(&user, "testers", &pkcs8(&key)));
            files.write(&format!("{kind}.key"), key);
        }
        let (certificate, key) = Authority::new().client("stranger", "testers");
        files.write("stranger.crt", certificate);
        files.write("stranger.key", key);
        std::fs::create_dir(files.directory().join("bin")).expect("a folder");
        write_script(&files.directory().join("bin/plugin"), "#!/bin/sh\nexec cat \"$@\"\n")
            .expect("a folder of our own");
        files
    }

    pub fn directory(&self) -> &Path {
        self.lab.directory()
    }

    /// Writes a file, and gives its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.directory().join(name);
        std::fs::write(&path, text).expect("a folder of our own");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory().join(name)).expect("a file of ours")
    }

    pub fn admin_token(&self) -> &str {
        self.lab.cluster().admin_token()
    }

    /// The entry for the cluster in a kubeconfig.
    pub fn cluster(&self) -> Value {
        json!({"server": format!("https://{}", self.lab.cluster().api_server()), "certificate-authority": "ca.crt"})
    }

    /// The entry for the cluster with other or more settings. A setting that is null is taken away.
    pub fn cluster_with(&self, settings: Value) -> Value {
        let mut cluster = self.cluster();
        for (name, value) in settings.as_object().expect("an object") {
            cluster[name] = value.clone();
        }
        cluster
    }

    /// The cluster's URL at 127.0.0.2, an address that its certificate does not have.
    pub fn elsewhere(&self) -> String {
        format!("https://{}", self.elsewhere.address())
    }

    pub fn api_server(&self) -> std::net::SocketAddr {
        self.lab.cluster().api_server()
    }

    pub fn proxy(&self) -> &Relay {
        &self.proxy
    }

    pub fn socks(&self) -> &Relay {
        &self.socks
    }

    /// A kubeconfig of this user.
    pub fn kubeconfig(&self, user: &Value) -> Value {
        kubeconfig(&self.cluster(), user)
    }

    /// A kubeconfig of the administrator, for a cluster with these settings.
    pub fn kubeconfig_with(&self, settings: Value) -> Value {
        kubeconfig(&self.cluster_with(settings), &json!({"token": self.admin_token()}))
    }
}

/// A kubeconfig with this cluster and this user. It is JSON, which is YAML as well.
pub fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    })
}

/// The output of a plugin.
pub fn exec_credential(version: &str, status: Value) -> Value {
    json!({"kind": "ExecCredential", "apiVersion": version, "status": status})
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/kube-client-lite/tests/fixtures").join(name);
    std::fs::read_to_string(path).expect("a fixture")
}

/// A private key of any kind in the one form in which certificates are made from it (RFC 5208).
fn pkcs8(pem: &str) -> String {
    // rsaEncryption with its NULL; id-ecPublicKey with prime256v1.
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let algorithm = match pem.lines().next() {
        Some("-----BEGIN RSA PRIVATE KEY-----") => RSA,
        Some("-----BEGIN EC PRIVATE KEY-----") => P256,
        _ => return pem.to_owned(),
    };
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD.decode(base64).expect("base64");
    let version = b"\x02\x01\x00".to_vec();
    let der = tagged(0x30, &[version, algorithm.to_vec(), tagged(0x04, &key)].concat());
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

/// An element of DER: tag, length and content, which is shorter than 64 KiB.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("a short content").to_be_bytes();
    let length = match (high, low) {
        (0, 0..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [vec![tag], length, content.to_vec()].concat()
}
