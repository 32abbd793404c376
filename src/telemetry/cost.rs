//! What Fly bills for a tunnel, as an estimate. Fly has no API for prices, and they differ a little between regions.

use crate::tunnel::observed::{Address, Machine, State};

/// Hundredths of a US dollar, for a month of 30 days.
pub type Cents = u32;

/// When the prices below were looked up.
pub const PRICES_OF: &str = "June 2026";

/// A dedicated IPv4 address (fly.io/docs/about/pricing).
const ADDRESS: Cents = 200;

/// One CPU of a preset with its memory: `shared-cpu-1x` with 256 MiB, $2.02. Presets of several CPUs are multiples.
const SHARED_CPU: Cents = 202;

/// The same of `performance-1x` with 2 GiB: $31.00 when `shared-cpu-1x` was $1.94 (fly.io/blog, "New VMs: more RAM, extra
/// CPU, and a dollar menu"), and raised as that was since.
const PERFORMANCE_CPU: Cents = 3228;

/// The addresses of an App: only a dedicated IPv4 costs something.
pub fn addresses(addresses: &[Address]) -> Cents {
    addresses.iter().filter(|address| address.dedicated).map(|_| ADDRESS).sum()
}

/// A Machine: as much as if it ran all month, where it runs or is about to. One that is stopped is billed for the disk
/// that its image takes, which is next to nothing.
pub fn machine(machine: &Machine) -> Cents {
    let Some(size) = machine.size else { return 0 };
    let cpu = if size.cpu_kind == "shared" { SHARED_CPU } else { PERFORMANCE_CPU };
    match machine.state {
        State::Started | State::Pending => size.cpus * cpu,
        State::Stopped | State::Failed | State::Gone => 0,
    }
}
