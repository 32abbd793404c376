//! The kube-proxy of the lab. It listens on each ClusterIP and port that has a ready endpoint, and forwards to the
//! endpoints in turn. Without a ready endpoint nobody listens, so a connection is refused, as with kube-proxy.
//!
//! ClusterIPs and pods are loopback addresses, so this needs neither firewall rules nor root.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

use super::client::Client;
use super::pod::loopback_address;
use super::watch::{Change, follow};

/// A UDP flow that has been silent for this long is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(30);
/// The pause between two attempts to bind: the address may be in use for a moment longer.
const BIND_RETRY: Duration = Duration::from_millis(50);
const BUFFER: usize = 64 << 10;

/// Serves all Services of the cluster, for ever.
pub(crate) async fn run(client: Client) {
    let tables = Mutex::new(Tables::default());
    let see = |change: Change, kind: fn(&mut Tables, &Value, bool) -> Option<ServiceName>| {
        let mut tables = tables.lock().expect("no one panics while holding it");
        let service = match &change {
            Change::Set(object) => kind(&mut tables, object, true),
            Change::Gone(object) => kind(&mut tables, object, false),
        };
        if let Some(service) = service {
            tables.listen(&service);
        }
    };
    tokio::join!(
        follow(client.clone(), "/api/v1/services", |change| see(change, Tables::see_service)),
        follow(client.clone(), "/apis/discovery.k8s.io/v1/endpointslices", |change| see(change, Tables::see_slice)),
    );
}

/// The namespace and the name of a Service.
type ServiceName = (String, String);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Protocol {
    Tcp,
    Udp,
}

/// The address and the protocol of a Service's port.
type Frontend = (SocketAddr, Protocol);

struct Slice {
    service: ServiceName,
    /// The endpoints' ports, by the name of the Service's port.
    ports: Vec<(String, u16)>,
    ready: Vec<Ipv4Addr>,
}

#[derive(Default)]
struct Tables {
    /// The frontends of each Service, each with the name of its port, by which its endpoints are found.
    services: HashMap<ServiceName, Vec<(Frontend, String)>>,
    /// The EndpointSlices, by uid.
    slices: HashMap<String, Slice>,
    listeners: HashMap<Frontend, Listener>,
}

struct Listener {
    service: ServiceName,
    backends: Arc<Backends>,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tables {
    fn see_service(&mut self, object: &Value, is_there: bool) -> Option<ServiceName> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let name = (text("namespace"), text("name"));
        let ip = object["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        match ip {
            Some(ip) if is_there => {
                let ports = array(&object["spec"]["ports"]).filter_map(|port| {
                    let frontend = (SocketAddr::from((ip, number(&port["port"])?)), protocol(&port["protocol"])?);
                    Some((frontend, port["name"].as_str().unwrap_or_default().to_owned()))
                });
                self.services.insert(name.clone(), ports.collect());
            }
            _ => {
                self.services.remove(&name);
            }
        }
        Some(name)
    }

    fn see_slice(&mut self, object: &Value, is_there: bool) -> Option<ServiceName> {
        let metadata = &object["metadata"];
        let service = metadata["labels"]["kubernetes.io/service-name"].as_str()?.to_owned();
        let service = (metadata["namespace"].as_str()?.to_owned(), service);
        let uid = metadata["uid"].as_str()?.to_owned();
        if !is_there {
            self.slices.remove(&uid);
            return Some(service);
        }
        let ports = array(&object["ports"]).filter_map(|port| {
            let name = port["name"].as_str().unwrap_or_default().to_owned();
            Some((name, number(&port["port"])?))
        });
        let is_ready = |endpoint: &&Value| endpoint["conditions"]["ready"].as_bool() != Some(false);
        let addresses = array(&object["endpoints"]).filter(is_ready).flat_map(|endpoint| array(&endpoint["addresses"]));
        let ready = addresses.filter_map(|address| address.as_str()?.parse().ok());
        let slice = Slice { service: service.clone(), ports: ports.collect(), ready: ready.collect() };
        self.slices.insert(uid, slice);
        Some(service)
    }

