//! The CPU that frps and frpc need for what passes through a tunnel: short connections, requests on connections that are kept, and a
//! long download.
//!
//! Each is compared with the same thing done beside it without a tunnel, on the Service's ClusterIP: the ratio says how much dearer
//! the tunnel is than the client, the Service and its backend together, on whatever machine this runs.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::fly::Settings;

use crate::process::{self, Memory};
use crate::row::Row;
use crate::{DEADLINE, progress, services};

const PORT: u16 = 8080;
const CLIENTS: usize = 4;

/// For each client.
const CONNECTIONS: usize = 1_000;
const EXCHANGES: usize = 10_000;
const MEGABYTES: usize = 500;

/// A minute has one check of each kind, at the least.
const IDLE: Duration = Duration::from_secs(120);

/// Seconds.
const MONTH: f64 = 30.0 * 86_400.0;

/// The message of each exchange, which comes back.
const MESSAGE: [u8; 512] = [b'.'; 512];

pub fn run(operator: &Path) {
    let lab = services::lab(Settings::default(), true);
    let _operator = lab.operator(operator).start();
    let web = lab.service("web").port(PORT).create();
    let tunnel = web.address(DEADLINE);
    let direct = web.object()["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok());
    idle();
    let ends = Ends { tunnel, direct: direct.expect("it has a ClusterIP") };
    ends.compare("CPU of frp for a short connection", CONNECTIONS, |ip| {
        for _ in 0..CONNECTIONS {
            exchange(&mut connect(ip));
        }
    });
    ends.compare("CPU of frp for an exchange on a kept connection", EXCHANGES, |ip| {
        let mut stream = connect(ip);
        (0..EXCHANGES).for_each(|_| exchange(&mut stream));
    });
    ends.compare("CPU of frp for a megabyte of a download", MEGABYTES, download);
    for program in ["frps", "frpc"] {
        let memory = Memory::of(process::child(program));
        let note = format!("at most {:.1} MiB so far", memory.peak);
        Row::new(format!("resident memory of {program} after all that"), memory.resident, "MiB").note(note).print();
    }
}

/// The traffic of a tunnel that nobody uses: Fly's checks and frp's heartbeats.
fn idle() {
    progress(format_args!("nobody uses the tunnel for {} s", IDLE.as_secs()));
    let frpc = process::child("frpc");
    let before = process::bytes(frpc);
    thread::sleep(IDLE);
    let per_second = (process::bytes(frpc) - before) as f64 / IDLE.as_secs_f64();
    let note = "up and down together, read and written by frpc".to_owned();
    Row::new("traffic of a tunnel that nobody uses, a month", per_second * MONTH / 1e9, "GB").note(note).print();
}

/// Both ways to the backend.
struct Ends {
    tunnel: IpAddr,
    direct: IpAddr,
}

impl Ends {
    /// Has some clients do it at once, on both ways. Each does it so often.
    fn compare(&self, name: &str, times: usize, client: impl Fn(IpAddr) + Sync) {
        progress(name);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0 / (CLIENTS * times) as f64;
        let [frps, frpc] = [process::child("frps"), process::child("frpc")];
        // Everything but frp is in this one process: the clients, the edge, the Service and its backend.
        let spent = |pids: &[u32], ip: IpAddr| {
            let before: Vec<Duration> = pids.iter().map(|pid| process::cpu_time(*pid)).collect();
            thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(|| client(ip)))));
            let spent = pids.iter().zip(before).map(|(pid, before)| milliseconds(process::cpu_time(*pid) - before));
            spent.collect::<Vec<f64>>()
        };
        let tunnel = spent(&[frps, frpc], self.tunnel);
        let direct = spent(&[std::process::id()], self.direct)[0];
        let note =
            format!("frps {:.3} ms, frpc {:.3} ms; all else without a tunnel {direct:.3} ms", tunnel[0], tunnel[1]);
        Row::new(name, tunnel.iter().sum::<f64>() / direct, "x").note(note).print();
    }
}

fn connect(ip: IpAddr) -> TcpStream {
    let stream = TcpStream::connect((ip, PORT)).expect("the address takes connections");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    stream.set_nodelay(true).expect("it is a TCP connection");
    stream
}

fn exchange(stream: &mut TcpStream) {
    let mut echo = [0; MESSAGE.len()];
    stream.write_all(&MESSAGE).expect("the connection lives");
    stream.read_exact(&mut echo).expect("the message comes back");
}

fn download(ip: IpAddr) {
    let mut stream = connect(ip);
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: web\r\n\r\n").expect("the connection lives");
    let mut megabyte = vec![0; 1_000_000];
    for _ in 0..MEGABYTES {
        stream.read_exact(&mut megabyte).expect("the answer has no end");
    }
}
