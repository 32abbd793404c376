//! Runs a program to its end, within bounds of time and of output. A program that is killed is killed with its children.
//!
//! The pipes have no threads of their own: a pipe that somebody keeps open would keep its thread. They are read
//! when `poll` says that there is something to read, in the thread that waits anyway.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// So much of standard error is kept: the last bytes.
const STDERR_KEPT: usize = 4 << 10;
/// The pause between two looks whether the program has ended, while it has a pipe open: closing a pipe wakes us.
const LOOK: Duration = Duration::from_millis(100);
/// The pause when both pipes are closed, so that only looking tells.
const LOOK_WITHOUT_PIPES: Duration = Duration::from_millis(5);

/// The result of a program that ended by itself.
pub(super) struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr: Vec<u8>,
}

/// The reason why a program did not end by itself.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be started or watched.
    Io(io::Error),
    /// It was still running at the deadline, and was killed.
    TooSlow,
    /// It printed more than it may, and was killed.
    TooMuch,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Runs a program without input. If it is killed, so are the processes that it started: its process group.
pub(super) fn run(command: &mut Command, deadline: Instant, stdout_limit: usize) -> Result<Output, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut running = Running(Some(command.spawn()?));
    let (stdout, stderr) = running.pipes();
    let mut stdout = Pipe::new(stdout);
    let mut stderr = Pipe::new(stderr);
    loop {
        // This comes before the pipes are read: what it wrote before its end is read then.
        let ended = running.ended()?;
        stdout.read(|kept| kept.len() <= stdout_limit)?;
        if stdout.kept.len() > stdout_limit {
            return Err(Failure::TooMuch);
        }
        stderr.read_end()?;
        if let Some(status) = ended {
            return Ok(Output { status, stdout: stdout.kept, stderr: stderr.kept });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::TooSlow);
        }
        wait_for_any([&stdout, &stderr], left);
    }
}

/// A child that is killed, with its group, unless it has ended.
struct Running(Option<Child>);

impl Running {
    fn pipes(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        let Some(child) = &mut self.0 else { return (None, None) };
        (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from))
    }

    /// The status of the program, if it has ended. Processes that it started and that go on are left alone, as by kubectl.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.0 else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.0 = None;
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let group = -(child.id() as libc::pid_t);
        // SAFETY: a system call without pointers. The group is the child's own, which has not been waited for, so
        // nobody else can have its number.
        unsafe { libc::kill(group, libc::SIGKILL) };
        // An error means that somebody else has waited for it.
        let _ = child.wait();
        // Its children become our own where we are the first process of a container.
        // SAFETY: a system call that is given no place to write to.
        while unsafe { libc::waitpid(group, std::ptr::null_mut(), 0) } > 0 {}
    }
}

/// One of the program's outputs, and the bytes that came out of it.
struct Pipe {
    /// `None`: the pipe is closed.
    source: Option<File>,
    kept: Vec<u8>,
}

impl Pipe {
    fn new(source: Option<OwnedFd>) -> Pipe {
        Pipe { source: source.map(File::from), kept: Vec::new() }
    }

    /// Reads the bytes that are there, for as long as `wanted` says.
    fn read(&mut self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        while wanted(&self.kept) && self.read_once()? > 0 {}
        Ok(())
    }

    /// Reads the bytes that are there, or many of them, and keeps the last ones.
    fn read_end(&mut self) -> io::Result<()> {
        for _ in 0..16 {
            if self.read_once()? == 0 {
                break;
            }
            let surplus = self.kept.len().saturating_sub(STDERR_KEPT);
            self.kept.drain(..surplus);
        }
        Ok(())
    }

