//! A simulated Fly.io: the Machines API, Machines that run the real frps, and the edge before them.
//!
//! ```text
//!  API client ──► api ──► state ◄── machine (boots, restarts, runs frps) ──► checks (dial the Machine)
//!                           ▲
//!  user, frpc ──► edge ─────┘ which Machine?   ──► frps at 127.77.x.y
//! ```
//!
//! | module | |
//! |---|---|
//! | [`types`] | requests and configs as they go over the wire, strictly read |
//! | `api` | the handlers, a file for each part of the API |
//! | `state`, `view` | what exists: organisations, Apps, Machines, addresses; and its JSON |
//! | `machine`, `image` | a Machine over time, and what its image runs |
//! | `checks` | health checks, run for real |
//! | `edge`, `udp`, `proxy_protocol`, `delayed` | how connections of users reach a Machine |
//! | `limits`, `regions`, `ids`, `error` | the details that clients trip over |
//!
//! `ASSUMPTIONS.md` lists where the lab has to guess how the real Fly behaves.

mod api;
mod checks;
mod delayed;
mod edge;
mod error;
mod ids;
mod image;
mod limits;
mod machine;
mod proxy_protocol;
mod regions;
mod state;
pub mod types;
mod udp;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use self::machine::Order;
use self::state::{App, Key, Machine, Organisation, World};
use crate::parts::Parts;
use crate::slot::Slot;

pub use self::state::Account;

/// The settings of a Fly. Most of them may be changed while it runs ([`Fly::set`]).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The time from a Machine's creation or start to `started`.
    pub machine_boot: Duration,
    /// A delay of every request to the API.
    pub latency: Duration,
    /// How late the edges of users learn of Machines, checks and cordons.
    pub edge_delay: Duration,
    /// The same for the ports on which frps listens for frpc.
    pub control_edge_delay: Duration,
    /// How much later edges learn of checks than of everything else. It must not be zero: frps listens before frpc has
    /// read that its proxy was accepted, and until then frpc closes the connections that reach it (0.61.1; up to 90 ms
    /// on a busy machine).
    pub edge_check_delay: Duration,
    /// How late edges learn that a host is lost or back. Until then they pass connections on to it, which vanish.
    pub edge_host_delay: Duration,
    /// How long the API goes on to call a lost host well. Its Machines' states and checks stay as they were in any case.
    pub host_loss_shown_after: Duration,
    /// How long a new App answers 404.
    pub app_appears_after: Duration,
    /// How long a new Machine answers 404 and is missing in lists.
    pub machine_appears_after: Duration,
    /// How long a new address is missing in lists.
    pub address_appears_after: Duration,
    /// The time from the acceptance of an App's deletion until it is gone.
    pub app_deletion: Duration,
    /// The time between the first success of a check and the moment that Fly shows it.
    pub checks_pass_late: Duration,
    /// Whether requests beyond Fly's rate limits get a 429.
    pub rate_limits: bool,
}

impl Default for Settings {
    /// A quick Fly with rate limits, whose edges learn of everything but checks at once.
    fn default() -> Settings {
        Settings {
            machine_boot: Duration::from_millis(300),
            latency: Duration::ZERO,
            edge_delay: Duration::ZERO,
            control_edge_delay: Duration::ZERO,
            edge_check_delay: Duration::from_millis(250),
            edge_host_delay: Duration::ZERO,
            host_loss_shown_after: Duration::ZERO,
            app_appears_after: Duration::ZERO,
            machine_appears_after: Duration::ZERO,
            address_appears_after: Duration::ZERO,
            app_deletion: Duration::from_millis(200),
            checks_pass_late: Duration::ZERO,
            rate_limits: true,
        }
    }
}

/// A simulated Fly, which begins with one organisation. It ends, with all Machines, when it is dropped.
pub struct Fly {
    shared: Arc<Shared>,
    organisation: String,
    token: String,
    address: SocketAddr,
    server: AbortHandle,
}

/// The state and the settings that the parts of a Fly share.
pub(crate) struct Shared {
    world: Mutex<World>,
    limits: Mutex<limits::Limits>,
    settings: Mutex<Settings>,
    edge: edge::Edge,
    slot: Arc<Slot>,
    /// The directory in which Machines have their roots and logs.
    directory: PathBuf,
    parts: &'static Parts,
    /// Whether Machines run processes and the edge listens.
    traffic: bool,
    /// A reference to itself, for the tasks that it starts.
    this: Weak<Shared>,
}

