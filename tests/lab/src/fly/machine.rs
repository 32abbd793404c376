//! One Machine over time: a task that boots it, runs its processes, restarts what crashes, and takes orders.
//!
//! The API checks a request and changes `state` to a transient one; the task here does the rest and moves on to the
//! state that lasts:
//!
//! ```text
//! created ─► starting ─► started ─► stopping ─► stopped        destroying ─► destroyed
//!                 ▲         │ crash                  │              ▲
//!                 └─────────┴── restart, update ─────┘              └─ from any of them
//! ```

use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::state::{Key, Machine, State};
use super::types::{MachineConfig, RestartPolicy, content};
use super::{Shared, checks, image};
use crate::process::{Process, Spawn};
use crate::root_fs::RootFs;

/// An order that the API, or a test, gives to a Machine.
pub(crate) enum Order {
    /// Boot it for the first time, or again after it was stopped.
    Start,
    Stop(Stop),
    /// Stop it, and boot it again with the config that it has then.
    Restart(Stop),
    Destroy,
    /// Let its main process die.
    Crash,
    /// Let its processes stand still, since its host is lost.
    HostDown,
    /// Let them go on.
    HostUp,
}

/// How to end processes: a signal first, SIGKILL after the timeout.
#[derive(Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) signal: i32,
    pub(crate) timeout: Duration,
}

/// How long a Machine shows as `destroying`, and a failed launch as `launch_failed`.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// A Machine that crashes as soon as it starts is not started again faster than this.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

enum Phase {
    /// It was created without launching, was stopped, or has ended.
    Down,
    /// It shows `created` until this time, when it becomes `starting`.
    Preparing(Instant),
    /// It shows `starting` until this time, when its processes start.
    Booting(Instant),
    Running,
    /// Its processes were told to end. Those that still run at this time are killed.
    Stopping(Instant, AfterStop),
    /// It shows `destroying` until this time.
    Ending(Instant),
}

#[derive(Clone, Copy)]
enum AfterStop {
    StayDown,
    Boot,
}

/// The task's own state.
struct Runner {
    shared: Arc<Shared>,
    key: Key,
    orders: mpsc::UnboundedReceiver<Order>,
    phase: Phase,
    processes: Vec<Process>,
    /// The running checks; dropping them ends them.
    checks: Option<JoinSet<()>>,
    addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// How often it crashed since the last order.
    restarts: u32,
}

/// Starts the task of a Machine. It ends when the Machine is destroyed or removed from the world.
pub(crate) fn start(
    shared: Arc<Shared>,
    key: Key,
    addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    orders: mpsc::UnboundedReceiver<Order>,
) {
    let (phase, processes) = (Phase::Down, Vec::new());
    let runner = Runner { shared, key, orders, phase, processes, checks: None, addresses, restarts: 0 };
    crate::runtime().spawn(runner.run());
}

