//! Clients lose something when something dies: 8 of them connect as fast as they can while each failure happens, with one lane and with two.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, ClusterOptions};
use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use serde_json::{Value, json};

use crate::{DEADLINE, progress, services};

const CLIENTS: usize = 8;

/// A client gives up then, and the connection counts as failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// The time for which clients connect after each strike.
const WATCHED: Duration = Duration::from_secs(60);

/// A strike takes no longer. What began before its end was under way.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// How long edges go on to send users to a lost host. Fly gives no figure (facts: "marked unhealthy after failed pings").
const EDGE_HEARS_OF_HOST: Duration = Duration::from_secs(10);

/// How long the API calls such a host well.
const API_HEARS_OF_HOST: Duration = Duration::from_secs(60);

/// The beginning of the names of frpc's pods.
const FRPC: &str = "lb-";

/// The node that has the backends, and on which no lane is lost.
const BACKENDS: &str = "node-1";

/// A short failure lasts as long as it takes to start again: a node, or the operator's container.
const SHORT: Duration = Duration::from_secs(10);

/// Two lanes promise this of new connections.
#[derive(Clone, Copy)]
enum Promise {
    /// None fails.
    None,
    /// Fewer than half fail, for 15 s at most.
    Half,
    /// Nothing is promised.
    Nothing,
}

