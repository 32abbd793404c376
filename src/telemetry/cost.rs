//! An estimate of Fly's bill for a tunnel. Fly has no API for prices, and they differ a little between regions.

use crate::service::machine_size::MachineSize;
use crate::tunnel::observed::{Address, Family, Machine, State};

/// A price for a month of 30 days, in hundredths of a US dollar.
pub type Cents = u32;

/// When the prices below were looked up.
pub const PRICES_OF: &str = "June 2026";

/// A dedicated IPv4 address (fly.io/docs/about/pricing).
pub const ADDRESS: Cents = 200;

/// One CPU of a preset with its memory: `shared-cpu-1x` with 256 MiB, $2.02. Presets of several CPUs are multiples.
const SHARED_CPU: Cents = 202;

/// One CPU of `performance-1x` with 2 GiB. It cost $31.00 when `shared-cpu-1x` cost $1.94 (fly.io/blog, "New VMs: more RAM,
/// extra CPU, and a dollar menu"). This assumes that both rose alike since.
const PERFORMANCE_CPU: Cents = 3228;

/// The price of an App's addresses. Only a dedicated IPv4 costs something.
pub fn addresses(addresses: &[Address]) -> Cents {
    addresses.iter().filter(|address| address.serves(Family::V4)).map(|_| ADDRESS).sum()
}

/// The price of a Machine. One that runs, or is about to, counts as if it ran all month. One that is stopped is billed for
/// the disk that its image takes, which is next to nothing.
pub fn machine(machine: &Machine) -> Cents {
    of_size(machine.size(), machine.state)
}

/// The price of a Machine of this size, in this state.
pub fn of_size(size: Option<MachineSize>, state: State) -> Cents {
    let Some(size) = size else { return 0 };
    let cpu = if size.cpu_kind == "shared" { SHARED_CPU } else { PERFORMANCE_CPU };
    match state {
        State::Started | State::Pending => size.cpus * cpu,
        State::Stopped | State::Failed | State::Gone => 0,
    }
}
