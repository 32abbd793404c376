//! Sizes of Fly Machines, by the names that Fly gives its presets.

use std::fmt;

/// A preset: its name, and what of CPU and memory it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineSize {
    pub cpu_kind: &'static str,
    pub cpus: u32,
    /// MiB.
    pub memory_mb: u32,
}

/// CPUs and MiB for each CPU of each kind (fly-go `machine_types.go`, `MachinePresets`).
const KINDS: [(&str, u32, &[u32]); 2] =
    [("shared", 256, &[1, 2, 4, 6, 8]), ("performance", 2048, &[1, 2, 4, 6, 8, 10, 12, 14, 16])];

impl MachineSize {
    /// The preset of that name, such as `shared-cpu-1x` or `performance-2x`.
    ///
    /// # Errors
    /// Another name: what is allowed.
    pub fn parse(name: &str) -> Result<MachineSize, String> {
        all()
            .find(|size| size.to_string() == name)
            .ok_or_else(|| format!("use one of {}", all().map(|size| size.to_string()).collect::<Vec<_>>().join(", ")))
    }

    /// The preset with so many CPUs of that kind, whatever its memory.
    pub fn find(cpu_kind: &str, cpus: u32) -> Option<MachineSize> {
        all().find(|size| size.cpu_kind == cpu_kind && size.cpus == cpus)
    }
}

fn all() -> impl Iterator<Item = MachineSize> {
    KINDS.iter().flat_map(|&(cpu_kind, memory_per_cpu, cpus)| {
        cpus.iter().map(move |&cpus| MachineSize { cpu_kind, cpus, memory_mb: cpus * memory_per_cpu })
    })
}

impl fmt::Display for MachineSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu_kind {
            "shared" => write!(f, "shared-cpu-{}x", self.cpus),
            kind => write!(f, "{kind}-{}x", self.cpus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_flys() {
        let size = |name| MachineSize::parse(name).map(|s| (s.cpu_kind, s.cpus, s.memory_mb));
        assert_eq!(size("shared-cpu-1x"), Ok(("shared", 1, 256)));
        assert_eq!(size("shared-cpu-8x"), Ok(("shared", 8, 2048)));
        assert_eq!(size("performance-1x"), Ok(("performance", 1, 2048)));
        assert_eq!(size("performance-16x"), Ok(("performance", 16, 32768)));
        assert_eq!(all().count(), 14);
        let found = |kind, cpus| MachineSize::find(kind, cpus).map(|size| size.to_string());
        assert_eq!(found("shared", 4).as_deref(), Some("shared-cpu-4x"));
        assert_eq!(found("performance", 10).as_deref(), Some("performance-10x"));
        assert_eq!((found("shared", 3), found("gpu", 1)), (None, None));
        for wrong in ["", "shared-cpu-3x", "shared-cpu-1X", "performance-cpu-1x", "a100-40gb"] {
            assert!(size(wrong).unwrap_err().contains("shared-cpu-1x, shared-cpu-2x"), "{wrong}");
        }
    }
}
