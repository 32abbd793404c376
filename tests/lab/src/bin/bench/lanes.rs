//! Clients lose something when something dies: 8 of them connect as fast as they can while each failure happens, with one lane and with two.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
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

/// A connection that takes longer counts as failed, whatever comes of it.
const TOO_LONG: Duration = Duration::from_secs(3);

/// When a client gives up.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// A failure: its name, for how long it is watched, and how it is brought about.
type Failure = (&'static str, u64, fn(&mut Stage));

const FAILURES: &[Failure] = &[
    ("nothing", 5, |_| ()),
    ("Machine stopped", 10, |stage| stage.stop_machine()),
    ("Machine crashed", 10, |stage| stage.crash_machine()),
    ("Machine destroyed", 10, |stage| stage.destroy_machine()),
    ("Machine destroyed, operator killed", 10, |stage| {
        stage.operator = None;
        stage.destroy_machine();
    }),
    ("frpc killed", 10, |stage| stage.signal_frpc(Cluster::kill_pods)),
    ("frpc frozen", 20, |stage| stage.signal_frpc(Cluster::freeze_pods)),
    ("node dead", 40, |stage| stage.lose_node()),
    ("node frozen for 20 s", 40, |stage| {
        let node = stage.node.clone();
        stage.lab.cluster().node_freeze(&node);
        thread::sleep(Duration::from_secs(20));
        stage.lab.cluster().node_thaw(&node);
    }),
    ("node rebooted in 10 s", 40, |stage| {
        stage.lose_node();
        thread::sleep(Duration::from_secs(10));
        stage.lab.cluster().node_up(&stage.node);
    }),
    ("host lost without a word", 40, |stage| stage.lose_host()),
    ("region lost without a word", 40, |stage| stage.lab.fly().region_down("ord")),
    ("Machine destroyed and node dead", 40, |stage| {
        stage.destroy_machine();
        stage.lose_node();
    }),
];

pub fn run(operator: &Path) {
    let only = std::env::var("BENCH_LANES").unwrap_or_default();
    println!(
        "{:<36} {:>5}  {:>17} {:>4} {:>9} {:>12} {:>13}",
        "what", "lanes", "failed or > 3 s", "cut", "for", "no success", "longest wait"
    );
    for lanes in [2, 1] {
        for (name, seconds, strike) in FAILURES.iter().filter(|(name, ..)| name.contains(&only)) {
            progress(format_args!("{name}, with {lanes}"));
            let mut stage = Stage::new(operator, lanes);
            let tally = stage.watch(Duration::from_secs(*seconds), *strike);
            println!("{name:<36} {lanes:>5}  {tally}");
        }
    }
}

/// A tunnel of so many lanes that serve, on a lab of its own.
struct Stage {
    operator: Option<RunningOperator>,
    address: SocketAddr,
    /// The Machine that is struck, and the node with its frpc.
    machine: String,
    node: String,
    pod: String,
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
        let of_it = pods.iter().find(|pod| pod.to_string().contains(&machine)).unwrap_or(&pods[0]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (node, pod) = (text(&of_it["spec"]["nodeName"]), text(&of_it["metadata"]["name"]));
        let nodes: std::collections::BTreeSet<_> = pods.iter().map(|pod| text(&pod["spec"]["nodeName"])).collect();
        assert_eq!(nodes.len(), lanes, "each lane has its node");
        Stage { operator: Some(running), address, machine, node, pod, lab }
    }

    /// Lets it happen a moment after the clients began, and watches.
    fn watch(&mut self, how_long: Duration, strike: fn(&mut Stage)) -> Tally {
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
            thread::sleep(how_long.saturating_sub(struck.elapsed()));
            stop.store(true, Ordering::Relaxed);
        });
        Tally::new(struck, &asked.into_inner().expect("no one panicked"))
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

    fn lose_node(&self) {
        self.lab.cluster().node_down(&self.node);
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
        self.lab.cluster().node_up(&self.node);
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
    /// Those that were begun after the strike was over, and failed or took too long.
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
        let failed = |(_, took, good): &&(Instant, Duration, bool)| !good || *took > TOO_LONG;
        let is_after = |began: Instant| began >= struck + IN_FLIGHT;
        let after: Vec<_> = asked.iter().filter(|(began, ..)| is_after(*began)).filter(failed).collect();
        let before = asked.iter().filter(|(began, ..)| !is_after(*began)).filter(failed).count();
        let end = asked.iter().map(|(began, took, _)| *began + *took).max().unwrap_or(struck);
        let mut successes: Vec<Instant> =
            asked.iter().filter(|(.., good)| *good).map(|(began, took, _)| *began + *took).collect();
        successes.extend([struck, end]);
        successes.sort();
        Tally {
            all: asked.len(),
            failed: after.len(),
            cut: before,
            lasted: after.iter().map(|(began, ..)| *began - struck).max().unwrap_or_default(),
            gap: successes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
            longest: asked.iter().map(|(_, took, _)| *took).max().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let part = format!("{} of {}", self.failed, self.all);
        let [lasted, gap, longest] = [self.lasted, self.gap, self.longest].map(seconds);
        write!(out, "{part:>17} {:>4} {lasted:>9} {gap:>12} {longest:>13}", self.cut)
    }
}
