//! A load balancer for clusters that have none: see README.md for what it does, ARCHITECTURE.md for how.

mod act;
mod backoff;
mod cluster;
mod config;
mod controller;
mod drain;
mod dry_run;
mod events;
mod failure;
mod fly;
mod leader;
mod observe;
mod render;
mod report;
mod service;
mod telemetry;
mod text;
mod tunnel;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::Leadership;
use kube_client_lite::{Client, ClientOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use cluster::NotBegun;
use config::flags::{self, Command, Given};
use config::{Config, Mode};
use controller::{Event, Pace};
use drain::Found;
use fly::Fly;
use leader::{Elector, Leave, Running};
use telemetry::Telemetry;
use tunnel::names::Owner;
use world::World;

/// How often `--once` and `--drain` try what fails.
const TRIES: u32 = 4;

/// How long the last write of the Lease may take at the end.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// Why the process ends otherwise than well.
enum Exit {
    /// A bad or missing value: exit code 2.
    Usage(String),
    /// What was asked for did not work out: exit code 1.
    Work(String),
}

impl From<NotBegun> for Exit {
    fn from(NotBegun(message): NotBegun) -> Exit {
        Exit::Work(message)
    }
}

fn main() -> ExitCode {
    let (code, message) = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Exit::Work(message)) => (1, message),
        Err(Exit::Usage(message)) => (2, message),
    };
    eprintln!("fly-tunnel-operator: {message}");
    ExitCode::from(code)
}

fn run() -> Result<(), Exit> {
    let environment = |name: &str| std::env::var_os(name);
    match Given::read(std::env::args_os().skip(1), environment).map_err(Exit::Usage)? {
        Command::Run(given) => serve(Config::resolve(&given).map_err(Exit::Usage)?),
        Command::Help => tell(&flags::help()),
        Command::Version => tell(concat!("fly-tunnel-operator ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// Whoever reads it may have enough before the end (`--help | head`).
fn tell(text: &str) -> Result<(), Exit> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::Work(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

fn serve(config: Config) -> Result<(), Exit> {
    let cluster = cluster::find(&config.kubernetes).map_err(Exit::Usage)?;
    telemetry::log::start(config.log_format);
    let (sender, receiver) = mpsc::channel();
    let begun = Arc::new(AtomicBool::new(false));
    // A dry run has nothing to finish.
    if config.mode != Mode::DryRun {
        stop_on_signals(sender.clone(), Arc::clone(&begun), config.mode)
            .map_err(|error| Exit::Work(format!("signals cannot be caught: {error}")))?;
    }

    log::info!("fly-tunnel-operator {} for {} at {}", env!("CARGO_PKG_VERSION"), config.class, cluster.config.server());
    let telemetry = Arc::new(Telemetry::default());
    if config.mode == Mode::Serve {
        let told = |error| Exit::Usage(format!("{}: {error}", flags::find("http-bind-address").label()));
        let address = telemetry::http::serve(&config.http_bind_address, Arc::clone(&telemetry)).map_err(told)?;
        log::info!("health and metrics are served at {address}");
    }
    let namespace = config.kubernetes.namespace_or(cluster.in_pod.then(|| cluster.config.namespace()).flatten());
    let timeout = config.request_timeout();
    let options =
        ClientOptions { idle_connections: fly::IDLE_CONNECTIONS, timeout, ..ClientOptions::new(fly::USER_AGENT) };
    let kube = Client::with_options(cluster.config, &options).map_err(|error| Exit::Usage(error.to_string()))?;
    let tries = (config.mode != Mode::Serve).then_some(TRIES);
    let cluster_name = cluster::meet(&kube, config.cluster_name, tries)?;

    let owner = Owner { cluster_name, class: config.class };
    telemetry.metrics.owned_by(owner.clone());
    let metrics = Arc::clone(&telemetry.metrics);
    let fly = Fly::new(config.fly, timeout)
        .counted_by(move |operation, result, took| metrics.fly_request(operation, result, took));
    let mut world = World::new(kube.clone(), fly, namespace.clone(), owner, config.lanes);
    world.draining = config.mode == Mode::Drain;
    if config.mode == Mode::DryRun {
        return dry_run::run(&world, &mut io::stdout()).map_err(Exit::Work);
    }

    if world.draining {
        drain::check(&world, TRIES)?;
    }
    let elector = config.election.map(|timings| Elector::new(&kube, &namespace, &world.owner.class, timings, timeout));
    let leadership = elector.as_ref().map_or_else(Leadership::without_election, Elector::leadership);
    let election = elector.map(|elector| elect(elector, config.mode, &telemetry, &sender)).transpose()?;
    let found = match world.draining {
        true => {
            drain::find(&world, TRIES).map_err(|NotBegun(why)| Exit::Work(lines([why, drain::UNFINISHED.into()])))?
        }
        false => Found::default(),
    };
    begun.store(true, Ordering::Release);

    let world = Arc::new(world);
    let pace = Pace {
        poll_interval: config.poll_interval,
        resync_interval: config.resync_interval,
        workers: config.workers,
        once: tries,
    };
    let left: Vec<String> = found.left().collect();
    let mut end = controller::run(Arc::clone(&world), pace, leadership, telemetry, (sender, receiver), found.orphans);
    end.failures.extend(left);
    let leave = Leave::after(config.mode, &end);
    let kept = election.is_none_or(|election| election.end(leave, LAST_WRITE));
    match leave {
        Leave::Retire => end.failures.extend(drain::verdict(&world, kept, config.poll_interval).err()),
        Leave::Expire if world.draining => end.failures.push(drain::UNFINISHED.into()),
        Leave::Expire | Leave::Release => {}
    }
    match end.failures.is_empty() {
        true => Ok(()),
        false => Err(Exit::Work(lines(end.failures))),
    }
}

/// As one message, a line for each.
fn lines(failures: impl IntoIterator<Item = String>) -> String {
    failures.into_iter().collect::<Vec<_>>().join("\nfly-tunnel-operator: ")
}

/// The election goes on beside the work; who works but once leads before it begins.
fn elect(
    mut elector: Elector,
    mode: Mode,
    telemetry: &Arc<Telemetry>,
    events: &Sender<Event>,
) -> Result<Running, NotBegun> {
    match mode {
        Mode::Once => elector.win(TRIES)?,
        Mode::Drain => elector.seize(TRIES)?,
        Mode::Serve | Mode::DryRun => {}
    }
    let events = events.clone();
    let changed = move || drop(events.send(Event::StandingChanged)); // nobody listens: the process ends
    Ok(elector.start(Arc::clone(telemetry), changed))
}

/// The first SIGTERM or SIGINT asks the loop to end; the second, or one that comes before the work has begun, ends the process
/// at once.
fn stop_on_signals(events: Sender<Event>, begun: Arc<AtomicBool>, mode: Mode) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if !begun.load(Ordering::Acquire) {
                match mode {
                    Mode::Drain => {
                        log::info!("ending; no tunnel was touched, and a Lease that was taken expires by itself")
                    }
                    _ => log::info!("ending; nothing was begun"),
                }
                std::process::exit(i32::from(mode != Mode::Serve));
            }
            if !asked {
                // Before anybody hears of it: the process may end at once.
                log::info!("ending; what is under way is given a moment");
            }
            if std::mem::replace(&mut asked, true) || events.send(Event::Stop).is_err() {
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}
