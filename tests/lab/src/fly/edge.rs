//! Fly's edge: it listens on each App's dedicated IPv4, at every external port of the App's Machines, and passes
//! connections on to Machines that expose the port.
//!
//! A Machine takes part while it is started, not cordoned, on a host that answers, and the checks *of that service*
//! pass. What the edge knows of that is some time old: `edge_delay` for users, `control_edge_delay` for the service on
//! which frps listens for its clients, since an frpc in a homelab and a user somewhere reach different edges. A
//! connection for which there is no Machine waits for one; one that is refused is tried on another. Once established
//! it lives until either side ends it, whatever becomes of checks and cordons.

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
use super::{Shared, proxy_protocol, udp};

/// How long a connection waits for a Machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a connection that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// A Machine that does not take a connection within this is tried again later.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Of each direction of a connection.
const BUFFER: usize = 64 * 1024;
const BACKLOG: u32 = 4096;

/// Where an edge listens.
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
    /// Counts connections, so that Machines that are equally busy take turns.
    turn: AtomicUsize,
}

impl Edge {
    /// Brings the listeners in line with the world.
    pub(super) fn look(&self, shared: &Arc<Shared>) {
        // First the lock, then the look: two that look at once must not undo each other.
        let mut listeners = self.listeners.lock().expect("no one panics while holding it");
        let wanted = wanted(shared);
        listeners.retain(|listener, _| wanted.contains_key(listener));
        for (listener, app) in wanted {
            if listeners.contains_key(&listener) {
                continue;
            }
            match open(listener, app, Arc::downgrade(shared)) {
                Ok(tasks) => drop(listeners.insert(listener, tasks)),
                Err(error) => {
                    eprintln!("lab: the edge cannot listen on {}:{}: {error}", listener.address, listener.port)
                }
            }
        }
    }

    /// Ends all listeners and connections.
    pub(super) fn close(&self) {
        self.listeners.lock().expect("no one panics while holding it").clear();
    }
}

/// Every place to listen on, and the App that it leads to.
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
                Ok((client, _)) => drop(connections.spawn(serve(client, app.clone(), shared.clone()))),
                // Out of file descriptors, most likely: others will be closed.
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
    while Instant::now() < deadline {
        let Some(shared) = shared.upgrade() else { return };
        let Some(candidate) = pick(&shared, &app, public.port(), &refused) else {
            refused.clear();
            drop(shared);
            sleep(LOOK_AGAIN).await;
            continue;
        };
        drop(shared);
        match timeout(DIAL_TIMEOUT, TcpStream::connect(candidate.target)).await {
            Ok(Ok(machine)) => return pass_on(client, machine, candidate).await,
            _ => drop(refused.insert(candidate.machine)),
        }
    }
}

/// A Machine that a connection may go to.
struct Candidate {
    machine: String,
    target: SocketAddr,
    proxy_protocol: Option<ProxyProtoVersion>,
    load: Arc<Load>,
}

/// How busy a service of a Machine is.
#[derive(Default)]
pub(super) struct Load {
    connections: AtomicUsize,
    last_turn: AtomicUsize,
}

/// The least busy of the Machines that the edge believes to be well, without those already `tried`; of several that
/// are equally busy the one whose last turn is longest ago.
fn pick(shared: &Shared, app: &str, port: u16, tried: &HashSet<String>) -> Option<Candidate> {
    let settings = shared.settings();
    let now = Instant::now();
    let world = shared.world();
    let mut candidates = Vec::new();
    for (machine, service) in services(world.apps.get(app)?, Protocol::Tcp, port) {
        let delay = if service.is_control { settings.control_edge_delay } else { settings.edge_delay };
        // A host that is lost does not answer, whether the edge has heard of it or not.
        let Some((address, _)) = machine.addresses.filter(|_| machine.host_up) else { continue };
        let open = service.open.as_of(now, delay);
        let healthy = service.healthy.as_of(now, delay + settings.edge_check_delay);
        if !open || !healthy || tried.contains(&machine.id) {
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
        load: service.load.clone(),
    })
}

/// `concurrency.soft_limit` where none is given (Fly docs, app configuration).
const DEFAULT_SOFT_LIMIT: u32 = 20;

/// The services of an App's Machines that expose `port`, one for each Machine.
pub(super) fn services(app: &App, protocol: Protocol, port: u16) -> impl Iterator<Item = (&Machine, &ServiceState)> {
    app.live_machines().filter_map(move |machine| {
        let service = machine.services.iter().find(|service| service.port(protocol, port).is_some())?;
        Some((machine, service))
    })
}

/// Copies both ways until both ends are done, or one breaks.
async fn pass_on(mut client: TcpStream, mut machine: TcpStream, candidate: Candidate) {
    let _open = Open::new(candidate.load);
    // A proxy that waits to fill a packet would only add latency; that it fails is no reason to fail.
    let _ = (client.set_nodelay(true), machine.set_nodelay(true));
    if let Some(version) = candidate.proxy_protocol {
        let (Ok(source), Ok(destination)) = (client.peer_addr(), client.local_addr()) else { return };
        if machine.write_all(&proxy_protocol::header(version, source, destination)).await.is_err() {
            return;
        }
    }
    if copy_bidirectional_with_sizes(&mut client, &mut machine, BUFFER, BUFFER).await.is_err() {
        // The other side learns that the connection broke, not that it ended well.
        reset(client);
        reset(machine);
    }
}

fn reset(stream: TcpStream) {
    // One that cannot be reset is closed, which is the next best.
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
