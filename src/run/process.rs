//! A process is wired up: clients, telemetry, signals and the channel to the loop. Each goal takes it from here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::{fs, io};

use kube_client_lite::lease::Leadership;
use kube_client_lite::{Client, ClientOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cluster::find::{self, NotBegun};
use crate::cluster::kubernetes::Kubernetes;
use crate::config::flags;
use crate::config::{Config, Mode};
use crate::controller::threads::{self, End};
use crate::controller::{Event, Pace};
use crate::events::Events;
use crate::fly::client as fly;
use crate::goal::{Goal, TRIES};
use crate::leader::identity::identity;
use crate::leader::{Elector, Leave, Running};
use crate::random;
use crate::telemetry::{self, Telemetry};
use crate::tunnel::names::Owner;
use crate::tunnel::{TunnelId, desired};
use crate::world::World;

/// So many tunnels replace lanes that serve at once. A move takes half a minute or so, most of it waiting; so an upgrade moves a thousand
/// tunnels within an hour.
const MOVES: usize = 10;

/// Why the process ends otherwise than well.
pub enum Exit {
    /// A bad or missing value: exit code 2.
    Usage(String),
    /// The work did not work out: exit code 1.
    Work(String),
}

/// A process that is wired up, and has begun nothing.
pub struct Process {
    pub world: Arc<World>,
    pub pace: Pace,
    /// `None`: there is no election, and this process leads.
    pub elector: Option<Elector>,
    leadership: Leadership,
    telemetry: Arc<Telemetry>,
    events: (Sender<Event>, Receiver<Event>),
    /// Something was begun, so the end has to wait for it.
    begun: Arc<AtomicBool>,
}

/// The election, if there is one.
pub struct Election(Option<Running>);

impl Exit {
    /// The work did not work out, for these reasons.
    pub fn work(failures: impl IntoIterator<Item = String>) -> Exit {
        Exit::Work(failures.into_iter().collect::<Vec<_>>().join("\nfly-tunnel-operator: "))
    }

    /// All is well where there are no failures.
    pub fn unless_empty(failures: Vec<String>) -> Result<(), Exit> {
        if failures.is_empty() { Ok(()) } else { Err(Exit::work(failures)) }
    }
}

impl From<NotBegun> for Exit {
    fn from(NotBegun(message): NotBegun) -> Exit {
        Exit::Work(message)
    }
}

impl Process {
    /// Finds the cluster and wires everything up.
    ///
    /// # Errors
    /// A setting does not do, or the cluster cannot be asked.
    pub fn start(config: Config) -> Result<Process, Exit> {
        let found = find::find(&config.kubernetes).map_err(Exit::Usage)?;
        telemetry::log::start(config.log_format);
        let mode = config.mode;
        let (events, begun) = (mpsc::channel(), Arc::new(AtomicBool::new(false)));
        // A dry run has nothing to finish.
        if mode != Mode::DryRun {
            stop_on_signals(events.0.clone(), Arc::clone(&begun), mode)
                .map_err(|error| Exit::Work(format!("signals cannot be caught: {error}")))?;
        }
        let (version, server) = (env!("CARGO_PKG_VERSION"), found.config.server());
        log::info!("fly-tunnel-operator {version} for {} at {server}", config.class);
        let telemetry = Arc::new(Telemetry::default());
        if mode == Mode::Serve {
            serve_telemetry(&config.http_bind_address, &telemetry)?;
        }
        // Beside the process that serves, somebody may run another in its pod by hand.
        let token = (found.in_pod && mode == Mode::Serve)
            .then(|| fs::read_to_string(config.kubernetes.service_account_dir.join("token")).ok())
            .flatten();
        let pods_own = found.in_pod.then(|| found.config.namespace()).flatten();
        let namespace = config.kubernetes.namespace_or(pods_own);
        let timeout = config.request_timeout();
        let options =
            ClientOptions { idle_connections: fly::IDLE_CONNECTIONS, timeout, ..ClientOptions::new(fly::USER_AGENT) };
        let kube = Client::new(found.config, &options).map_err(|error| Exit::Usage(error.to_string()))?;
        let tries = (mode != Mode::Serve).then_some(TRIES);
        let owner = Owner { cluster_name: find::meet(&kube, config.cluster_name, tries)?, class: config.class };
        telemetry.metrics.owned_by(owner.clone());
        let metrics = Arc::clone(&telemetry.metrics);
        let count = move |operation, result, took| metrics.fly_request(operation, result, took);
        let fly = Box::new(fly::Client::new(config.fly, timeout, count).map_err(Exit::Usage)?);
        let elector = config
            .election
            .map(|timings| Elector::new(&kube, &namespace, &owner.class, identity(token.as_deref()), timings, timeout));
        let leadership = elector.as_ref().map_or_else(Leadership::without_election, Elector::leadership);
        let cluster = Arc::new(Kubernetes::new(kube, &namespace));
        let world = Arc::new(World {
            events: Events::new(cluster.clone()),
            cluster,
            fly,
            random: Box::new(random::System),
            namespace,
            owner_id: owner.id(),
            owner,
            settings: config.settings,
            desire: if mode == Mode::Drain { desired::drained_tunnel } else { desired::tunnel },
            next_deletion: Mutex::default(),
        });
        let (poll_interval, resync_interval, workers) = (config.poll_interval, config.resync_interval, config.workers);
        let pace =
            Pace { poll_interval, resync_interval, workers, moves: MOVES, delete_orphans: config.delete_orphans };
        Ok(Process { world, pace, elector, leadership, telemetry, events, begun })
    }

    /// The election goes on beside the work, from here to the end.
    pub fn start_election(&mut self) -> Election {
        let events = self.events.0.clone();
        let changed = move || {
            let _ = events.send(Event::Woken); // nobody listens: the process ends
        };
        Election(self.elector.take().map(|elector| elector.start(Arc::clone(&self.telemetry), changed)))
    }

    /// Works until the goal is reached, or the process is told to end. `orphans` are taken down.
    pub fn work(self, goal: Goal, orphans: Vec<TunnelId>) -> End {
        self.begun.store(true, Ordering::Release);
        threads::run(self.world, self.pace, goal, &self.leadership, self.telemetry, self.events, orphans)
    }
}

impl Election {
    /// Ends it. Whether the Lease was left like that.
    pub fn end(self, leave: Leave) -> bool {
        self.0.is_none_or(|running| running.end(leave))
    }
}

fn serve_telemetry(bind_address: &str, telemetry: &Arc<Telemetry>) -> Result<(), Exit> {
    let told = |error: io::Error| Exit::Usage(format!("{}: {error}", flags::HTTP_BIND_ADDRESS.label()));
    let address = telemetry::http::serve(bind_address, Arc::clone(telemetry)).map_err(told)?;
    log::info!("health and metrics are served at {address}");
    Ok(())
}

/// The first SIGTERM or SIGINT asks the loop to end; the second, or one that comes before the work has begun, ends the process
/// at once.
fn stop_on_signals(events: Sender<Event>, begun: Arc<AtomicBool>, mode: Mode) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if !begun.load(Ordering::Acquire) {
                log::info!("{}", mode.nothing_begun());
                std::process::exit(i32::from(mode != Mode::Serve));
            }
            if !asked {
                // Said before anybody hears of it, since the process may end at once.
                log::info!("ending; what is under way is given a moment");
            }
            if std::mem::replace(&mut asked, true) || events.send(Event::Stop).is_err() {
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}
