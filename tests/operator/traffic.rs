//! A client on the public address gets the backend's answer, however much it asks for.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::time::{Duration, Instant};

use lab::homelab::Homelab;

use crate::support::client::{assert_answers, connect, get};
use crate::support::{DEADLINE, start};

#[test]
fn one_port() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
}

#[test]
fn five_ports_one_of_them_7000() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let ports = [7000, 7001, 8080, 8443, 9000];
    let mut web = lab.service("web");
    for port in ports {
        web = web.port(port);
    }
    let ip = web.create().address(DEADLINE);
    for port in ports {
        assert_answers(ip, port, "web");
    }
}

/// 20 MB at 2 MB a second, of which the first 2 MB may come at once: at least 8 s. Without a limit they are there before.
#[test]
fn a_limit_of_bandwidth_is_kept() {
    const BYTES: u64 = 20 << 20;
    /// How long the backend takes to send so much.
    fn download(ip: IpAddr) -> Duration {
        let mut stream = connect(ip, 8080).expect("a connection");
        write!(stream, "GET /endless HTTP/1.1\r\nHost: web\r\n\r\n").expect("it is taken");
        let began = Instant::now();
        let received = std::io::copy(&mut stream.take(BYTES), &mut std::io::sink()).expect("it comes");
        assert_eq!(received, BYTES);
        began.elapsed()
    }
    let lab = Homelab::new();
    let _operator = start(&lab);
    let limited =
        lab.service("limited").port(8080).annotation("fly-tunnel-operator.dev/bandwidth-limit", "2MB").create();
    let free = lab.service("free").port(8080).create();
    let [limited, free] = [limited, free].map(|service| service.address(DEADLINE));
    let (limited, free) = std::thread::scope(|scope| {
        let (limited, free) = (scope.spawn(|| download(limited)), scope.spawn(|| download(free)));
        (limited.join().expect("it comes"), free.join().expect("it comes"))
    });
    assert!(limited >= Duration::from_secs(8), "{limited:?}");
    assert!(free < limited, "{free:?} without a limit, {limited:?} with it");
}

#[test]
fn a_hundred_mebibytes_go_both_ways_unharmed() {
    const CHUNK: usize = 1 << 16;
    const CHUNKS: u64 = (100 << 20) / CHUNK as u64;
    /// The bytes of a chunk. They depend on its number and on their place in it, so a mix-up shows.
    fn chunk(number: u64) -> Vec<u8> {
        (0..CHUNK as u64 / 8)
            .flat_map(|word| (number << 16 | word).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
            .collect()
    }
    let lab = Homelab::new();
    let _operator = start(&lab);
    let ip = lab.service("web").port(8080).create().address(DEADLINE);
    let mut sender = connect(ip, 8080).expect("a connection");
    let mut receiver = sender.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..CHUNKS {
                sender.write_all(&chunk(number)).expect("it is taken");
            }
        });
        let mut received = vec![0; CHUNK];
        for number in 0..CHUNKS {
            receiver.read_exact(&mut received).expect("it comes back");
            assert!(received == chunk(number), "chunk {number} came back changed");
        }
    });
}

#[test]
fn five_hundred_connections_at_once() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let ip = lab.service("web").port(8080).create().address(DEADLINE);
    let mut open: Vec<_> = (0..500).map(|_| connect(ip, 8080).expect("a connection")).collect();
    for (number, stream) in open.iter_mut().enumerate() {
        writeln!(stream, "number {number}").expect("it is taken");
    }
    for (number, stream) in open.iter_mut().enumerate() {
        let expected = format!("number {number}\n");
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
}

#[test]
fn clients_that_stop_reading_hold_up_nobody() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let ip = lab.service("web").port(8080).create().address(DEADLINE);
    let stalled: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = connect(ip, 8080).expect("a connection");
            write!(stream, "GET /endless HTTP/1.1\r\nHost: web\r\n\r\n").expect("it is taken");
            let mut first = [0; 16];
            stream.read_exact(&mut first).expect("the answer begins");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_answers(ip, 8080, "web");
    }
    for stream in &stalled {
        stream.shutdown(Shutdown::Both).expect("it was open all the while");
    }
    assert!(get(ip, 8080, "/").is_ok());
}

#[test]
fn two_services_at_two_addresses() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let (first, second) = (lab.service("first").port(8080).create(), lab.service("second").port(8080).create());
    let (one, two) = (first.address(DEADLINE), second.address(DEADLINE));
    assert_ne!(one, two);
    assert_answers(one, 8080, "first");
    assert_answers(two, 8080, "second");
}
