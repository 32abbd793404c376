//! A homelab in a box: a real control plane, nodes that run pods as processes, and a simulated Fly with real frp.

use std::sync::OnceLock;

use tokio::runtime::Runtime;

pub mod cluster;
pub mod control;
pub mod fly;
pub mod homelab;
pub mod operator;
pub mod parts;
pub mod pki;
pub mod process;
pub mod recorder;
pub mod root_fs;
pub mod service;
pub mod slot;

/// The one runtime of the crate. What the crate offers to tests is blocking; all its servers and nodes are tasks here.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime can be started"))
}
