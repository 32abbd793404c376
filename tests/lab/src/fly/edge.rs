//! Fly's edge: it listens on each App's dedicated IPv4, at every external port of the App's Machines, and passes
//! connections on to Machines that expose the port.
//!
//! A Machine takes part while it is started, not cordoned, on a host that answers, and the checks *of that service*
//! pass. The edge's knowledge of that is some time old: `edge_delay` for users, `control_edge_delay` for the service on
//! which frps listens for its clients, since an frpc in a homelab and a user somewhere reach different edges. If there
//! is no Machine for a connection, the connection waits for one; if a Machine refuses it, another is tried. Once
//! established it lives until either side ends it, whatever becomes of checks and cordons.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::state::{App, Machine, ServiceState};
use super::types::{AddressType, Protocol, ProxyProtoVersion};
use super::{Settings, Shared, proxy_protocol, udp};

/// How long a connection waits for a Machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause after which a waiting connection looks for a Machine again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// The time that a Machine has to accept a connection. Then it counts as refused, and is tried again after all others.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The size of the buffer for each direction of a connection, in bytes.
const BUFFER: usize = 64 * 1024;
const BACKLOG: u32 = 4096;

/// A place at which an edge listens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Listener {
    protocol: Protocol,
    address: Ipv4Addr,
    port: u16,
}

/// The listeners of one Fly; dropping them ends them and all their connections.
#[derive(Default)]
pub(super) struct Edge {
    listeners: Mutex<HashMap<Listener, JoinSet<()>>>,
    /// A count of connections, by which Machines that are equally busy take turns.
    turn: AtomicUsize,
    /// For each port, how many connections found no Machine at first.
    kept_waiting: Mutex<HashMap<u16, usize>>,
}

impl Edge {
    /// Opens and closes listeners until they match the world.
    pub(super) fn look(&self, shared: &Arc<Shared>) {
        // Lock before reading the world: otherwise two threads that look at once could undo each other's changes.
        let mut listeners = self.listeners.lock().expect("no one panics while holding it");
        let wanted = wanted(shared);
        listeners.retain(|listener, _| wanted.contains_key(listener));
        for (listener, app) in wanted {
            if listeners.contains_key(&listener) {
                continue;
            }
            match open(listener, app, Arc::downgrade(shared)) {
                Ok(tasks) => {
                    listeners.insert(listener, tasks);
                }
                Err(error) => {
                    eprintln!("lab: the edge cannot listen on {}:{}: {error}", listener.address, listener.port)
                }
            }
        }
    }

    /// How many connections to this port, of any App, found no Machine at first and had to wait for one.
    pub(super) fn kept_waiting(&self, port: u16) -> usize {
        self.kept_waiting.lock().expect("no one panics while holding it").get(&port).copied().unwrap_or_default()
    }

    /// Ends all listeners and connections.
    pub(super) fn close(&self) {
        self.listeners.lock().expect("no one panics while holding it").clear();
    }
}

/// Every place where the edge has to listen, and the App that it leads to.
fn wanted(shared: &Shared) -> HashMap<Listener, String> {
    let world = shared.world();
    let mut wanted = HashMap::new();
    for app in world.apps.values() {
        for address in app.addresses.iter().filter(|address| address.kind == AddressType::V4) {
            let IpAddr::V4(address) = address.ip else { continue };
            for service in app.live_machines().flat_map(|machine| &machine.services) {
                let Some(protocol) = service.definition.protocol else { continue };
                for port in service.definition.ports.iter().flatten().flat_map(|port| port.range()) {
                    wanted.insert(Listener { protocol, address, port }, app.name.clone());
                }
            }
        }
    }
    wanted
}

fn open(listener: Listener, app: String, shared: Weak<Shared>) -> std::io::Result<JoinSet<()>> {
    let _in_runtime = crate::runtime().enter();
    let address = SocketAddr::from((listener.address, listener.port));
    let mut tasks = JoinSet::new();
    match listener.protocol {
        Protocol::Tcp => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            tasks.spawn(accept(socket.listen(BACKLOG)?, app, shared));
        }
        Protocol::Udp => {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            tasks.spawn(udp::serve(UdpSocket::from_std(socket)?, app, shared));
        }
    }
    Ok(tasks)
}

async fn accept(listener: TcpListener, app: String, shared: Weak<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(serve(client, app.clone(), shared.clone()));
                }
                // Most likely there are no file descriptors left; some will be closed soon.
                Err(_) => sleep(LOOK_AGAIN).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection of a client, from its beginning to its end.
async fn serve(client: TcpStream, app: String, shared: Weak<Shared>) {
    let Ok(public) = client.local_addr() else { return };
    let deadline = Instant::now() + PATIENCE;
    let mut refused = HashSet::new();
    let mut waits = false;
    while Instant::now() < deadline {
        let Some(shared) = shared.upgrade() else { return };
        let Some(candidate) = pick(&shared, &app, public.port(), &refused) else {
            if !std::mem::replace(&mut waits, true) {
                let mut waiting = shared.edge.kept_waiting.lock().expect("no one panics while holding it");
                *waiting.entry(public.port()).or_default() += 1;
            }
            refused.clear();
            drop(shared);
            sleep(LOOK_AGAIN).await;
            continue;
        };
        drop(shared);
        let dial = async {
            match candidate.host_up {
                true => TcpStream::connect(candidate.target).await,
                false => std::future::pending().await,
            }
        };
        match timeout(DIAL_TIMEOUT, dial).await {
            Ok(Ok(machine)) => return pass_on(client, machine, candidate).await,
            _ => refused.insert(candidate.machine),
        };
    }
}

