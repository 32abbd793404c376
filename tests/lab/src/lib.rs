//! A homelab in a box: a real control plane, nodes that run pods as processes, and a simulated Fly with real frp.
//!
//! `README.md` beside this crate says how to use it, from a test and by hand. This is the map:
//!
//! ```text
//!  trials ── one fault at one request of a story: is all well afterwards?
//!     │
//!  homelab ── one test's homelab: operator, service, fly, recorders; on a cluster that tests share
//!  control, main.rs ── the same for a person: `scripts/lab`, `LAB_URL`
//!     │
//!     ├── bounds ── bounds that benches and tests check
//!     ├── rights ── the operator's RBAC rights
//!     ├── recorder ── log and faults, before the API server and before Fly
//!     ├── fly ── the Machines API, Machines that run frps, checks, the edge
//!     └── cluster ── control plane, nodes, pods, service proxy
//!            │
//!            ├── root_fs ── a container's root is a folder
//!            ├── process ── children that die with the lab
//!            ├── slot ── addresses and scratch space, beside other labs
//!            ├── pki ── the lab's certificate authority
//!            └── parts ── builds the real programs, once; promlint, helm and promql run one each
//! ```
//!
//! Arrows point down: no module knows of those above it.

use std::sync::OnceLock;

use tokio::runtime::Runtime;

pub use helm::helm;
pub use promlint::promlint;
pub use promql::promql;

pub mod bounds;
pub mod cluster;
pub mod control;
pub mod fly;
mod helm;
pub mod homelab;
pub mod operator;
pub mod parts;
pub mod pki;
pub mod process;
mod promlint;
mod promql;
pub mod recorder;
pub mod rights;
pub mod root_fs;
pub mod service;
pub mod slot;
pub mod trials;

/// The one runtime of the crate. All servers and nodes are tasks on it; the functions that tests call are blocking.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime can be started"))
}
