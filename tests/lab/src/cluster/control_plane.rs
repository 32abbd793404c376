//! A real control plane on loopback: etcd, API server (RBAC on), controller manager and scheduler.
//!
//! The certificates are from the lab's own authority, so that pods and people trust both the API server and the recorders.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use crate::pki::{Authority, new_key};
use crate::process::{Process, Spawn, tail};
use crate::runtime;
use crate::slot::Slot;

/// The deadline for the control plane to be ready. It is generous: two free cores need 4 s.
const READY_DEADLINE: Duration = Duration::from_secs(90);
/// How often a start is tried: somebody else may take a port between our look and the start.
const ATTEMPTS: usize = 3;

/// The four processes of the control plane. They end when it is dropped.
pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    pub(crate) admin_token: String,
    /// The kubeconfig of an administrator, straight to the API server, for people and programs outside of the cluster.
    pub(crate) kubeconfig: PathBuf,
    _processes: Vec<Process>,
}

impl ControlPlane {
    /// Starts the control plane and waits until the API server is ready.
    ///
    /// # Errors
    /// A part ends, or is not ready in time. The message has the last lines of its log.
    pub(crate) fn start(slot: &Slot, authority: &Authority, bin: &Path) -> io::Result<ControlPlane> {
        let files = Files::write(slot, authority)?;
        let starter = Starter { bin, files: &files, logs: slot.directory().join("logs") };
        fs::create_dir_all(&starter.logs)?;
        let mut attempt = 1;
        let (address, mut processes) = loop {
            match starter.api_server(slot) {
                Ok(started) => break started,
                Err(error) if attempt < ATTEMPTS && error.kind() == io::ErrorKind::AddrInUse => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let kubeconfig = files.write_kubeconfig("admin.kubeconfig", address)?;
        processes.extend(starter.controllers(&kubeconfig)?);
        Ok(ControlPlane { address, admin_token: files.admin_token, kubeconfig, _processes: processes })
    }
}

/// A kubeconfig (JSON is YAML) for one user of the cluster. `user` has its credentials.
pub fn kubeconfig(server: SocketAddr, ca_pem: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": format!("https://{server}"),
            "certificate-authority-data": base64(ca_pem),
        }}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The files that the processes read.
struct Files {
    dir: PathBuf,
    ca_pem: String,
    admin_token: String,
}

impl Files {
    fn write(slot: &Slot, authority: &Authority) -> io::Result<Files> {
        let dir = slot.directory().join("control-plane");
        fs::create_dir_all(&dir)?;
        let ca_pem = authority.certificate_pem().to_owned();
        let service_ip = slot.first_cluster_ip().to_string();
        let names =
            ["127.0.0.1", "localhost", &service_ip, "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let (certificate, key) = authority.server(&names);
        let signing_key = new_key();
        let admin_token = random_token();
        for (name, content) in [
            ("ca.crt", &ca_pem),
            ("apiserver.crt", &certificate),
            ("apiserver.key", &key),
            ("sa.key", &signing_key.serialize_pem()),
            ("sa.pub", &signing_key.public_key_pem()),
            ("tokens.csv", &format!("{admin_token},admin,admin,system:masters\n")),
        ] {
            fs::write(dir.join(name), content)?;
        }
        Ok(Files { dir, ca_pem, admin_token })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write_kubeconfig(&self, name: &str, server: SocketAddr) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, kubeconfig(server, &self.ca_pem, &json!({"token": self.admin_token})).to_string())?;
        Ok(path)
    }
}

struct Starter<'a> {
    bin: &'a Path,
    files: &'a Files,
    logs: PathBuf,
}

