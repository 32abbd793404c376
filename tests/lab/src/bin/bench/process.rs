//! Memory and CPU time of a process, read from `/proc` (proc(5)).

use std::fs;
use std::thread;
use std::time::Duration;

/// `USER_HZ`. On every Linux that the lab runs on, `/proc` counts time in hundredths of a second.
const TICKS_PER_SECOND: u64 = 100;

const KIB_PER_MIB: f64 = 1024.0;

/// Memory of a process, in MiB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// All of its pages in memory, those of its program file included.
    pub resident: f64,
    /// Only the pages that no file backs: heap and stacks.
    pub anonymous: f64,
    /// The most that was ever resident, since the process began.
    pub peak: f64,
}

impl Memory {
    /// # Panics
    /// It panics if there is no such process. So does [`cpu_time`].
    pub fn of(pid: u32) -> Memory {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let field = |name: &str| number(&status, name).expect("Linux says so of every process");
        Memory {
            resident: field("VmRSS:") / KIB_PER_MIB,
            anonymous: field("RssAnon:") / KIB_PER_MIB,
            peak: field("VmHWM:") / KIB_PER_MIB,
        }
    }

    /// The sample with the most resident memory, over the time of two polls at the default interval.
    pub fn highest(pid: u32) -> Memory {
        let samples = (0..40).map(|_| {
            thread::sleep(Duration::from_millis(250));
            Memory::of(pid)
        });
        samples.max_by(|a, b| a.resident.total_cmp(&b.resident)).expect("there are some")
    }

    /// The other two numbers, in words.
    pub fn details(&self) -> String {
        format!("{:.1} MiB without the program file; at most {:.1} MiB so far", self.anonymous, self.peak)
    }
}

/// The CPU time of all threads of a process, those that ended included. It is a multiple of 10 ms.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The process's name stands in parentheses and may hold spaces, so count from behind it: there, utime and stime are
    // the 12th and the 13th field.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The bytes that a process read and wrote so far, by files and connections alike.
pub fn bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("the process runs");
    let field = |name: &str| number(&io, name).expect("Linux says so of every process") as u64;
    field("rchar:") + field("wchar:")
}

/// The PID of the one child of this process that runs this program.
///
/// # Panics
/// It panics unless there is exactly one.
pub fn child(program: &str) -> u32 {
    let parent = f64::from(std::process::id());
    let pids = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.starts_with(&format!("Name:\t{program}\n")) && number(&status, "PPid:") == Some(parent)
    };
    let found: Vec<u32> = pids.filter(is_it).collect();
    let [pid] = found[..] else { panic!("{} children are {program}, not one", found.len()) };
    pid
}

/// Ends a process with SIGKILL, wherever in its work it is.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).expect("a PID fits");
    // SAFETY: kill takes two numbers, and touches no memory of ours.
    let sent = unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(sent, 0, "there is such a process");
}

/// The first number in the line that begins with `name`.
fn number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