    /// Reads once, and returns the number of bytes: 0 where there is nothing yet, or nothing any more.
    fn read_once(&mut self) -> io::Result<usize> {
        let Some(source) = &mut self.source else { return Ok(0) };
        if !is_readable(&mut [polled(Some(source.as_raw_fd()))], Duration::ZERO) {
            return Ok(0);
        }
        let mut buffer = [0; 4 << 10];
        match source.read(&mut buffer) {
            Ok(0) => {
                self.source = None;
                Ok(0)
            }
            Ok(read) => {
                self.kept.extend_from_slice(&buffer[..read]);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn fd(&self) -> Option<RawFd> {
        self.source.as_ref().map(|source| source.as_raw_fd())
    }
}

/// Waits until there is something to read in a pipe, or it is time to look again.
fn wait_for_any(pipes: [&Pipe; 2], left: Duration) {
    let mut all = pipes.map(|pipe| polled(pipe.fd()));
    let look = if pipes.iter().all(|pipe| pipe.source.is_none()) { LOOK_WITHOUT_PIPES } else { LOOK };
    is_readable(&mut all, look.min(left));
}

fn polled(fd: Option<RawFd>) -> libc::pollfd {
    // `poll` passes over negative descriptors.
    libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 }
}

/// Waits for this time until there is something to read in a pipe, or one has ended. Returns whether that happened.
fn is_readable(pipes: &mut [libc::pollfd], time: Duration) -> bool {
    let milliseconds = time.as_micros().div_ceil(1000).try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: pointer and length are those of a slice that outlives the call.
    unsafe { libc::poll(pipes.as_mut_ptr(), pipes.len() as libc::nfds_t, milliseconds) > 0 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LIMIT: usize = 1 << 16;

    fn shell(script: &str, time: Duration) -> Result<Output, Failure> {
        run(Command::new("/bin/sh").args(["-c", script]), Instant::now() + time, LIMIT)
    }

    fn soon() -> Duration {
        Duration::from_millis(300)
    }

    fn plenty() -> Duration {
        Duration::from_secs(60)
    }

    #[test]
    fn both_outputs_and_the_end_are_told() {
        let output = shell("echo out; echo err >&2; exit 3", plenty()).expect("an end");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn there_is_no_input() {
        let output = shell("cat; echo done", plenty()).expect("an end");
        assert_eq!(output.stdout, b"done\n");
    }

    /// Whether there is such a process, or its zombie.
    fn is_there(process: &str) -> bool {
        Path::new("/proc").join(process).exists()
    }

    #[test]
    fn a_slow_program_is_killed_with_its_children() {
        let file = std::env::temp_dir().join(format!("kube-client-lite-{}-processes", std::process::id()));
        // The child keeps the pipe open, and we must not wait for that.
        let script = format!("sleep 1000 & echo $$ $! > {}; wait", file.display());
        // On a busy machine a shell may be killed before it wrote anything: then the next one is given more time.
        let (mut limit, started) = (Duration::from_millis(500), Instant::now());
        while !file.exists() {
            assert!(matches!(shell(&script, limit), Err(Failure::TooSlow)));
            assert!(started.elapsed() < plenty());
            limit *= 2;
        }
        let numbers = std::fs::read_to_string(&file).expect("two numbers");
        std::fs::remove_file(&file).expect("a file");
        let (shell, child) = numbers.trim().split_once(' ').expect("two numbers");
        assert!(!is_there(shell), "no zombie is left");
        // The child's zombie goes when the process that inherits it waits for it.
        let deadline = Instant::now() + plenty();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while lives() {
            assert!(Instant::now() < deadline, "process {child} lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_slow_program_that_closed_its_pipes_is_killed_too() {
        assert!(matches!(shell("exec >&- 2>&-; sleep 1000", soon()), Err(Failure::TooSlow)));
    }

    #[test]
    fn a_program_that_prints_without_end_is_killed() {
        assert!(matches!(shell("cat /dev/zero", plenty()), Err(Failure::TooMuch)));
        let noisy = shell("head -c 1000000 /dev/zero >&2; echo end >&2; echo out", plenty()).expect("an end");
        assert!(noisy.stderr.len() <= STDERR_KEPT && noisy.stderr.ends_with(b"end\n"));
        assert_eq!(noisy.stdout, b"out\n");
    }

    /// A plugin may start an agent that keeps its pipes for ever.
    #[test]
    fn a_child_that_stays_keeps_nobody_waiting() {
        let started = Instant::now();
        let output = shell("sleep 100 & echo $$ $!", plenty()).expect("an end");
        assert!(started.elapsed() < plenty(), "{:?}", started.elapsed());
        let numbers = String::from_utf8(output.stdout).expect("two numbers");
        let (shell, child) = numbers.trim().split_once(' ').expect("two numbers");
        assert!(!is_there(shell), "no zombie is left");
        let killed = Command::new("kill").arg(child).status().expect("kill runs");
        assert!(killed.success(), "it was left alone");
    }
}
