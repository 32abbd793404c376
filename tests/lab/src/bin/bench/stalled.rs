//! The memory of frps and frpc while clients ask for an endless answer and stop reading. Nothing on the way may buffer
//! without end.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::fly::Settings;

use crate::process::{self, Memory};
use crate::row::Row;
use crate::{DEADLINE, progress, services};

const CLIENTS: usize = 200;
const PORT: u16 = 8080;

/// If the memory has not grown for this long, it will not grow any more.
const STEADY: Duration = Duration::from_secs(5);

pub fn run(operator: &Path) {
    let lab = services::lab(Settings::default(), true);
    let _operator = lab.operator(operator).start();
    let address = lab.service("web").port(PORT).create().address(DEADLINE);
    let (frps, frpc) = (process::child("frps"), process::child("frpc"));
    let before = (Memory::of(frps), Memory::of(frpc));
    progress(format_args!("{CLIENTS} clients ask for an endless answer, and stop reading"));
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| stalled_client(address)).collect();
    let (frps, frpc) = peaks(frps, frpc);
    drop(clients);
    let note = |before: Memory| format!("{:.1} MiB before they came", before.resident);
    let name = |program| format!("resident memory of {program}, {CLIENTS} stalled clients");
    Row::new(name("frps"), frps, "MiB").bound(100.0).note(note(before.0)).print();
    // The bound is the memory limit that frpc's pod has unless an annotation says otherwise.
    Row::new(name("frpc"), frpc, "MiB").bound(128.0).note(note(before.1)).print();
}

/// A connection on which the answer has begun, and that nobody reads any further.
fn stalled_client(address: IpAddr) -> TcpStream {
    let mut stream = TcpStream::connect((address, PORT)).expect("the address takes connections");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: web\r\n\r\n").expect("the connection lives");
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).expect("an answer begins");
    assert_eq!(&begin, b"HTTP/1.1 200");
    stream
}

/// The most resident memory of each process, in MiB, watched until it is steady.
fn peaks(frps: u32, frpc: u32) -> (f64, f64) {
    let start = Instant::now();
    let (mut peaks, mut grown) = ((0.0, 0.0), start);
    while grown.elapsed() < STEADY && start.elapsed() < DEADLINE {
        let now = (Memory::of(frps).resident, Memory::of(frpc).resident);
        // A change of less than a MiB is noise.
        if now.0 > peaks.0 + 1.0 || now.1 > peaks.1 + 1.0 {
            grown = Instant::now();
        }
        peaks = (now.0.max(peaks.0), now.1.max(peaks.1));
        thread::sleep(Duration::from_millis(250));
    }
    peaks
}