    /// Opens, changes and closes the listeners of one Service. Connections that are under way go on.
    fn listen(&mut self, service: &ServiceName) {
        let mut wanted = HashMap::new();
        for (frontend, port) in self.services.get(service).into_iter().flatten() {
            let slices = self.slices.values().filter(|slice| slice.service == *service);
            let mut backends: Vec<SocketAddr> = Vec::new();
            for slice in slices {
                let port = slice.ports.iter().find(|(name, _)| name == port);
                backends.extend(
                    port.iter().flat_map(|(_, port)| slice.ready.iter().map(|ip| loopback_address(*ip, *port))),
                );
            }
            if !backends.is_empty() {
                wanted.insert(*frontend, backends);
            }
        }
        self.listeners.retain(|frontend, listener| listener.service != *service || wanted.contains_key(frontend));
        for (frontend, addresses) in wanted {
            if let Some(listener) = self.listeners.get(&frontend) {
                listener.backends.set(addresses);
                continue;
            }
            let backends = Arc::new(Backends::default());
            backends.set(addresses);
            let task = match frontend {
                (address, Protocol::Tcp) => tokio::spawn(serve_tcp(address, backends.clone())),
                (address, Protocol::Udp) => tokio::spawn(serve_udp(address, backends.clone())),
            };
            let listener = Listener { service: service.clone(), backends, task: task.abort_handle() };
            self.listeners.insert(frontend, listener);
        }
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok()
}

fn protocol(value: &Value) -> Option<Protocol> {
    match value.as_str() {
        Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        _ => None,
    }
}

/// The ready endpoints of one port, taken in turn.
#[derive(Default)]
struct Backends {
    addresses: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Backends {
    fn set(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().expect("no one panics while holding it") = addresses;
    }

    /// All endpoints, beginning with the one whose turn it is.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.lock().expect("no one panics while holding it").clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(turn);
        addresses
    }
}

async fn serve_tcp(address: SocketAddr, backends: Arc<Backends>) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(BIND_RETRY).await,
        }
    };
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(forward(client, backends.in_turn()));
    }
}

/// Connects a client to the first backend that takes it.
async fn forward(mut client: TcpStream, backends: Vec<SocketAddr>) {
    for backend in backends {
        let Ok(mut backend) = TcpStream::connect(backend).await else { continue };
        let _ = (client.set_nodelay(true), backend.set_nodelay(true));
        let copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await;
        if copied.is_ok() {
            return;
        }
        // One side was reset, so reset the other.
        let _ = backend.set_zero_linger();
        break;
    }
    let _ = client.set_zero_linger();
}

async fn serve_udp(address: SocketAddr, backends: Arc<Backends>) {
    let socket = loop {
        match UdpSocket::bind(address).await {
            Ok(socket) => break Arc::new(socket),
            Err(_) => tokio::time::sleep(BIND_RETRY).await,
        }
    };
    let mut flows: HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)> = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        flows.retain(|_, (_, answers)| !answers.is_finished());
        let flow = match flows.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Some(backend) = backends.in_turn().first().copied() else { continue };
                let Ok(flow) = connect_udp(backend).await else { continue };
                let answers = tokio::spawn(return_answers(flow.clone(), socket.clone(), client));
                new.insert((flow, answers.abort_handle()))
            }
        };
        let _ = flow.0.send(&buffer[..length]).await;
    }
}

async fn connect_udp(backend: SocketAddr) -> std::io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(backend).await?;
    Ok(Arc::new(socket))
}

/// Passes answers on to the client. It ends when the backend is silent for too long or is gone, so that the client's
/// next datagram goes to a new backend.
async fn return_answers(flow: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(Ok(length)) = tokio::time::timeout(UDP_IDLE, flow.recv(&mut buffer)).await {
        let _ = socket.send_to(&buffer[..length], client).await;
    }
}