impl Fly {
    /// Starts a Fly with the organisation `personal`.
    ///
    /// With `traffic` off, Machines are states without processes, their checks
    /// pass by themselves, and nothing listens on public addresses.
    pub fn start(slot: &Arc<Slot>, parts: &'static Parts, traffic: bool, settings: Settings) -> Fly {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = slot.directory().join(format!("fly-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&directory).expect("the slot's directory can be written");
        let shared = Arc::new_cyclic(|this| Shared {
            world: Mutex::default(),
            limits: Mutex::default(),
            settings: Mutex::new(settings),
            edge: edge::Edge::default(),
            slot: slot.clone(),
            directory,
            parts,
            traffic,
            this: this.clone(),
        });
        let listener = crate::runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let service = api::router(shared.clone());
        let server = crate::runtime().spawn(async move { axum::serve(listener, service).await }).abort_handle();
        let organisation = "personal".to_owned();
        let token = shared.add_organisation(&organisation);
        Fly { shared, organisation, token, address, server }
    }

    /// The address of the API, which speaks plain HTTP. (Clients of the lab go through a recorder.)
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The slug of the first organisation.
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// The token of the first organisation.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Adds another organisation; returns its token.
    pub fn add_organisation(&self, slug: &str) -> String {
        self.shared.add_organisation(slug)
    }

    /// Adds an App that somebody else made, in any organisation and with any network (Fly's own is called `default`).
    pub fn add_app(&self, organisation: &str, name: &str, network: &str) {
        let mut world = self.shared.world();
        let app = App::new(&mut world, name, organisation, network, Instant::now());
        world.apps.insert(name.to_owned(), app);
    }

    /// Changes how this Fly behaves from now on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.settings.lock().expect("no one panics while holding it"));
    }

    /// Sets how many Machines each region takes. Regions not named take any number.
    pub fn set_capacity(&self, regions: impl IntoIterator<Item = (String, usize)>) {
        self.shared.world().capacity = regions.into_iter().collect();
    }

    /// Changes what the account of the first organisation allows.
    pub fn set_account(&self, account: Account) {
        let mut world = self.shared.world();
        let organisation = world.organisations.iter_mut().find(|organisation| organisation.slug == self.organisation);
        organisation.expect("it is never removed").account = account;
    }

    /// Makes the token useless, as if a user had revoked it, and returns the new one.
    pub fn rotate_token(&self) -> String {
        let mut world = self.shared.world();
        let organisation = world.organisations.iter_mut().find(|organisation| organisation.slug == self.organisation);
        let organisation = organisation.expect("it is never removed");
        organisation.token = ids::token();
        organisation.token.clone()
    }

    /// Lets the Machine's main process die. Returns `false` if there is no such Machine.
    pub fn crash(&self, machine: &str) -> bool {
        self.shared.order(machine, Order::Crash)
    }

    /// Loses the host of a Machine (each has one of its own) without a word: what is sent to it vanishes, and its checks
    /// tell nothing new. Edges and the API learn of it as late as the settings say. Returns `false` if there is no such
    /// Machine.
    pub fn host_down(&self, machine: &str) -> bool {
        self.shared.host(machine, false, Order::HostDown)
    }

    /// Brings the host back, with everything that ran on it.
    pub fn host_up(&self, machine: &str) -> bool {
        self.shared.host(machine, true, Order::HostUp)
    }

    /// Loses all hosts of a region. It takes no Machines until it is back.
    pub fn region_down(&self, region: &str) {
        self.shared.world().lost_regions.insert(region.to_owned());
        self.machines_in(region).iter().for_each(|machine| assert!(self.host_down(machine), "{machine} is there"));
    }

    /// Brings a region back, with everything that ran there.
    pub fn region_up(&self, region: &str) {
        self.shared.world().lost_regions.remove(region);
        self.machines_in(region).iter().for_each(|machine| assert!(self.host_up(machine), "{machine} is there"));
    }

    fn machines_in(&self, region: &str) -> Vec<String> {
        self.shared.world().machines_in(region).map(|(_, machine)| machine.id.clone()).collect()
    }

    /// The output of the Machine's processes so far.
    pub fn machine_log(&self, machine: &str) -> String {
        std::fs::read_to_string(self.shared.machine_log(machine)).unwrap_or_default()
    }

    /// The IDs of the Machines to which the edge would pass on a connection to this port of an App now. It hears of
    /// checks and cordons later than the API shows them.
    pub fn machines_at_edge(&self, app: &str, port: u16) -> Vec<String> {
        edge::machines(&self.shared, app, port)
    }

    /// How many connections to this port, of any App, had to wait so far because the edge knew of no Machine for them.
    pub fn kept_waiting(&self, port: u16) -> usize {
        self.shared.edge.kept_waiting(port)
    }

    /// Everything that exists now, as `GET /state` of the lab shows it, without destroyed Machines.
    pub fn state(&self) -> Value {
        let world = self.shared.world();
        json!({ "apps": world.apps.values().map(App::to_state).collect::<Vec<_>>() })
    }
}

