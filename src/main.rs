//! A load balancer for clusters that have none: see README.md for what it does, ARCHITECTURE.md for how.

mod act;
mod backoff;
mod config;
mod controller;
mod failure;
mod fly;
mod observe;
mod render;
mod report;
mod service;
mod telemetry;
mod text;
mod tunnel;
mod world;

use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use kube_client_lite::{Client, ClientOptions, PartialObject, Resource};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use backoff::Repeating;
use config::flags::{self, Command, Given};
use config::{Config, KubernetesConfig};
use controller::{Event, Pace};
use fly::Fly;
use tunnel::names::Owner;
use world::World;

/// The exit code for a bad or missing value.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fly-tunnel-operator: {message}");
            ExitCode::from(USAGE)
        }
    }
}

fn run() -> Result<(), String> {
    let given = match Given::read(std::env::args_os().skip(1), |name| std::env::var_os(name))? {
        Command::Run(given) => given,
        Command::Help => {
            print!("{}", flags::help());
            return Ok(());
        }
        Command::Version => {
            println!("fly-tunnel-operator {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
    };
    let config = Config::resolve(&given)?;
    let cluster = cluster(&config.kubernetes)?;
    telemetry::log::start(config.log_format);

    let (sender, receiver) = mpsc::channel();
    stop_on_signals(sender.clone()).map_err(|error| format!("signals cannot be caught: {error}"))?;

    let namespace = config.kubernetes.namespace_or(cluster.in_pod.then(|| cluster.config.namespace()).flatten());
    log::info!("fly-tunnel-operator {} for {} at {}", env!("CARGO_PKG_VERSION"), config.class, cluster.config.server());
    let options = ClientOptions { idle_connections: fly::IDLE_CONNECTIONS, ..ClientOptions::new(fly::USER_AGENT) };
    let kube = Client::with_options(cluster.config, &options).map_err(|error| error.to_string())?;
    let Some(cluster_name) = config.cluster_name.or_else(|| cluster_uid(&kube, &receiver)) else { return Ok(()) };
    let owner = Owner { cluster_name, class: config.class };
    let fly = Fly::new(config.fly);
    let pace =
        Pace { poll_interval: config.poll_interval, resync_interval: config.resync_interval, workers: config.workers };
    controller::run(World::new(kube, fly, namespace, owner, config.lanes), pace, (sender, receiver));
    Ok(())
}

/// How the cluster is reached.
struct Cluster {
    config: kube_client_lite::Config,
    /// By the ServiceAccount of the pod that we run in.
    in_pod: bool,
}

/// A kubeconfig that is given, else the pod's own ServiceAccount, else `~/.kube/config`.
fn cluster(config: &KubernetesConfig) -> Result<Cluster, String> {
    let in_pod = config.kubeconfig.is_none()
        && config.context.is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let read = match in_pod {
        true => kube_client_lite::Config::in_cluster(&config.service_account_dir),
        false => kube_client_lite::Config::load(config.kubeconfig.as_deref(), config.context.as_deref()),
    };
    match read {
        Ok(config) => Ok(Cluster { config, in_pod }),
        Err(error) => Err(format!("{}: {error}", flags::find("kubeconfig").label())),
    }
}

/// The UID of the namespace `kube-system`, which stands for the cluster. Asked until it is answered; `None` where the
/// process is told to end before.
fn cluster_uid(kube: &Client, events: &Receiver<Event>) -> Option<String> {
    let mut failures = Repeating::default();
    loop {
        match kube.get::<PartialObject>(&format!("{}/kube-system", Resource::NAMESPACES.all())) {
            Ok(namespace) => return Some(namespace.metadata.uid),
            Err(error) => {
                let (delay, new) = failures.failed(&error.to_string());
                if new {
                    log::warn!("the cluster cannot be asked: {error}; trying again");
                }
                if events.recv_timeout(delay).is_ok() {
                    return None; // the only event that anybody sends yet
                }
            }
        }
    }
}

/// The first SIGTERM or SIGINT asks the loop to end; the second ends the process at once.
fn stop_on_signals(events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked || events.send(Event::Stop).is_err() {
                std::process::exit(128 + signal);
            }
            asked = true;
            log::info!("ending; what is under way is given a moment");
        }
    });
    Ok(())
}