impl Runner {
    async fn run(mut self) {
        while !matches!(self.phase, Phase::Ending(at) if at <= Instant::now()) {
            let due = self.due();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = async { sleep_until(due.expect("only polled with one")).await }, if due.is_some() => self.move_on(),
                (number, status) = first_exit(&mut self.processes) => {
                    self.processes.remove(number);
                    self.exited(status.success());
                }
            }
        }
        self.processes.clear();
        self.change(|machine| {
            machine.addresses = None;
            machine.enter(State::Destroyed, "destroy", "flyd");
        });
        self.shared.edge_must_look();
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Preparing(at) | Phase::Booting(at) | Phase::Stopping(at, _) | Phase::Ending(at) => Some(at),
            Phase::Down | Phase::Running => None,
        }
    }

    fn obey(&mut self, order: Order) {
        let ending = matches!(self.phase, Phase::Ending(_));
        match order {
            Order::HostDown => self.signal(libc::SIGSTOP),
            Order::HostUp => self.signal(libc::SIGCONT),
            Order::Destroy => {
                self.checks = None;
                self.processes.clear();
                self.phase = Phase::Ending(Instant::now() + LAST_WORDS);
            }
            _ if ending => {}
            Order::Start => {
                self.restarts = 0;
                self.prepare();
            }
            Order::Stop(stop) => self.stop(stop, AfterStop::StayDown),
            Order::Restart(stop) => {
                self.restarts = 0;
                self.stop(stop, AfterStop::Boot);
            }
            Order::Crash if !matches!(self.phase, Phase::Running) => {}
            Order::Crash if self.processes.is_empty() => self.exited(false),
            Order::Crash => self.signal(libc::SIGKILL),
        }
    }

    /// Ends a phase whose time has come.
    fn move_on(&mut self) {
        match self.phase {
            Phase::Preparing(_) => self.boot(Duration::ZERO),
            Phase::Booting(_) => self.started(),
            Phase::Stopping(..) => self.signal(libc::SIGKILL),
            Phase::Down | Phase::Running | Phase::Ending(_) => {}
        }
    }

    fn prepare(&mut self) {
        let boot = self.shared.settings().machine_boot;
        self.phase = Phase::Preparing(Instant::now() + boot / 4);
    }

    fn boot(&mut self, pause: Duration) {
        let boot = self.shared.settings().machine_boot;
        self.phase = Phase::Booting(Instant::now() + (boot * 3 / 4).max(pause));
        self.change(|machine| {
            let checks = machine.services.iter_mut().flat_map(|service| &mut service.checks);
            checks.chain(&mut machine.top_level_checks).for_each(|check| check.result = None);
        });
        self.enter(State::Starting, "launch");
    }

    fn started(&mut self) {
        let Some(config) = self.change(|machine| machine.config.clone()) else { return };
        if !image::is_known(config.image.as_deref().unwrap_or_default()) {
            self.enter(State::LaunchFailed, "launch");
            self.phase = Phase::Ending(Instant::now() + LAST_WORDS);
            return;
        }
        if let Some(addresses) = self.addresses {
            match self.start_processes(&config, addresses) {
                Ok(processes) => self.processes = processes,
                // There is no such program, or a file cannot be written: treat it as a process that ended at once.
                Err(error) => {
                    eprintln!("lab: Machine {}: {error}", self.key.id);
                    return self.exited(false);
                }
            }
        }
        self.phase = Phase::Running;
        self.enter(State::Started, "start");
        self.checks = Some(checks::start(&self.shared, &self.key, &config, self.addresses.map(|(tcp, _)| tcp)));
    }

    fn stop(&mut self, stop: Stop, then: AfterStop) {
        self.checks = None;
        self.phase = Phase::Stopping(Instant::now() + stop.timeout, then);
        if self.processes.is_empty() {
            self.stopped(then);
        }
        self.signal(stop.signal);
    }

    fn stopped(&mut self, then: AfterStop) {
        match then {
            AfterStop::Boot => self.boot(Duration::ZERO),
            AfterStop::StayDown => {
                self.phase = Phase::Down;
                self.enter(State::Stopped, "exit");
            }
        }
    }

    /// Reacts to the end of a process, which ended by itself or because it was told to.
    fn exited(&mut self, success: bool) {
        if let Phase::Stopping(_, then) = self.phase {
            if self.processes.is_empty() {
                self.stopped(then);
            }
            return;
        }
        self.checks = None;
        self.processes.clear();
        self.enter(State::Stopped, "exit");
        let Some((restart, auto_destroy)) = self.change(|machine| {
            (machine.config.restart.clone().unwrap_or_default(), machine.config.auto_destroy == Some(true))
        }) else {
            return;
        };
        self.restarts += 1;
        let again = match restart.policy {
            Some(RestartPolicy::Always) => true,
            Some(RestartPolicy::No) => false,
            Some(RestartPolicy::OnFailure) | None => !success && self.restarts <= restart.max_retries.unwrap_or(10),
        };
        self.phase = Phase::Down;
        if again {
            self.boot(RESTART_PAUSE);
        } else if auto_destroy {
            self.enter(State::Destroying, "destroy");
            self.phase = Phase::Ending(Instant::now() + LAST_WORDS);
        }
    }

    fn signal(&self, signal: i32) {
        self.processes.iter().for_each(|process| process.signal(signal));
    }

    /// Writes the config's files and starts its processes, each with the Machine's own root and addresses.
    fn start_processes(&self, config: &MachineConfig, addresses: (Ipv4Addr, Ipv4Addr)) -> io::Result<Vec<Process>> {
        let directory = self.shared.machine_directory(&self.key.id);
        // "rootfs resets" (Fly docs, Machine update). An error may be ignored: there may be no root yet.
        let _ = std::fs::remove_dir_all(directory.join("root"));
        std::fs::create_dir_all(directory.join("root"))?;
        let mut root = RootFs::new(directory.join("root"), addresses.0).with_udp_address(addresses.1);
        let image = config.image.as_deref().unwrap_or_default();
        let mut files = image::files(image);
        for file in config.files.iter().flatten() {
            let content = content(file).map_err(io::Error::other)?;
            files.insert(file.guest_path.clone().unwrap_or_default(), (file.mode.unwrap_or(0o644), content));
        }
        files.keys().for_each(|path| root.mount(path));
        for (path, (mode, content)) in &files {
            root.write(path, *mode, content)?;
        }
        let environment = self.environment(config);
        let start = |command: image::Command| {
            let environment = environment.iter().cloned().chain(command.env);
            Process::spawn(Spawn {
                program: image::program(&command.argv[0], image, self.shared.parts)?,
                argv0: Some("frps".to_owned()),
                args: command.argv[1..].iter().map(|argument| root.map_argument(argument)).collect(),
                env: environment.map(|(name, value)| (name, root.map_argument(&value))).collect(),
                dir: directory.join("root"),
                log: self.shared.machine_log(&self.key.id),
            })
        };
        image::commands(config)?.into_iter().map(start).collect()
    }

    /// The environment that Fly sets in every Machine (docs, runtime environment), with the additions of the config.
    fn environment(&self, config: &MachineConfig) -> Vec<(String, String)> {
        let fly = self.shared.with_machine(&self.key, |machine| {
            vec![
                ("FLY_APP_NAME".to_owned(), self.key.app.clone()),
                ("FLY_MACHINE_ID".to_owned(), machine.id.clone()),
                ("FLY_MACHINE_VERSION".to_owned(), machine.version.clone()),
                ("FLY_PRIVATE_IP".to_owned(), machine.private_ip.clone()),
                ("FLY_REGION".to_owned(), machine.region.clone()),
            ]
        });
        fly.into_iter().flatten().chain(config.env.clone().into_iter().flatten()).collect()
    }

    /// Enters a state, unless the API has decided already that the Machine is to be destroyed.
    fn enter(&self, state: State, event: &str) {
        self.change(|machine| {
            if machine.state != State::Destroying {
                machine.enter(state, event, "flyd");
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.shared.with_machine(&self.key, change)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.processes.clear();
        // An error may be ignored: the root may be gone already, with the slot's directory.
        let _ = std::fs::remove_dir_all(self.shared.machine_directory(&self.key.id).join("root"));
        if let Some(addresses) = self.addresses {
            self.shared.slot.release_machine(addresses);
        }
    }
}

/// Waits until one of the processes ends, for ever if there are none. Returns its index and its exit status.
async fn first_exit(processes: &mut [Process]) -> (usize, ExitStatus) {
    let mut waits: Vec<Pin<Box<_>>> = processes.iter_mut().map(|process| Box::pin(process.wait())).collect();
    poll_fn(|context| {
        for (number, wait) in waits.iter_mut().enumerate() {
            if let std::task::Poll::Ready(status) = wait.as_mut().poll(context) {
                return std::task::Poll::Ready((number, status));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

impl Shared {
    /// The directory of a Machine's root and log.
    fn machine_directory(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// The file with the output of a Machine's processes. It is kept when the Machine is destroyed.
    pub(crate) fn machine_log(&self, id: &str) -> PathBuf {
        self.machine_directory(id).join("log")
    }
}