impl Starter<'_> {
    /// Starts etcd and the API server, and waits until they are ready. The error is `AddrInUse` if a port was taken
    /// meanwhile.
    fn api_server(&self, slot: &Slot) -> io::Result<(SocketAddr, Vec<Process>)> {
        let [clients_port, peers_port, secure] = free_ports()?;
        let data = self.files.dir.join(format!("etcd-{clients_port}"));
        let peers = format!("http://127.0.0.1:{peers_port}");
        let clients = format!("http://127.0.0.1:{clients_port}");
        let etcd = self.start(
            "etcd",
            &[
                ("data-dir", &data.display().to_string()),
                ("listen-client-urls", &clients),
                ("advertise-client-urls", &clients),
                ("listen-peer-urls", &peers),
                ("initial-advertise-peer-urls", &peers),
                ("initial-cluster", &format!("default={peers}")),
                // The data need not survive a crash: it ends with the lab.
                ("unsafe-no-fsync", "true"),
                ("log-level", "error"),
            ],
        )?;
        let mut processes = vec![("etcd", etcd)];
        // The API server gives up on an etcd that does not answer for 20 s, as one on a busy machine may.
        let etcd_address = SocketAddr::from((Ipv4Addr::LOCALHOST, clients_port));
        self.wait_until(&mut processes, || TcpStream::connect(etcd_address))?;
        let files = self.files;
        let api_server = self.start(
            "kube-apiserver",
            &[
                ("etcd-servers", &clients),
                ("secure-port", &secure.to_string()),
                ("bind-address", "127.0.0.1"),
                ("advertise-address", "127.0.0.1"),
                ("tls-cert-file", &files.path("apiserver.crt")),
                ("tls-private-key-file", &files.path("apiserver.key")),
                ("client-ca-file", &files.path("ca.crt")),
                ("service-account-key-file", &files.path("sa.pub")),
                ("service-account-signing-key-file", &files.path("sa.key")),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("token-auth-file", &files.path("tokens.csv")),
                ("authorization-mode", "RBAC"),
                ("service-cluster-ip-range", &slot.cluster_ips()),
                ("allow-privileged", "true"),
                // A node of the lab is reachable at its ExternalIP only.
                ("kubelet-preferred-address-types", "ExternalIP"),
            ],
        )?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, secure));
        processes.insert(0, ("kube-apiserver", api_server));
        let client = Client::new(address, &files.ca_pem, &files.admin_token);
        self.wait_until(&mut processes, || runtime().block_on(client.text("/readyz")))?;
        // They are dropped in this order: the API server ends before its etcd.
        Ok((address, processes.into_iter().map(|(_, process)| process).collect()))
    }

    /// Starts the controller manager and the scheduler. The API server must be ready: the controller manager waits for
    /// it for ten seconds only.
    fn controllers(&self, kubeconfig: &Path) -> io::Result<[Process; 2]> {
        let files = self.files;
        let kubeconfig = kubeconfig.display().to_string();
        let manager = self.start(
            "kube-controller-manager",
            &[
                ("kubeconfig", &kubeconfig),
                ("service-account-private-key-file", &files.path("sa.key")),
                ("root-ca-file", &files.path("ca.crt")),
                ("leader-elect", "false"),
                ("secure-port", "0"),
                // The default limits would delay a thousand Deployments for minutes.
                ("kube-api-qps", "500"),
                ("kube-api-burst", "1000"),
                // The default of 50 s is long for a test. Nodes of the lab renew every two seconds. On a busy machine the API
                // server stalls for 8 s and more, and pods of a node that is taken for lost get no connections.
                ("node-monitor-grace-period", "24s"),
                ("node-monitor-period", "1s"),
            ],
        )?;
        let configuration = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig, "qps": 500, "burst": 1000},
            "leaderElection": {"leaderElect": false},
        });
        fs::write(files.dir.join("scheduler.json"), configuration.to_string())?;
        let scheduler =
            self.start("kube-scheduler", &[("config", &files.path("scheduler.json")), ("secure-port", "0")])?;
        Ok([manager, scheduler])
    }

    fn start(&self, name: &str, flags: &[(&str, &str)]) -> io::Result<Process> {
        Process::spawn(Spawn {
            program: self.bin.join(name),
            argv0: None,
            args: flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect(),
            env: Vec::new(),
            dir: self.files.dir.clone(),
            log: self.log(name),
        })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Waits until `look` succeeds. The error tells which of the processes ended, or what `look` failed with last, and
    /// the last lines of the logs.
    fn wait_until<T, E: Debug>(
        &self,
        processes: &mut [(&str, Process)],
        look: impl Fn() -> Result<T, E>,
    ) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let Err(error) = look() else { return Ok(()) };
            for (name, process) in processes.iter_mut() {
                if let Some(status) = process.exit_status() {
                    let log = tail(&self.log(name), 20);
                    let taken = log.contains("address already in use");
                    let kind = if taken { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
                    return Err(io::Error::new(kind, format!("{name} ended ({status}):\n{log}")));
                }
            }
            if start.elapsed() > READY_DEADLINE {
                let logs = processes.iter().map(|(name, _)| format!("{name}:\n{}\n", tail(&self.log(name), 20)));
                let logs: String = logs.collect();
                return Err(io::Error::other(format!("not ready after {READY_DEADLINE:?}: {error:?}\n{logs}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Different ports of 127.0.0.1 on which nobody listens right now.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A token of 128 random bits, in hexadecimal.
fn random_token() -> String {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