/// A failure: its name, what is promised with two lanes, and how it is brought about.
type Failure = (&'static str, Promise, fn(&mut Stage));

const FAILURES: &[Failure] = &[
    ("nothing", Promise::None, |_| ()),
    ("Machine stopped", Promise::None, |stage| stage.stop_machine()),
    ("Machine crashed", Promise::None, |stage| stage.crash_machine()),
    ("Machine destroyed", Promise::None, |stage| stage.destroy_machine()),
    ("Machine destroyed, operator down for 10 s", Promise::None, |stage| {
        stage.operator = None;
        stage.destroy_machine();
        thread::sleep(SHORT);
        stage.start_operator();
    }),
    ("frpc killed", Promise::None, |stage| stage.signal_frpc(Cluster::kill_pods)),
    ("frpc frozen", Promise::Half, |stage| stage.signal_frpc(Cluster::freeze_pods)),
    ("node drained", Promise::None, |stage| stage.drain_node()),
    ("node dead", Promise::Half, |stage| stage.lab.cluster().node_down(&stage.node)),
    ("node frozen for 20 s", Promise::Half, |stage| {
        stage.lab.cluster().node_freeze(&stage.node);
        thread::sleep(2 * SHORT);
        stage.lab.cluster().node_thaw(&stage.node);
    }),
    ("node rebooted in 10 s", Promise::Half, |stage| {
        stage.lab.cluster().node_down(&stage.node);
        thread::sleep(SHORT);
        stage.lab.cluster().node_up(&stage.node);
    }),
    ("host lost without a word", Promise::Half, |stage| stage.lose_host()),
    ("region lost without a word", Promise::Half, |stage| stage.lab.fly().region_down("ord")),
    ("Machine destroyed, the last lane's node dead", Promise::Nothing, |stage| {
        stage.destroy_machine();
        stage.lab.cluster().node_down(&stage.last_node);
    }),
];

pub fn run(operator: &Path) {
    let only = std::env::var("BENCH_LANES").unwrap_or_default();
    println!(
        "{:<46} {:>5}  {:>16} {:>4} {:>8} {:>11} {:>13}  {:<14} ",
        "what", "lanes", "failed", "cut", "for", "no success", "longest wait", "bound"
    );
    for lanes in [2, 1] {
        for (name, promise, strike) in FAILURES.iter().filter(|(name, ..)| name.contains(&only)) {
            progress(format_args!("{name}, with {lanes}"));
            let tally = Stage::new(operator, lanes).watch(*strike);
            let (bound, verdict) = if lanes == 1 { ("-", "-") } else { tally.judge(*promise) };
            println!("{name:<46} {lanes:>5}  {tally}  {bound:<14} {verdict}");
        }
    }
}

/// A tunnel of so many lanes that serve, on a lab of its own.
struct Stage {
    operator: Option<RunningOperator>,
    binary: PathBuf,
    address: SocketAddr,
    /// The Machine that is struck, its frpc's pod, and the node of that.
    machine: String,
    pod: String,
    node: String,
    /// The node with the frpc of the last lane, which with one lane is the same.
    last_node: String,
    lab: Homelab,
}

impl Stage {
    fn new(operator: &Path, lanes: usize) -> Stage {
        let cluster = Cluster::start(ClusterOptions { nodes: 3, ..ClusterOptions::default() });
        let settings = Settings {
            machine_boot: Duration::from_secs(3),
            edge_host_delay: EDGE_HEARS_OF_HOST,
            host_loss_shown_after: API_HEARS_OF_HOST,
            ..Settings::default()
        };
        let lab = Homelab::builder().fly(settings).cluster(&cluster).start();
        // The backend has a node of its own, which the lanes keep off.
        let kube = lab.cluster().kube();
        let web = lab
            .service("web")
            .port(8080)
            .annotation("fly-tunnel-operator.dev/replicas", &lanes.to_string())
            .annotation("fly-tunnel-operator.dev/fly-region", "ord,iad")
            .create();
        let deployment = format!("/apis/apps/v1/namespaces/{}/deployments/web", web.namespace);
        let pinned = json!({ "spec": { "template": { "spec": { "nodeName": BACKENDS } } } });
        kube.merge_patch(&deployment, &pinned).expect("the backend is pinned");
        let taint = json!({ "spec": { "taints": [{ "key": "lab/backends", "effect": "NoSchedule" }] } });
        kube.merge_patch(&format!("/api/v1/nodes/{BACKENDS}"), &taint).expect("the node is tainted");
        let running = services::operator(&lab, operator).start();
        let address = SocketAddr::from((web.address(DEADLINE), 8080));
        let deadline = Instant::now() + DEADLINE;
        let serving = || {
            let state = lab.fly().state();
            let app = state["apps"][0]["name"].as_str().unwrap_or_default().to_owned();
            lab.fly().machines_at_edge(&app, 8080)
        };
        while serving().len() < lanes || frpc_pods(&lab).len() < lanes || answer(address).is_err() {
            assert!(Instant::now() < deadline, "{lanes} lanes serve in time");
            thread::sleep(Duration::from_millis(100));
        }
        let machine = serving().into_iter().find(|id| region(&lab, id) == "ord").expect("the first lane is in ord");
        let pods = frpc_pods(&lab);
        let is_of_it = |pod: &&Value| pod.to_string().contains(&machine);
        let of_it = pods.iter().find(is_of_it).expect("frpc names its Machine");
        let last = pods.iter().find(|pod| !is_of_it(pod)).unwrap_or(of_it);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (pod, node) = (text(&of_it["metadata"]["name"]), text(&of_it["spec"]["nodeName"]));
        let last_node = text(&last["spec"]["nodeName"]);
        assert!(lanes == 1 || node != last_node, "each lane has its node");
        let binary = operator.to_owned();
        Stage { operator: Some(running), binary, address, machine, pod, node, last_node, lab }
    }

    /// Lets it happen a moment after the clients began, and watches.
    fn watch(&mut self, strike: fn(&mut Stage)) -> Tally {
        let (stop, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let (address, mut struck) = (self.address, Instant::now());
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        let good = answer(address).is_ok();
                        asked.lock().expect("no one panics while holding it").push((began, began.elapsed(), good));
                        if !good {
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                });
            }
            thread::sleep(Duration::from_secs(2));
            struck = Instant::now();
            strike(self);
            thread::sleep(WATCHED.saturating_sub(struck.elapsed()).max(SHORT));
            stop.store(true, Ordering::Relaxed);
        });
        Tally::new(struck, &asked.into_inner().expect("no one panicked"))
    }

    fn start_operator(&mut self) {
        self.operator = Some(services::operator(&self.lab, &self.binary).start());
    }

    fn stop_machine(&self) {
        self.fly("POST", "/stop");
    }

    fn crash_machine(&self) {
        assert!(self.lab.fly().crash(&self.machine));
    }

    fn destroy_machine(&self) {
        self.fly("DELETE", "?force=true");
    }

    fn lose_host(&self) {
        assert!(self.lab.fly().host_down(&self.machine));
    }

    fn drain_node(&self) {
        let frpc = "--pod-selector=app.kubernetes.io/name=frpc";
        let output = self.lab.cluster().kubectl(&["drain", &self.node, "--delete-emptydir-data", frpc]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn signal_frpc(&self, signal: fn(&Cluster, &str, &str)) {
        assert!(self.pod.starts_with(FRPC));
        signal(self.lab.cluster(), self.lab.operator_namespace(), &self.pod);
    }

    /// A request to Fly about the Machine, as a person makes it by hand.
    fn fly(&self, method: &str, rest: &str) {
        let state = self.lab.fly().state();
        let app = state["apps"][0]["name"].as_str().expect("a name");
        let path = format!("/v1/apps/{app}/machines/{}{rest}", self.machine);
        let (token, at) = (self.lab.fly().token(), self.lab.fly().address());
        let mut stream = TcpStream::connect(at).expect("Fly listens");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: fly\r\nAuthorization: Bearer {token}\r\n");
        write!(stream, "{head}Connection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")
            .expect("written");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("an answer");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.operator = None;
        // A node that stands still would not end its pods.
        for node in [&self.node, &self.last_node] {
            self.lab.cluster().node_up(node);
        }
    }
}

fn frpc_pods(lab: &Homelab) -> Vec<Value> {
    let pods = format!("/api/v1/namespaces/{}/pods", lab.operator_namespace());
    let mut pods = lab.cluster().kube().list(&pods).expect("a list");
    pods.retain(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(FRPC)));
    pods
}