impl Drop for Fly {
    fn drop(&mut self) {
        self.server.abort();
        // Removing the Apps ends the tasks of their Machines, and with these their processes.
        let names: Vec<String> = self.shared.world().apps.keys().cloned().collect();
        names.iter().for_each(|name| self.shared.remove_app(name));
        self.shared.edge.close();
    }
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no one panics while holding it")
    }

    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock().expect("no one panics while holding it")
    }

    /// A strong reference, for a task.
    fn strong(&self) -> Arc<Shared> {
        self.this.upgrade().expect("whoever calls this holds one")
    }

    fn add_organisation(&self, slug: &str) -> String {
        let token = ids::token();
        let mut world = self.world();
        let id = world.next_number();
        let (slug, account) = (slug.to_owned(), Account::default());
        world.organisations.push(Organisation { slug, id, token: token.clone(), account });
        token
    }

    /// Calls `act` on a Machine, if it is there.
    fn with_machine<T>(&self, key: &Key, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.world().apps.get_mut(&key.app)?.machines.get_mut(&key.id).map(act)
    }

    /// Gives an order to a Machine by its ID alone.
    fn order(&self, id: &str, order: Order) -> bool {
        let mut world = self.world();
        let machine = world.apps.values_mut().find_map(|app| app.machines.get_mut(id));
        // Sending fails for a destroyed Machine, which has no task.
        machine.is_some_and(|machine| machine.orders.send(order).is_ok())
    }

    /// Loses a Machine's host or brings it back. The order does to its processes what that means.
    fn host(&self, id: &str, up: bool, order: Order) -> bool {
        self.with_machine_of_id(id, |machine| {
            machine.host_up = up;
            machine.touch();
        });
        let delay = if up { Duration::ZERO } else { self.settings().host_loss_shown_after };
        let show = |shared: &Shared, id: &str| {
            shared.with_machine_of_id(id, |machine| machine.host_shown_up = machine.host_up)
        };
        if delay.is_zero() {
            show(self, id);
        } else {
            let (shared, id) = (self.this.clone(), id.to_owned());
            crate::runtime().spawn(async move {
                tokio::time::sleep(delay).await;
                if let Some(shared) = shared.upgrade() {
                    show(&shared, &id);
                }
            });
        }
        self.order(id, order)
    }

    fn with_machine_of_id(&self, id: &str, act: impl FnMut(&mut Machine)) {
        self.world().apps.values_mut().filter_map(|app| app.machines.get_mut(id)).for_each(act);
    }

    /// Must be called when Machines, their ports or addresses have changed.
    fn edge_must_look(&self) {
        if self.traffic
            && let Some(shared) = self.this.upgrade()
        {
            self.edge.look(&shared);
        }
    }

    /// Removes an App with its Machines and addresses.
    fn remove_app(&self, name: &str) {
        let app = self.world().apps.remove(name);
        self.edge_must_look();
        for address in app.into_iter().flat_map(|app| app.addresses) {
            self.release(&address);
        }
    }

    fn release(&self, address: &state::Address) {
        if let std::net::IpAddr::V4(ip) = address.ip {
            self.slot.release_public(ip);
        }
    }
}

impl App {
    fn new(world: &mut World, name: &str, organisation: &str, network: &str, visible_from: Instant) -> App {
        App {
            id: ids::app(),
            number: world.next_number(),
            name: name.to_owned(),
            organisation: organisation.to_owned(),
            network: if network.is_empty() { "default" } else { network }.to_owned(),
            idempotency_key: None,
            created_at: SystemTime::now(),
            visible_from,
            deleting: false,
            machines: Default::default(),
            addresses: Vec::new(),
        }
    }
}
