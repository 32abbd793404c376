//! The place of one lab among its neighbours on this machine.
//!
//! A slot is a number from 0 to 15, held by an exclusive lock on a file, which the kernel releases when its holder
//! dies. With the number come a /20 of each address range (`design.md`, "tests/lab") and a scratch directory. A tiny
//! process, the reaper, removes the directory when the lab ends. It waits for the end of its standard input, a pipe
//! that the lab alone holds open, so it also notices when the lab was killed.
//!
//! Each user has slots of their own: labs of two users on one machine do not know of each other, and would use the same
//! addresses.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// The second octets of the address ranges, which are all in 127.0.0.0/8.
const CLUSTER_IPS: u8 = 96;
const PUBLIC: u8 = 66;
const MACHINES: u8 = 77;
const MACHINES_UDP: u8 = 78;
const PODS: u8 = 100;

const SLOTS: u8 = 16;
/// The addresses of a /20, without the first and the last.
const OFFSETS: std::ops::RangeInclusive<u16> = 1..=4094;

/// A slot, which is ours until it is dropped.
pub struct Slot {
    number: u8,
    directory: PathBuf,
    reaper: Child,
    public: Pool,
    machines: Pool,
    pods: Pool,
    /// The lock; the kernel releases it when the file is closed.
    _lock: File,
}

impl Slot {
    /// Takes the first free slot.
    ///
    /// # Errors
    /// All slots are taken, or the temporary directory cannot be written.
    pub fn take() -> io::Result<Arc<Slot>> {
        // SAFETY: a system call without arguments that cannot fail.
        let user = unsafe { libc::getuid() };
        let base = std::env::temp_dir().join(format!("fly-tunnel-operator-lab-{user}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&base)?;
        for number in 0..SLOTS {
            let lock = File::create(base.join(format!("slot-{number}.lock")))?;
            match lock.try_lock() {
                Ok(()) => return Slot::new(number, &base, lock).map(Arc::new),
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{SLOTS} labs run on this machine already (locks in {})", base.display())))
    }

    fn new(number: u8, base: &Path, lock: File) -> io::Result<Slot> {
        // No directory's name is used twice: the reaper of the slot's last holder may still be at work.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("lab-{number}-");
        remove_leftovers(base, &prefix)?;
        let name = format!("{prefix}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = base.join(name);
        fs::create_dir(&directory)?;
        let reaper = start_reaper(&directory)?;
        let [public, machines, pods] = std::array::from_fn(|_| Pool::default());
        Ok(Slot { number, directory, reaper, public, machines, pods, _lock: lock })
    }

    /// A directory for scratch files, removed when the lab ends.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The range from which the API server gives addresses to Services, such as `127.96.16.0/20`.
    pub fn cluster_ips(&self) -> String {
        format!("127.{CLUSTER_IPS}.{}.0/20", self.number * 16)
    }

    /// The first of [`Self::cluster_ips`], which the API server takes for the Service `kubernetes`.
    pub fn first_cluster_ip(&self) -> Ipv4Addr {
        self.address(CLUSTER_IPS, 1)
    }

    /// A free public address, until it is released.
    pub fn public_address(&self) -> Ipv4Addr {
        self.address(PUBLIC, self.public.take())
    }

    pub fn release_public(&self, address: Ipv4Addr) {
        self.public.release(offset(address));
    }

    /// A free pair of addresses for a Fly Machine: the first stands for `0.0.0.0`, the second for
    /// `fly-global-services`.
    pub fn machine_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        let offset = self.machines.take();
        (self.address(MACHINES, offset), self.address(MACHINES_UDP, offset))
    }

    pub fn release_machine(&self, addresses: (Ipv4Addr, Ipv4Addr)) {
        self.machines.release(offset(addresses.0));
    }

    /// A free address for a pod.
    pub fn pod_address(&self) -> Ipv4Addr {
        self.address(PODS, self.pods.take())
    }

    pub fn release_pod(&self, address: Ipv4Addr) {
        self.pods.release(offset(address));
    }

    fn address(&self, range: u8, offset: u16) -> Ipv4Addr {
        let [high, low] = offset.to_be_bytes();
        Ipv4Addr::new(127, range, self.number * 16 + high, low)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        // An error may be ignored: a reaper that we cannot wait for still removes the directory.
        let _ = self.reaper.wait();
    }
}

/// The place of an address within the slot's /20.
fn offset(address: Ipv4Addr) -> u16 {
    let [_, _, high, low] = address.octets();
    u16::from_be_bytes([high % 16, low])
}

/// The addresses of a /20 that are in use. An address that was released is the last to be given out again, so that a
/// late connection to it does not reach somebody else.
#[derive(Default)]
struct Pool(Mutex<(u16, BTreeSet<u16>)>);

impl Pool {
    fn take(&self) -> u16 {
        let mut pool = self.0.lock().expect("no one panics while holding it");
        let (last, used) = &mut *pool;
        let free = (*last + 1..=*OFFSETS.end()).chain(*OFFSETS.start()..=*last).find(|offset| !used.contains(offset));
        *last = free.expect("fewer than 4,094 addresses of a kind are in use");
        used.insert(*last);
        *last
    }

    fn release(&self, offset: u16) {
        self.0.lock().expect("no one panics while holding it").1.remove(&offset);
    }
}

/// Removes the directories of this slot's earlier holders. There are some only if somebody killed their reapers too.
fn remove_leftovers(base: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // An error may be ignored: a reaper that is still at work may have been faster.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Starts the process that removes `directory` once its standard input ends.
fn start_reaper(directory: &Path) -> io::Result<Child> {
    // It tries several times, since processes of the lab that die at the same moment may still write files.
    let script = r#"read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf -- "$0" 2>/dev/null && exit
    sleep 0.2
done"#;
    Command::new("/bin/sh")
        .args(["-c", script])
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C in a terminal must not end it before the lab.
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_two_slots_never_meet() {
        let (one, two) = (Slot::take().expect("free"), Slot::take().expect("free"));
        assert_ne!(one.cluster_ips(), two.cluster_ips());
        assert_ne!(one.public_address(), two.public_address());
        assert_ne!(one.directory(), two.directory());
    }

    #[test]
    fn a_released_address_comes_back_last() {
        let pool = Pool::default();
        let first = pool.take();
        pool.release(first);
        assert_eq!(pool.take(), 2);
        for _ in 3..=4094 {
            pool.take();
        }
        assert_eq!(pool.take(), first);
    }

    #[test]
    fn leftovers_of_the_same_slot_are_removed() {
        let base = std::env::temp_dir().join(format!("lab-leftovers-{}", std::process::id()));
        for name in ["lab-1-7-0", "lab-11-7-0"] {
            fs::create_dir_all(base.join(name).join("logs")).expect("writable");
        }
        remove_leftovers(&base, "lab-1-").expect("readable");
        assert!(!base.join("lab-1-7-0").exists());
        assert!(base.join("lab-11-7-0").exists());
        fs::remove_dir_all(base).expect("removable");
    }

    #[test]
    fn the_directory_goes_with_the_slot() {
        let slot = Slot::take().expect("free");
        let directory = slot.directory().to_owned();
        fs::write(directory.join("file"), "").expect("writable");
        drop(slot);
        assert!(!directory.exists());
    }
}
