//! Helpers that the tests of Fly share: a Fly behind a recorder, a client, and the real frpc.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use lab::fly::{Fly, Settings};
use lab::parts::Parts;
use lab::process::{Process, Spawn};
use lab::recorder::Recorder;
use lab::slot::Slot;
use serde_json::{Value, json};

use crate::support::{DEADLINE, wait_for};

/// The one slot that all of these tests share. It is given back when the process ends.
fn slot() -> &'static Arc<Slot> {
    static SLOT: OnceLock<Arc<Slot>> = OnceLock::new();
    SLOT.get_or_init(|| Slot::take().expect("a free slot"))
}

/// A Fly that one test has for itself.
pub struct FlyLab {
    pub fly: Fly,
    pub recorder: Recorder,
    pub address: SocketAddr,
}

/// Fly's answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// Fewer bytes came than its head promised.
    pub cut: bool,
}

impl Answer {
    /// The text of a refusal.
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }

    /// The body of a success.
    #[track_caller]
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }
}

impl FlyLab {
    /// A Fly with real Machines.
    pub fn new(settings: Settings) -> FlyLab {
        FlyLab::with(settings, true)
    }

    /// A Fly whose Machines have states, but no processes.
    pub fn without_traffic(settings: Settings) -> FlyLab {
        FlyLab::with(settings, false)
    }

    fn with(settings: Settings, traffic: bool) -> FlyLab {
        let parts = Parts::get().expect("the parts are built");
        let fly = Fly::start(slot(), parts, traffic, settings);
        let recorder = Recorder::default();
        let address = recorder.before_fly(fly.address(), "");
        FlyLab { fly, recorder, address }
    }

    /// Makes a request with the token of the first organisation. The path follows `/v1`.
    pub fn api(&self, method: &str, path: &str, body: Value) -> Answer {
        self.api_as(self.fly.token(), method, path, body)
    }

    pub fn api_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("Authorization", format!("Bearer {token}"))];
        request(self.address, method, &format!("/v1{path}"), &headers, &body).expect("Fly answers")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.api("GET", path, Value::Null)
    }

    /// Creates an App with a dedicated address.
    pub fn app(&self, name: &str) -> IpAddr {
        self.api("POST", "/apps", json!({"name": name, "org_slug": "personal"})).good();
        let address = self.api("POST", &format!("/apps/{name}/ip_assignments"), json!({"type": "v4"})).good();
        address["ip"].as_str().and_then(|ip| ip.parse().ok()).expect("an address")
    }

    /// Creates a Machine.
    #[track_caller]
    pub fn machine(&self, app: &str, name: &str, config: Value) -> String {
        let body = json!({"name": name, "region": "ord", "config": config});
        let machine = self.api("POST", &format!("/apps/{app}/machines"), body).good();
        machine["id"].as_str().expect("an ID").to_owned()
    }

    #[track_caller]
    pub fn wait(&self, app: &str, machine: &str, state: &str) {
        self.get(&format!("/apps/{app}/machines/{machine}/wait?state={state}&timeout=60")).good();
    }

    /// The status of each check of a Machine, in order.
    pub fn checks(&self, app: &str, machine: &str) -> Vec<String> {
        let machine = self.get(&format!("/apps/{app}/machines/{machine}")).good();
        let checks = machine["checks"].as_array().expect("checks").iter();
        checks.map(|check| check["status"].as_str().expect("a status").to_owned()).collect()
    }

    /// Waits until the edge passes connections to this port on to these Machines, and to no other.
    #[track_caller]
    pub fn wait_edge(&self, app: &str, port: u16, machines: &[&str]) {
        let seen = || {
            let mut seen = self.fly.machines_at_edge(app, port);
            seen.sort();
            seen
        };
        let mut wanted = machines.to_vec();
        wanted.sort();
        wait_for(|| (seen() == wanted).then_some(()), || format!("{wanted:?} at the edge, but {:?}", seen()));
    }

    #[track_caller]
    pub fn wait_checks(&self, app: &str, machine: &str, statuses: &[&str]) {
        let seen = || self.checks(app, machine);
        wait_for(|| (seen() == statuses).then_some(()), || format!("{statuses:?}, but {:?}", seen()));
    }
}

/// The settings of a quick Fly without rate limits, so that tests look as often as they like.
pub fn quick() -> Settings {
    Settings { machine_boot: Duration::from_millis(100), rate_limits: false, ..Settings::default() }
}

