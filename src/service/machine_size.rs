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
    pub fn of(guest: &Guest) -> Option<MachineSize> {
        all().find(|size| size.cpu_kind == guest.cpu_kind && size.cpus == guest.cpus)
    }

    /// A guest of this size.
    pub fn guest(self) -> Guest {
        Guest { cpu_kind: self.cpu_kind.to_owned(), cpus: self.cpus, memory_mb: self.memory_mb }
    }
}

/// The CPUs and the memory of a Machine, as Fly says it. It need not be a preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    pub cpu_kind: String,
    pub cpus: u32,
    /// MiB; 0 where Fly does not say it.
    pub memory_mb: u32,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} CPU with {} MiB", self.cpus, self.cpu_kind, self.memory_mb)
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

/// By its name.
impl serde::Serialize for MachineSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MachineSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<MachineSize, D::Error> {
        let name = String::deserialize(deserializer)?;
        MachineSize::parse(&name).map_err(serde::de::Error::custom)
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
        let guest = |kind: &str, cpus| Guest { cpu_kind: kind.into(), cpus, memory_mb: 1 };
        let found = |kind, cpus| MachineSize::of(&guest(kind, cpus)).map(|size| size.to_string());
        assert_eq!(found("shared", 4).as_deref(), Some("shared-cpu-4x"));
        assert_eq!(found("performance", 10).as_deref(), Some("performance-10x"));
        assert_eq!((found("shared", 3), found("gpu", 1)), (None, None));
        for wrong in ["", "shared-cpu-3x", "shared-cpu-1X", "performance-cpu-1x", "a100-40gb"] {
            assert!(size(wrong).unwrap_err().contains("shared-cpu-1x, shared-cpu-2x"), "{wrong}");
        }
    }
}
