//! Child processes that cannot outlive the lab.
//!
//! Linux sends a child its parent-death signal when the *thread* that started it ends, not the process. So one thread
//! that never ends starts every child. A child then dies with the lab, and only then, also if the lab is killed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A program to start, and how to start it.
pub struct Spawn {
    pub program: PathBuf,
    /// `argv[0]`: the name that the process shows, and by which a multi-call binary chooses. `None` means the program's
    /// path.
    pub argv0: Option<String>,
    pub args: Vec<String>,
    /// The whole environment. Nothing is inherited from the lab's own.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub dir: PathBuf,
    /// The file to which standard output and error are appended.
    pub log: PathBuf,
}

/// A running child. It is killed and reaped when dropped. It has a process group of its own, so that a Ctrl-C in a
/// terminal reaches the lab alone.
pub struct Process {
    child: Child,
    /// A pidfd refers to this very process for ever. A PID would not: it may be used again.
    pidfd: OwnedFd,
}

impl Process {
    /// Starts a child.
    ///
    /// # Errors
    /// The log file cannot be opened, or the program cannot be started.
    pub fn spawn(spawn: Spawn) -> io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&spawn.log)?;
        let mut command = Command::new(&spawn.program);
        if let Some(argv0) = &spawn.argv0 {
            command.arg0(argv0);
        }
        command
            .args(&spawn.args)
            .env_clear()
            .envs(spawn.env)
            .current_dir(&spawn.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let lab = std::process::id();
        // SAFETY: the closure runs between fork and exec; it makes two async-signal-safe system calls and does not allocate.
        unsafe { command.pre_exec(move || die_with(lab)) };
        let child = spawn_from_undying_thread(command)?;
        let pidfd = pidfd_of(&child)?;
        Ok(Process { child, pidfd })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Sends a signal, such as `libc::SIGTERM`. Nothing happens if the process has ended.
    pub fn signal(&self, signal: i32) {
        send(&self.pidfd, signal);
    }

    /// Another way to it, for whoever does not own it.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub fn handle(&self) -> io::Result<Handle> {
        Ok(Handle { pidfd: self.pidfd.try_clone()? })
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits until it ends. The future may be dropped half-way, and this called again.
    pub async fn wait(&mut self) -> ExitStatus {
        // SAFETY: the descriptor is open as long as `self`, which outlives this registration.
        let ended = unsafe { AsyncFd::register_with_interest(self.pidfd.as_raw_fd(), Interest::READABLE) }
            .expect("a process file descriptor can be polled");
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            ended.readable().await.expect("a process file descriptor can be polled").clear_ready();
        }
    }
}

/// A way to signal a process. It never means another one, whatever becomes of that.
pub struct Handle {
    pidfd: OwnedFd,
}

impl Handle {
    /// Sends a signal, such as `libc::SIGSTOP`. Nothing happens if the process has ended.
    pub fn signal(&self, signal: i32) {
        send(&self.pidfd, signal);
    }
}

fn send(pidfd: &OwnedFd, signal: i32) {
    // SAFETY: a plain system call on a file descriptor that is open. It fails only if the process is gone already.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        // An error may be ignored: nothing can be done about a child that cannot be reaped, and nothing depends on it.
        let _ = self.child.wait();
    }
}

/// The last lines of a log, for error messages.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Writes a script that can be run at once. Another process writes it, because Linux does not run a file that any process
/// has open for writing, and a child that another thread starts in between has it open too until it runs its own program.
///
/// # Errors
/// The file cannot be written.
pub fn write_script(path: &Path, text: &str) -> io::Result<()> {
    let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    let status = Command::new("sh").args(["-c".as_ref(), write.as_ref(), path.as_os_str(), text.as_ref()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{} cannot be written", path.display()))) }
}

type Request = (Command, mpsc::SyncSender<io::Result<Child>>);

fn spawn_from_undying_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        let body = move || {
            for (mut command, reply) in requests {
                // It does not fail: whoever asked waits for the answer.
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new().name("spawner".into()).spawn(body).expect("a thread can be started");
        sender
    });
    let (reply, answer) = mpsc::sync_channel(1);
    spawner.send((command, reply)).expect("the spawner never ends");
    answer.recv().expect("the spawner answers every request")
}

/// Runs in the child. Asks for SIGKILL when the lab dies, and fails at once if it has died already.
fn die_with(lab: u32) -> io::Result<()> {
    // SAFETY: system calls without pointers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != lab {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    Ok(())
}

fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers; what it returns is a new file descriptor that nobody else owns.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, child.id(), 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}
