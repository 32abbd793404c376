//! UDP at the edge. One Machine gets all datagrams of an (address, port), at the address that stands for
//! `fly-global-services` and on the external port, since Fly does not rewrite the port (Fly docs, UDP and TCP).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::types::Protocol;
use super::{Shared, edge};
use crate::fly::state::State;

/// A client that is silent for this long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// A buffer's size; no datagram is longer.
const LARGEST: usize = 65_536;
/// How many datagrams of one client may wait. More are lost, as on a real network.
const QUEUE: usize = 1024;

/// Serves one external port, for ever.
pub(super) async fn serve(socket: UdpSocket, app: String, shared: Weak<Shared>) {
    let socket = Arc::new(socket);
    let Ok(port) = socket.local_addr().map(|address| address.port()) else { return };
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut flows = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, client) = tokio::select! {
            Ok(received) = socket.recv_from(&mut buffer) => received,
            Some(_) = flows.join_next() => continue,
        };
        clients.retain(|_, queue| !queue.is_closed());
        let queue = match clients.entry(client) {
            Entry::Occupied(queue) => queue.into_mut(),
            Entry::Vacant(place) => {
                let Some(target) = shared.upgrade().and_then(|shared| owner(&shared, &app, port)) else { continue };
                let (queue, datagrams) = mpsc::channel(QUEUE);
                flows.spawn(flow(socket.clone(), client, target, datagrams));
                place.insert(queue)
            }
        };
        // An error may be ignored: a full queue loses the datagram.
        let _ = queue.try_send(buffer[..length].to_vec());
    }
}

/// The Machine that gets the datagrams: the oldest that is started and not cordoned, else the oldest that is started.
fn owner(shared: &Shared, app: &str, port: u16) -> Option<SocketAddr> {
    let world = shared.world();
    let machines = edge::services(world.apps.get(app)?, Protocol::Udp, port).map(|(machine, _)| machine);
    let started = machines.filter(|machine| machine.state == State::Started && machine.host_up);
    let machine = started.min_by_key(|machine| (machine.cordoned, machine.created_at))?;
    machine.addresses.map(|(_, udp)| SocketAddr::from((udp, port)))
}

/// Passes on the datagrams of one client, in both directions.
async fn flow(edge: Arc<UdpSocket>, client: SocketAddr, target: SocketAddr, mut datagrams: mpsc::Receiver<Vec<u8>>) {
    let Ok(machine) = UdpSocket::bind("127.0.0.1:0").await else { return };
    if machine.connect(target).await.is_err() {
        return;
    }
    let mut buffer = vec![0; LARGEST];
    let mut step = async || {
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                // An error may be ignored: a refusal shows again when the next datagram is received.
                Some(datagram) => {
                    let _ = machine.send(&datagram).await;
                }
                None => return false,
            },
            received = machine.recv(&mut buffer) => if let Ok(length) = received {
                // An error may be ignored: any datagram may be lost.
                let _ = edge.send_to(&buffer[..length], client).await;
            },
        }
        true
    };
    while timeout(IDLE, step()).await == Ok(true) {}
}