/// The smallest config that Fly takes.
pub fn small() -> Value {
    json!({"image": "snowdreamtech/frps:0.61.1"})
}

/// The config of a Machine that runs frps with a control port, and a service with a check for each of the users' ports.
pub fn frps(control_port: u16, ports: &[u16]) -> Value {
    let service = |port: &u16, checks: Value| json!({"protocol": "tcp", "internal_port": port, "ports": [{"port": port}], "checks": checks});
    let check = |port: &u16| json!([{"type": "tcp", "port": port, "interval": "1s", "timeout": "2s"}]);
    let services = ports.iter().map(|port| service(port, check(port)));
    let services: Vec<Value> = [service(&control_port, json!([]))].into_iter().chain(services).collect();
    // A user waits for a connection of frpc's for 10 s by default, which is too short on a busy machine.
    let text = format!(
        "bindPort = {control_port}\nauth.token = \"t\"\ntransport.tcpMux = false\nuserConnTimeout = {}\n",
        DEADLINE.as_secs()
    );
    json!({
        "image": "snowdreamtech/frps:0.61.1",
        "restart": {"policy": "always"},
        "files": [{"guest_path": "/etc/frp/frps.toml", "raw_value": base64(text.as_bytes()), "mode": 0o600}],
        "services": services,
    })
}

pub fn base64(content: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(content)
}

/// A running frpc, the real one.
pub struct Frpc {
    _process: Process,
}

impl Frpc {
    /// Starts an frpc that dials the control port at a public address. Each of `ports` leads to `backend`.
    pub fn start(public: IpAddr, control_port: u16, ports: &[u16], backend: SocketAddr) -> Frpc {
        let proxies = ports.iter().map(|port| proxy("tcp", *port, backend));
        Frpc::run(public, control_port, "transport.tcpMux = false", &proxies.collect::<String>())
    }

    /// Starts an frpc for one UDP port, with a multiplexed connection, as frps has it by default.
    pub fn start_udp(public: IpAddr, control_port: u16, port: u16, backend: SocketAddr) -> Frpc {
        Frpc::run(public, control_port, "", &proxy("udp", port, backend))
    }

    fn run(public: IpAddr, control_port: u16, transport: &str, proxies: &str) -> Frpc {
        let text = format!(
            "serverAddr = \"{public}\"\nserverPort = {control_port}\nauth.token = \"t\"\nloginFailExit = false\n\
             {transport}\n{proxies}"
        );
        let name = format!("frpc-{public}-{control_port}");
        let file = slot().directory().join(format!("{name}.toml"));
        std::fs::write(&file, text).expect("writable");
        let process = Process::spawn(Spawn {
            program: Parts::get().expect("built").frp.frpc.clone(),
            argv0: None,
            args: vec!["-c".to_owned(), file.display().to_string()],
            env: Vec::new(),
            dir: slot().directory().to_owned(),
            log: slot().directory().join(format!("{name}.log")),
        });
        Frpc { _process: process.expect("frpc starts") }
    }
}

fn proxy(kind: &str, port: u16, backend: SocketAddr) -> String {
    format!(
        "[[proxies]]\nname = \"p{port}\"\ntype = \"{kind}\"\nlocalIP = \"{}\"\nlocalPort = {}\nremotePort = {port}\n",
        backend.ip(),
        backend.port()
    )
}

/// A backend that answers each HTTP request with its name, and adds in brackets the text that came before the request.
pub fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut got = Vec::new();
                let mut buffer = [0; 4096];
                while !got.ends_with(b"\r\n\r\n") {
                    match client.read(&mut buffer) {
                        Ok(length) if length > 0 => got.extend(&buffer[..length]),
                        _ => return,
                    }
                }
                let before = String::from_utf8_lossy(&got).split("GET ").next().unwrap_or_default().trim().to_owned();
                let body = if before.is_empty() { name.to_owned() } else { format!("{name} [{before}]") };
                let _ = write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            });
        }
    });
    address
}

/// Makes an HTTP/1 request. An answer whose body is empty or no JSON reads as null.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &Value,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: fly\r\nConnection: close\r\nUser-Agent: test/1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{text}Content-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let closed = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(closed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(closed)?;
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let length =
        length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).find_map(|(_, n)| n.parse().ok());
    let cut = length.is_some_and(|length: usize| body.len() < length);
    Ok(Answer { status, body: serde_json::from_str(body).unwrap_or_default(), cut })
}
