//! `scripts/lab` runs a homelab for a person, in the foreground until Ctrl-C or SIGTERM.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::control::Control;
use lab::fly::Settings;
use lab::homelab::Homelab;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
A homelab in a box: a real Kubernetes control plane, nodes, and a simulated Fly.io with real frp.

Usage: scripts/lab [FLAGS]

  --dir DIR                where to put the file `env` (default: ./lab)
  --nodes N                nodes of the cluster (default: 1)
  --fly-latency MS         added to each request to Fly (default: 0)
  --machine-boot MS        from a Machine's creation to started (default: 1000)
  --edge-delay MS          how late users' edges learn of Machines, checks and cordons (default: 0)
  --control-edge-delay MS  the same for frpc's edge (default: 0)
  --no-traffic             Machines and pods are states without processes
  --help

When all is up, DIR/env is there to be sourced. Ctrl-C ends it all.
";

struct Options {
    directory: PathBuf,
    cluster: ClusterOptions,
    fly: Settings,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("lab: {message}; --help lists all flags");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        directory: PathBuf::from("lab"),
        // scripts/lab has just built the operator and sets this variable to its path.
        cluster: ClusterOptions { operator: std::env::var_os("LAB_OPERATOR").map(PathBuf::from), ..Default::default() },
        fly: Settings { machine_boot: Duration::from_secs(1), ..Settings::default() },
    };
    let mut arguments = arguments.into_iter();
    while let Some(flag) = arguments.next() {
        if flag == "--no-traffic" {
            options.cluster.traffic = false;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{flag}: a value is missing, or there is no such flag"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag}: {value:?} is no number"));
        let milliseconds = || number().map(Duration::from_millis);
        match flag.as_str() {
            "--dir" => options.directory = PathBuf::from(&value),
            "--nodes" => options.cluster.nodes = number()? as usize,
            "--fly-latency" => options.fly.latency = milliseconds()?,
            "--machine-boot" => options.fly.machine_boot = milliseconds()?,
            "--edge-delay" => options.fly.edge_delay = milliseconds()?,
            "--control-edge-delay" => options.fly.control_edge_delay = milliseconds()?,
            _ => return Err(format!("{flag}: no such flag")),
        }
    }
    Ok(options)
}

fn run(options: Options) -> io::Result<()> {
    let signals = signals();
    fs::create_dir_all(&options.directory)?;
    let environment = options.directory.join("env");
    // Remove the file that an earlier lab left: somebody who waits for ours would source the old one.
    remove(&environment)?;
    let traffic = options.cluster.traffic;
    let cluster = Arc::new(Cluster::try_start(options.cluster)?);
    let lab = Arc::new(Homelab::builder().fly(options.fly).traffic(traffic).cluster(&cluster).start());
    cluster.in_cluster_endpoint(None, lab.api_server());
    let control = Control::start(lab.clone());
    let new = options.directory.join(".env.new");
    fs::write(&new, environment_file(&lab, &control))?;
    fs::rename(&new, &environment)?;
    UP.store(true, Ordering::Relaxed);
    eprintln!("lab: up; in another terminal: source {}", environment.display());
    let signal = signals.recv().map_err(io::Error::other)?;
    eprintln!("lab: {signal}: ending");
    remove(&environment)
}

/// Whether the lab is up. If so, a signal takes it down in order.
static UP: AtomicBool = AtomicBool::new(false);

/// Receives the names of signals that tell the lab to end. A signal that comes before the lab is up ends the process,
/// and with it all that it has started.
fn signals() -> Receiver<&'static str> {
    let (sender, receiver) = channel();
    thread::spawn(move || tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(listen(sender)));
    receiver
}

async fn listen(signals: Sender<&'static str>) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        if !UP.load(Ordering::Relaxed) || signals.send(name).is_err() {
            std::process::exit(1);
        }
    }
}

fn remove(file: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The text of `lab/env`: `export` lines for a shell.
fn environment_file(lab: &Homelab, control: &Control) -> String {
    let variables = [
        ("KUBECONFIG", lab.kubeconfig().display().to_string()),
        ("FLY_FLAPS_BASE_URL", lab.fly_url()),
        ("FLY_API_TOKEN", lab.fly().token().to_owned()),
        ("FLY_ORG", lab.fly().organisation().to_owned()),
        ("FLY_REGION", "ord".to_owned()),
        ("LAB_URL", control.url()),
    ];
    let mut text: String = variables.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    text.push_str(&format!("export PATH='{}':\"$PATH\"\n", lab.cluster().bin().display()));
    text
}
