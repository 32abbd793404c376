//! The built operator as a process outside of the cluster, as users run it to debug.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::homelab::Homelab;
use crate::process::{Process, Spawn};

/// The deadline for the operator to log its HTTP address. It serves its health before it asks the cluster for anything.
const SAID_DEADLINE: Duration = Duration::from_secs(30);

/// An operator that is about to be started. Its environment has the settings of its lab, short intervals, and no
/// election of a leader. It has the rights of [`crate::rights`].
pub struct Operator<'a> {
    lab: &'a Homelab,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(lab: &'a Homelab, binary: &Path) -> Operator<'a> {
        let environment = [
            ("KUBECONFIG", lab.operator_kubeconfig().display().to_string()),
            ("FLY_FLAPS_BASE_URL", lab.fly_url()),
            ("FLY_API_TOKEN", lab.fly().token().to_owned()),
            ("FLY_ORG", lab.fly().organisation().to_owned()),
            ("FLY_REGION", "ord".to_owned()),
            ("OPERATOR_NAMESPACE", lab.operator_namespace().to_owned()),
            ("CLUSTER_NAME", lab.cluster_name().to_owned()),
            ("LOAD_BALANCER_CLASS", lab.class()),
            ("POLL_INTERVAL", "500ms".to_owned()),
            ("RESYNC_INTERVAL", "5s".to_owned()),
            ("FLY_SETTLE_TIME", "2s".to_owned()),
            ("DRAIN_TIMEOUT", "3s".to_owned()),
            ("LEADER_ELECT", "false".to_owned()),
            ("HTTP_BIND_ADDRESS", "127.0.0.1:0".to_owned()),
            ("RUST_LOG", "debug".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        Operator { lab, binary: binary.to_owned(), arguments: Vec::new(), environment }
    }

    /// Gives it proxies of its own: its requests are logged as those of this client, and faults can strike it alone.
    ///
    /// # Panics
    /// It panics if its kubeconfig is not the lab's.
    pub fn named(self, client: &str) -> Self {
        let (lab, recorder) = (self.lab, self.lab.recorder());
        let fly = recorder.before_fly(lab.fly().address(), client);
        let api_server = recorder.before_kubernetes(lab.cluster().api_server(), lab.cluster().authority(), client);
        let kubeconfig = std::fs::read_to_string(&self.environment["KUBECONFIG"]).expect("the lab's kubeconfig");
        let kubeconfig = kubeconfig.replace(&lab.api_server().to_string(), &api_server.to_string());
        let file = lab.directory().join(format!("kubeconfig-{client}"));
        std::fs::write(&file, kubeconfig).expect("the lab's directory can be written");
        self.env("FLY_FLAPS_BASE_URL", &format!("http://{fly}")).env("KUBECONFIG", &file.display().to_string())
    }

    /// Runs the binary by this program, such as an emulator of its processor. Give it before any argument.
    ///
    /// # Panics
    /// It panics if there are arguments already.
    pub fn run_by(self, program: &Path) -> Self {
        assert!(self.arguments.is_empty(), "the binary is the first argument of {}", program.display());
        let binary = self.binary.to_str().expect("a path in UTF-8").to_owned();
        Operator { binary: program.to_owned(), ..self }.arg(&binary)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable from its environment.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Gives it all rights, as a person may have who tries it by hand.
    pub fn as_admin(self) -> Self {
        let kubeconfig = self.lab.kubeconfig().display().to_string();
        self.env("KUBECONFIG", &kubeconfig)
    }

    /// Starts the operator.
    ///
    /// # Panics
    /// It panics if the binary cannot be run.
    pub fn start(self) -> RunningOperator {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = self.lab.directory().join(format!("operator-{number}.log"));
        let process = Process::spawn(Spawn {
            program: self.binary,
            argv0: None,
            args: self.arguments,
            env: self.environment.into_iter().collect(),
            dir: self.lab.directory().to_owned(),
            log: log.clone(),
        });
        RunningOperator { process: process.expect("the operator can be started"), log }
    }
}

/// A running operator. It is killed when dropped.
pub struct RunningOperator {
    process: Process,
    log: PathBuf,
}

impl RunningOperator {
    /// The address at which it serves health and metrics. It takes any free port, so this is read from its log.
    ///
    /// # Panics
    /// It panics if the operator does not log the address in time.
    pub fn http_address(&self) -> SocketAddr {
        let end = Instant::now() + SAID_DEADLINE;
        loop {
            let log = self.log();
            let said = log.split_once("health and metrics are served at ").map(|(_, rest)| rest);
            // A line without a line break is still being written: wait for the rest of it.
            let line = said.and_then(|rest| rest.split_once('\n')).map(|(line, _)| line);
            let address = line.and_then(|line| line.split(['"', ' ']).next()?.parse().ok());
            if let Some(address) = address {
                return address;
            }
            assert!(Instant::now() < end, "it does not say where it serves its metrics: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it with SIGKILL, wherever in its work it is.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Stops it (SIGSTOP), wherever in its work it is, until [`RunningOperator::resume`].
    pub fn pause(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(libc::SIGTERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.process.signal(libc::SIGINT);
    }

    /// Everything that it has printed so far, on both streams.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Waits until it ends; `None` after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let wait = async { tokio::time::timeout(deadline, self.process.wait()).await };
        crate::runtime().block_on(wait).ok()
    }
}
