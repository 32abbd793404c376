//! The built operator as a whole: on a real control plane, with the real frp, a simulated Fly and real traffic. One
//! file a subject; all share one control plane, and each test has a Fly, a log and namespaces of its own.

mod dependencies;
mod traffic;

use std::path::Path;
use std::time::Duration;

use lab::homelab::Homelab;

/// Longer than anything that is waited for takes, on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The binary that Cargo built for these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fly-tunnel-operator"))
}

/// An operator of this lab, at work.
fn start(lab: &Homelab) -> lab::operator::RunningOperator {
    lab.operator(binary()).start()
}