/// A Machine that a connection may go to.
struct Candidate {
    machine: String,
    target: SocketAddr,
    proxy_protocol: Option<ProxyProtoVersion>,
    /// Whether anything comes back from its host. Packets to a lost one vanish.
    host_up: bool,
    /// Counts the connection among the Machine's, from now until it ends.
    _open: Open,
}

/// A count of how busy a service of a Machine is.
#[derive(Default)]
pub(super) struct Load {
    connections: AtomicUsize,
    last_turn: AtomicUsize,
}

/// Picks the least busy of the Machines that the edge believes to be well, without those already `tried`. Of several
/// that are equally busy it picks the one whose last turn is longest ago.
fn pick(shared: &Shared, app: &str, port: u16, tried: &HashSet<String>) -> Option<Candidate> {
    let settings = shared.settings();
    let world = shared.world();
    let mut candidates = Vec::new();
    for (machine, service, address) in believed_well(world.apps.get(app)?, port, settings) {
        if tried.contains(&machine.id) {
            continue;
        }
        let busy = service.load.connections.load(Ordering::Relaxed);
        let limits = service.definition.concurrency.clone().unwrap_or_default();
        if limits.hard_limit.is_some_and(|limit| busy >= limit as usize) {
            continue;
        }
        let full = busy >= limits.soft_limit.unwrap_or(DEFAULT_SOFT_LIMIT) as usize;
        let rank = (full, busy, service.load.last_turn.load(Ordering::Relaxed));
        candidates.push((rank, machine, service, address));
    }
    let (_, machine, service, address) = candidates.into_iter().min_by_key(|(rank, ..)| *rank)?;
    service.load.last_turn.store(shared.edge.turn.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    Some(Candidate {
        machine: machine.id.clone(),
        target: SocketAddr::from((address, service.definition.internal_port.unwrap_or_default())),
        proxy_protocol: service.port(Protocol::Tcp, port).and_then(|port| port.proxy_protocol()),
        host_up: machine.host_up,
        _open: Open::new(service.load.clone()),
    })
}

/// The Machines behind a port that the edge believes to be well, from what it has heard so far.
fn believed_well(
    app: &App,
    port: u16,
    settings: Settings,
) -> impl Iterator<Item = (&Machine, &ServiceState, Ipv4Addr)> {
    let now = Instant::now();
    services(app, Protocol::Tcp, port).filter_map(move |(machine, service)| {
        let delay = if service.is_control { settings.control_edge_delay } else { settings.edge_delay };
        let (address, _) = machine.addresses.filter(|_| !machine.host_lost.as_of(now, settings.edge_host_delay))?;
        let open = service.open.as_of(now, delay);
        let healthy = service.healthy.as_of(now, delay + settings.edge_check_delay);
        (open && healthy).then_some((machine, service, address))
    })
}

/// The IDs of the Machines to which a connection to this port would be passed on now.
pub(super) fn machines(shared: &Shared, app: &str, port: u16) -> Vec<String> {
    let (settings, world) = (shared.settings(), shared.world());
    let app = world.apps.get(app).into_iter();
    app.flat_map(|app| believed_well(app, port, settings)).map(|(machine, ..)| machine.id.clone()).collect()
}

/// The `concurrency.soft_limit` of a service that gives none (Fly docs, app configuration).
const DEFAULT_SOFT_LIMIT: u32 = 20;

/// The services of an App's Machines that expose `port`, one for each Machine.
pub(super) fn services(app: &App, protocol: Protocol, port: u16) -> impl Iterator<Item = (&Machine, &ServiceState)> {
    app.live_machines().filter_map(move |machine| {
        let service = machine.services.iter().find(|service| service.port(protocol, port).is_some())?;
        Some((machine, service))
    })
}

/// Copies bytes both ways until both ends are done, or one breaks.
async fn pass_on(mut client: TcpStream, mut machine: TcpStream, candidate: Candidate) {
    // Waiting to fill a packet would only add latency. An error may be ignored: the connection works without this
    // option.
    let _ = (client.set_nodelay(true), machine.set_nodelay(true));
    if let Some(version) = candidate.proxy_protocol {
        let (Ok(source), Ok(destination)) = (client.peer_addr(), client.local_addr()) else { return };
        if machine.write_all(&proxy_protocol::header(version, source, destination)).await.is_err() {
            return;
        }
    }
    if copy_bidirectional_with_sizes(&mut client, &mut machine, BUFFER, BUFFER).await.is_err() {
        // Reset the other side, so that it learns that the connection broke, not that it ended well.
        reset(client);
        reset(machine);
    }
}

fn reset(stream: TcpStream) {
    // An error may be ignored: the connection is then closed instead of reset, which is the next best.
    let _ = stream.set_zero_linger();
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Load>);

impl Open {
    fn new(load: Arc<Load>) -> Open {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Open(load)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
