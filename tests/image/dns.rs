//! Names, as the image's binary looks them up: musl's resolver gives up on replies that glibc's takes.
//!
//! musl asks port 53 of the servers in /etc/resolv.conf, and there is no other way to tell it of a server. So `scripts/image`
//! runs these tests in namespaces of their own, where nobody needs to be root for that port, and where that file names
//! [`SERVER`] and searches like a pod's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::{fs, thread};

use lab::homelab::Homelab;
use serde_json::Value;

use crate::{DEADLINE, Unpacked};

const SERVER: &str = "127.0.0.1:53";
/// The first name is asked for below this one.
const SEARCHED: &str = ".cluster.example";

/// Each kind of server that homes have, as a part of the names that it is asked for.
const KINDS: [&str; 8] = [
    "plain",
    "ipv6-not-found",
    "ipv6-failed",
    "ipv6-refused",
    "ipv4-not-found",
    "search-failed",
    "search-refused",
    "truncated",
];

// Types of records and codes of replies (RFC 1035, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NOT_FOUND: u8 = 3;
const REFUSED: u8 = 5;

#[test]
fn its_binary_finds_fly_and_the_cluster_whatever_the_name_server_says_beside_an_address() {
    serve();
    let unpacked = Unpacked::new("dns");
    let lab = Homelab::new();
    let operator = unpacked.operator(&lab).start();
    lab.service("web").port(8080).create().address(DEADLINE);
    operator.kill();
    let wrong = thread::scope(|scope| {
        let all = KINDS.map(|kind| scope.spawn(|| once(&lab, &unpacked, kind)));
        all.into_iter().filter_map(|one| one.join().expect("no panic").err()).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Looks at the tunnel, which is made already, by names of this kind. The error is the log.
fn once(lab: &Homelab, unpacked: &Unpacked, kind: &str) -> Result<(), String> {
    let kubeconfig = fs::read_to_string(lab.operator_kubeconfig()).expect("the lab's kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&kubeconfig).expect("JSON");
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    cluster["server"] = format!("https://kubernetes.{kind}.example:{}", lab.api_server().port()).into();
    cluster["tls-server-name"] = "kubernetes.default.svc".into();
    let file = lab.directory().join(kind);
    fs::write(&file, kubeconfig.to_string()).expect("the lab's own folder");
    let port = lab.fly_url().rsplit_once(':').expect("a port").1.to_owned();
    let mut operator = unpacked
        .operator(lab)
        .arg("--once")
        .env("KUBECONFIG", file.to_str().expect("a path in UTF-8"))
        .env("FLY_FLAPS_BASE_URL", &format!("http://fly.{kind}.example:{port}"))
        .start();
    let is_well = operator.wait(DEADLINE).is_some_and(|status| status.success());
    let log = operator.log();
    if is_well && log.contains("Fly: GET") { Ok(()) } else { Err(format!("{kind}: {log}")) }
}

/// Answers questions for names, over UDP and TCP.
fn serve() {
    let free = "a free port 53, as scripts/image gives to this test";
    let udp = UdpSocket::bind(SERVER).expect(free);
    let tcp = TcpListener::bind(SERVER).expect(free);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            // A reply that is lost shows as a test that fails.
            let _ = udp.send_to(&reply(&buffer[..length], true), from);
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            let mut question = vec![];
            let read = stream.read_exact(&mut length).and_then(|()| {
                question.resize(u16::from_be_bytes(length).into(), 0);
                stream.read_exact(&mut question)
            });
            if read.is_ok() {
                let reply = reply(&question, false);
                let length = u16::try_from(reply.len()).expect("a short reply").to_be_bytes();
                let _ = stream.write_all(&[&length[..], &reply].concat());
            }
        }
    });
}

/// The reply to a question: loopback, or why there is nothing.
fn reply(question: &[u8], is_udp: bool) -> Vec<u8> {
    // The header has 12 bytes. Then come the parts of the name, each with its length, then a zero, type and class.
    let mut name = String::new();
    let mut at = 12;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name = name + &String::from_utf8_lossy(&question[at + 1..end]) + ".";
        at = end;
    }
    let name = name.trim_end_matches('.').to_lowercase();
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let (code, has_address) = judge(&name, kind);
    let is_truncated = is_udp && name.contains(".truncated.");
    let has_answer = has_address && !is_truncated;
    let flags = [0x81 | u8::from(is_truncated) << 1, 0x80 | code];
    let mut reply = [&question[..2], &flags, &[0, 1, 0, has_answer.into(), 0, 0, 0, 0], &question[12..at + 5]].concat();
    if has_answer {
        // An IPv6 address that leads to an IPv4 one spares a server at both.
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let address = if kind == A { &mapped[12..] } else { &mapped[..] };
        let length = u8::try_from(address.len()).expect("16 at most");
        // The name is the question's, and the address holds for no time.
        reply.extend([&[0xc0, 12], &question[at + 1..at + 5], &[0, 0, 0, 0, 0, length], address].concat());
    }
    reply
}

/// The code for this type of record, and whether there is one.
fn judge(name: &str, kind: u16) -> (u8, bool) {
    let server = name.split('.').nth(1).unwrap_or_default();
    match (server, kind) {
        ("search-failed", _) if name.ends_with(SEARCHED) => (SERVER_FAILURE, false),
        ("search-refused", _) if name.ends_with(SEARCHED) => (REFUSED, false),
        _ if name.ends_with(SEARCHED) || !KINDS.contains(&server) => (NOT_FOUND, false),
        ("ipv6-not-found", AAAA) | ("ipv4-not-found", A) => (NOT_FOUND, false),
        ("ipv6-failed", AAAA) => (SERVER_FAILURE, false),
        ("ipv6-refused", AAAA) => (REFUSED, false),
        ("ipv4-not-found", AAAA) | (_, A) => (0, true),
        _ => (0, false),
    }
}
