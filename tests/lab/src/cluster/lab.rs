//! The state that all nodes and pods of one lab share.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::client::Client;
use super::images::Image;
use super::objects::Objects;
use crate::parts::Parts;
use crate::process::Handle;
use crate::slot::Slot;

pub(crate) struct Lab {
    pub(crate) client: Client,
    pub(crate) slot: Arc<Slot>,
    pub(crate) objects: Objects,
    pub(crate) parts: &'static Parts,
    /// The built operator, which its image runs.
    pub(crate) operator: OnceLock<PathBuf>,
    /// The folder with the logs of the containers.
    pub(crate) logs: PathBuf,
    /// The port at which the API server asks for the logs.
    pub(crate) kubelet_port: u16,
    /// Whether pods run processes. Without it, they are states only.
    pub(crate) traffic: bool,
    pub(crate) endpoints: Endpoints,
    /// How long a node takes to pull the image of a container, by the namespace of its pod.
    pub(crate) pull_times: Mutex<HashMap<String, Duration>>,
    /// The last process of each container, by the name of its log.
    pub(crate) processes: Mutex<HashMap<String, Handle>>,
    /// The pods of frozen and lost nodes, by their loopback addresses: what runs in this process itself stands still for them.
    pub(crate) frozen: watch::Sender<HashSet<Ipv4Addr>>,
}

impl Lab {
    pub(crate) fn find_image(&self, reference: &str) -> Option<Image> {
        Image::find(reference, self.parts, self.operator.get())
    }

    /// The address at which pods of a namespace find the API server.
    pub(crate) fn in_cluster_endpoint(&self, namespace: &str) -> SocketAddr {
        self.endpoints.of(namespace)
    }
}

/// The addresses of the API server, or of a recorder before it, that pods get.
pub(crate) struct Endpoints {
    by_namespace: Mutex<HashMap<String, SocketAddr>>,
    default: Mutex<SocketAddr>,
}

impl Endpoints {
    pub(crate) fn new(default: SocketAddr) -> Endpoints {
        Endpoints { by_namespace: Mutex::default(), default: Mutex::new(default) }
    }

    pub(crate) fn set(&self, namespace: Option<&str>, endpoint: SocketAddr) {
        match namespace {
            Some(namespace) => {
                let mut all = self.by_namespace.lock().expect("no one panics while holding it");
                all.insert(namespace.to_owned(), endpoint);
            }
            None => *self.default.lock().expect("no one panics while holding it") = endpoint,
        }
    }

    fn of(&self, namespace: &str) -> SocketAddr {
        let all = self.by_namespace.lock().expect("no one panics while holding it");
        let default = || *self.default.lock().expect("no one panics while holding it");
        all.get(namespace).copied().unwrap_or_else(default)
    }
}