fn region(lab: &Homelab, machine: &str) -> String {
    let state = lab.fly().state();
    let machines = state["apps"][0]["machines"].as_array().cloned().unwrap_or_default();
    let of_it = machines.iter().find(|known| known["id"] == machine);
    of_it.and_then(|machine| machine["region"].as_str()).unwrap_or_default().to_owned()
}

/// One short exchange.
fn answer(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("web-") { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// The outcome of the connections.
struct Tally {
    all: usize,
    /// Those that were begun from the strike to the last that failed.
    meanwhile: usize,
    /// Those that were begun after the strike was over, and failed.
    failed: usize,
    /// Those that were under way when it struck, and failed.
    cut: usize,
    /// From the strike to the beginning of the last that failed.
    lasted: Duration,
    /// The longest time in which none succeeded.
    gap: Duration,
    longest: Duration,
}

impl Tally {
    fn new(struck: Instant, asked: &[(Instant, Duration, bool)]) -> Tally {
        let failed = |(_, took, good): &&(Instant, Duration, bool)| !good || *took > PATIENCE;
        let is_after = |began: Instant| began >= struck + IN_FLIGHT;
        let after: Vec<_> = asked.iter().filter(|(began, ..)| is_after(*began)).filter(failed).collect();
        let last_failed = after.iter().map(|(began, ..)| *began).max().unwrap_or(struck);
        let before = asked.iter().filter(|(began, ..)| !is_after(*began)).filter(failed).count();
        let end = asked.iter().map(|(began, took, _)| *began + *took).max().unwrap_or(struck);
        let mut successes: Vec<Instant> =
            asked.iter().filter(|(.., good)| *good).map(|(began, took, _)| *began + *took).collect();
        successes.extend([struck, end]);
        successes.sort();
        Tally {
            all: asked.len(),
            meanwhile: asked.iter().filter(|(began, ..)| (struck..=last_failed).contains(began)).count(),
            failed: after.len(),
            cut: before,
            lasted: last_failed - struck,
            gap: successes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
            longest: asked.iter().map(|(_, took, _)| *took).max().unwrap_or_default(),
        }
    }
}

impl Tally {
    /// The bound, and whether it is kept.
    fn judge(&self, promise: Promise) -> (&'static str, &'static str) {
        let (bound, kept) = match promise {
            Promise::None => ("none", self.failed == 0),
            Promise::Half => {
                ("half, for 15 s", 2 * self.failed <= self.meanwhile && self.lasted <= Duration::from_secs(15))
            }
            Promise::Nothing => ("-", true),
        };
        (bound, if kept { "ok" } else { "over" })
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let part = format!("{} of {}", self.failed, self.all);
        let [lasted, gap, longest] = [self.lasted, self.gap, self.longest].map(seconds);
        write!(out, "{part:>16} {:>4} {lasted:>8} {gap:>11} {longest:>13}", self.cut)
    }
}
