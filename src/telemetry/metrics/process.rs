//! Metrics of the process as such, by the names that Prometheus' own clients use for them.

use std::io;
use std::time::SystemTime;

use super::text::{Exposition, Kind};
use super::unix_seconds;

pub(super) fn render(text: &mut Exposition, started: SystemTime) -> io::Result<()> {
    let help = "Start time of the process since unix epoch in seconds.";
    text.single(Kind::Gauge, "process_start_time_seconds", help, unix_seconds(started))?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match resident_bytes(&status) {
        Some(bytes) => {
            text.single(Kind::Gauge, "process_resident_memory_bytes", "Resident memory size in bytes.", bytes)
        }
        None => Ok(()), // not Linux
    }
}

/// `VmRSS` of proc(5)'s `status`, which is in KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_as_linux_writes_it() {
        for (status, expected) in [
            ("Name:\tx\nVmHWM:\t    9000 kB\nVmRSS:\t    3512 kB\nThreads:\t4\n", Some(3512 * 1024)),
            ("VmRSS:\t3512\n", None),
            ("", None),
        ] {
            assert_eq!(resident_bytes(status), expected, "{status}");
        }
    }
}
