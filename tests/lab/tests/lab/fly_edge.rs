//! The way that users' connections take, through the real frps and frpc.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::fly::Settings;
use serde_json::{Value, json};

use crate::fly_lab::{FlyLab, Frpc, backend, base64, frps, quick};
use crate::support::{DEADLINE, http_get, wait_for};

const A: u16 = 7001;
const B: u16 = 7002;
const WEB: u16 = 8443;

/// A lane with an frpc, whose backend answers with a name.
fn lane(lab: &FlyLab, public: IpAddr, control: u16, ports: &[u16], name: &'static str) -> (String, Frpc) {
    let id = lab.machine("a", name, frps(control, ports));
    (id, Frpc::start(public, control, ports, backend(name)))
}

fn passing(lab: &FlyLab, id: &str, checks: usize) {
    lab.wait_checks("a", id, &vec!["passing"; checks]);
}

fn answers(public: IpAddr, port: u16, count: usize) -> Vec<String> {
    let mut names: Vec<String> =
        (0..count).map(|_| http_get((public, port).into()).unwrap_or_else(|| "nothing".to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

fn post(lab: &FlyLab, machine: &str, action: &str) {
    lab.api("POST", &format!("/apps/a/machines/{machine}/{action}"), Value::Null).good();
}

#[test]
fn a_port_leads_to_the_machines_that_expose_it() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    // Each frpc reaches its own frps by its control port; users on the common port reach both.
    let (a, _a) = lane(&lab, public, A, &[WEB], "one");
    let (b, _b) = lane(&lab, public, B, &[WEB], "two");
    // The API shows a check that passes before the edge has heard of it.
    lab.wait_edge("a", WEB, &[&a, &b]);
    assert_eq!(answers(public, WEB, 10), ["one", "two"]);
    post(&lab, &a, "cordon");
    assert_eq!(answers(public, WEB, 6), ["two"]);
    post(&lab, &a, "uncordon");
    assert_eq!(answers(public, WEB, 10), ["one", "two"]);
}

#[test]
fn a_check_gates_its_own_service_only() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let id = lab.machine("a", "m", frps(A, &[WEB, WEB + 1]));
    let _frpc = Frpc::start(public, A, &[WEB], backend("one"));
    // Nobody listens behind the second port, which must not matter to the first.
    lab.wait_checks("a", &id, &["passing", "critical"]);
    assert_eq!(answers(public, WEB, 3), ["one"]);
    let mut waiting = TcpStream::connect((public, WEB + 1)).expect("the edge takes the connection");
    waiting.set_read_timeout(Some(Duration::from_millis(700))).expect("a timeout");
    let error = waiting.read(&mut [0]).expect_err("nobody answers and nobody closes");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

/// It goes through the tunnel, so it tells more than that frps listens.
#[test]
fn an_http_check_asks_and_reads_the_answer() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let mut config = frps(A, &[WEB, WEB + 1]);
    let check = |port: u16| json!([{"type": "http", "port": port, "path": "/up", "interval": "1s", "timeout": "2s"}]);
    config["services"][1]["checks"] = check(WEB);
    config["services"][2]["checks"] = check(A); // frps itself speaks no HTTP
    let id = lab.machine("a", "m", config);
    let frpc = Frpc::start(public, A, &[WEB], backend("one"));
    lab.wait_checks("a", &id, &["passing", "critical"]);
    drop(frpc);
    lab.wait_checks("a", &id, &["critical", "critical"]);
}

#[test]
fn a_connection_waits_for_a_machine() {
    let lab = FlyLab::new(Settings { machine_boot: Duration::from_secs(1), ..quick() });
    let public = lab.app("a");
    let (_, _frpc) = lane(&lab, public, A, &[WEB], "one");
    // The user connects at once, before frps and frpc are there.
    assert_eq!(answers(public, WEB, 1), ["one"]);
}

#[test]
fn checks_may_pass_late() {
    let lab = FlyLab::new(Settings { checks_pass_late: Duration::from_secs(3), ..quick() });
    let public = lab.app("a");
    let (id, _frpc) = lane(&lab, public, A, &[WEB], "one");
    assert_ne!(lab.checks("a", &id), ["passing"]);
    assert_eq!(answers(public, WEB, 1), ["one"]);
    assert_eq!(lab.checks("a", &id), ["passing"], "no connection got through before");
}

#[test]
fn edges_learn_late_users_and_frpc_apart() {
    let delay = Duration::from_secs(4);
    let lab = FlyLab::new(Settings { edge_delay: delay, ..quick() });
    let public = lab.app("a");
    let (a, _a) = lane(&lab, public, A, &[WEB], "one");
    // Each time is taken before the change that the edge hears of. So a test that is held up measures too much, and
    // never too little. Control connections pass at once, or no check would pass.
    let mut not_passed_yet = Instant::now();
    let passes = || {
        let looked = Instant::now();
        let passes = lab.checks("a", &a) == ["passing"];
        not_passed_yet = if passes { not_passed_yet } else { looked };
        passes.then_some(())
    };
    wait_for(passes, || "check that passes".to_owned());
    assert_eq!(answers(public, WEB, 1), ["one"]);
    assert!(not_passed_yet.elapsed() >= delay, "the users' edge heard of it later");
    let (b, _b) = lane(&lab, public, B, &[WEB], "two");
    lab.wait_edge("a", WEB, &[&a, &b]);
    let before = Instant::now();
    post(&lab, &a, "cordon");
    // Each lane answers once. The edge of frpc has heard of the cordon, so the first lane gets no connection from frpc
    // beyond the one that frps holds ready.
    assert_eq!(answers(public, WEB, 2), ["one", "two"], "the edge has not heard of the cordon");
    lab.wait_edge("a", WEB, &[&b]);
    assert!(before.elapsed() >= delay);
    assert_eq!(answers(public, WEB, 4), ["two"]);
}

#[test]
fn the_control_edge_has_a_delay_of_its_own() {
    let lab = FlyLab::new(Settings { control_edge_delay: Duration::from_secs(2), ..quick() });
    let public = lab.app("a");
    let start = Instant::now();
    let (id, _frpc) = lane(&lab, public, A, &[WEB], "one");
    passing(&lab, &id, 1);
    assert!(start.elapsed() >= Duration::from_secs(2), "frpc got through early");
}

#[test]
fn an_established_connection_outlives_a_cordon_and_dies_with_its_machine() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let id = lab.machine("a", "m", frps(A, &[WEB]));
    let _frpc = Frpc::start(public, A, &[WEB], echo());
    passing(&lab, &id, 1);
    let mut stream = TcpStream::connect((public, WEB)).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut exchange = || {
        stream.write_all(b"hello").expect("written");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    assert_eq!(&exchange().expect("echoed"), b"hello");
    post(&lab, &id, "cordon");
    assert_eq!(&exchange().expect("echoed, still"), b"hello");
    lab.api("DELETE", &format!("/apps/a/machines/{id}?force=true"), Value::Null).good();
    assert_eq!(stream.read(&mut [0]).unwrap_or_default(), 0, "closed or reset");
}

#[test]
fn a_crashed_machine_comes_back_with_its_frps() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let (id, _frpc) = lane(&lab, public, A, &[WEB], "one");
    passing(&lab, &id, 1);
    assert!(lab.fly.crash(&id));
    wait_for(
        || (answers(public, WEB, 1) == ["one"] && lab.checks("a", &id) == ["passing"]).then_some(()),
        || "one".to_owned(),
    );
    assert!(lab.fly.machine_log(&id).matches("frps started successfully").count() >= 2, "{}", lab.fly.machine_log(&id));
}

#[test]
fn a_lost_host_is_passed_over() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let (a, _a) = lane(&lab, public, A, &[WEB], "one");
    let (b, _b) = lane(&lab, public, B, &[WEB], "two");
    lab.wait_edge("a", WEB, &[&a, &b]);
    assert!(lab.fly.host_down(&a));
    assert_eq!(lab.fly.machines_at_edge("a", WEB), [b.as_str()], "a connection made now would hang in the lost host");
    wait_for(|| (answers(public, WEB, 6) == ["two"]).then_some(()), || "only two".to_owned());
    assert!(lab.fly.host_up(&a));
    wait_for(|| (answers(public, WEB, 10) == ["one", "two"]).then_some(()), || "both".to_owned());
}

/// Before the edges and the API know, a connection to the lost host takes as long as the edge's patience with it.
#[test]
fn a_host_is_lost_without_a_word() {
    let late = Duration::from_secs(8);
    let lab = FlyLab::new(Settings { edge_host_delay: late, host_loss_shown_after: late, ..quick() });
    let public = lab.app("a");
    let (a, _a) = lane(&lab, public, A, &[WEB], "one");
    let (b, _b) = lane(&lab, public, B, &[WEB], "two");
    lab.wait_edge("a", WEB, &[&a, &b]);
    assert!(lab.fly.host_down(&a));
    let machine = || lab.get(&format!("/apps/a/machines/{a}")).good();
    assert_eq!((&machine()["state"], &machine()["host_status"]), (&json!("started"), &json!("ok")));
    assert_eq!(lab.checks("a", &a), ["passing"], "the checks say nothing");
    let start = Instant::now();
    assert_eq!(answers(public, WEB, 2), ["two"], "the edge turns to the other");
    assert!(start.elapsed() >= Duration::from_secs(5), "one of the two hung first: {:?}", start.elapsed());
    lab.wait_edge("a", WEB, &[&b]);
    wait_for(|| (machine()["host_status"] == "unreachable").then_some(()), || "lost host".to_owned());
}

#[test]
fn a_lost_region_takes_its_machines_and_no_new_ones() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let (a, _a) = lane(&lab, public, A, &[WEB], "one");
    let region = lab.get(&format!("/apps/a/machines/{a}")).good()["region"].as_str().expect("a region").to_owned();
    lab.wait_edge("a", WEB, &[&a]);
    lab.fly.region_down(&region);
    assert!(lab.fly.machines_at_edge("a", WEB).is_empty());
    let other = json!({"name": "other", "region": region, "config": frps(B, &[WEB])});
    assert_eq!(lab.api("POST", "/apps/a/machines", other.clone()).status, 422);
    lab.fly.region_up(&region);
    lab.wait_edge("a", WEB, &[&a]);
    assert_eq!(answers(public, WEB, 2), ["one"]);
    lab.api("POST", "/apps/a/machines", other).good();
}

#[test]
fn the_backend_learns_the_clients_address_by_the_proxy_protocol() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let mut config = frps(A, &[WEB]);
    config["services"][1]["ports"][0]["handlers"] = json!(["proxy_proto"]);
    let id = lab.machine("a", "m", config);
    // The check does not speak the PROXY protocol. The backend takes connections with it and without it.
    let _frpc = Frpc::start(public, A, &[WEB], backend("one"));
    passing(&lab, &id, 1);
    let answer = http_get((public, WEB).into()).expect("an answer");
    assert!(answer.starts_with("one [PROXY TCP4 127.0.0.1 ") && answer.contains(&format!(" {public} ")), "{answer}");
    assert!(answer.ends_with(&format!(" {WEB}]")), "{answer}");
}

#[test]
fn what_listens_on_the_wrong_address_is_not_reached() {
    let lab = FlyLab::new(quick());
    lab.app("a");
    let mut config = frps(A, &[WEB]);
    let text = format!("bindAddr = \"127.0.0.1\"\nbindPort = {A}\nauth.token = \"t\"\n");
    config["files"][0]["raw_value"] = base64(text.as_bytes()).into();
    let id = lab.machine("a", "m", config);
    lab.wait_checks("a", &id, &["critical"]);
}

#[test]
fn many_connections_at_once_and_much_data_both_ways() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let echo = echo();
    let id = lab.machine("a", "m", frps(A, &[WEB]));
    let _frpc = Frpc::start(public, A, &[WEB], echo);
    passing(&lab, &id, 1);
    let start = Instant::now();
    let streams: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect((public, WEB)).expect("connected")).collect();
    for mut stream in &streams {
        stream.write_all(b"hello").expect("written");
    }
    for mut stream in &streams {
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("echoed");
        assert_eq!(&answer, b"hello");
    }
    eprintln!("500 connections: {:?}", start.elapsed());
    drop(streams);
    let start = Instant::now();
    let mut stream = TcpStream::connect((public, WEB)).expect("connected");
    let mut writer = stream.try_clone().expect("cloned");
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 100;
    let sender = std::thread::spawn(move || {
        for number in 0..CHUNKS {
            writer.write_all(&vec![number as u8; CHUNK]).expect("written");
        }
    });
    let mut chunk = vec![0; CHUNK];
    for number in 0..CHUNKS {
        stream.read_exact(&mut chunk).expect("echoed");
        assert!(chunk.iter().all(|byte| *byte == number as u8));
    }
    sender.join().expect("sent");
    eprintln!("100 MiB there and back: {:?}", start.elapsed());
}

/// Starts a server that sends back all bytes that it gets.
fn echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = client.try_clone().expect("cloned");
                let _ = std::io::copy(&mut &client, &mut writer);
            });
        }
    });
    address
}

#[test]
fn udp_goes_to_one_machine_at_its_second_address() {
    let lab = FlyLab::new(quick());
    let public = lab.app("a");
    let port = 5353;
    let service =
        |protocol: &str, port: u16| json!({"protocol": protocol, "internal_port": port, "ports": [{"port": port}]});
    let mut config = frps(A, &[]);
    config["services"] = json!([service("tcp", A), service("udp", port)]);
    let text = format!("bindPort = {A}\nproxyBindAddr = \"fly-global-services\"\nauth.token = \"t\"\n");
    config["files"][0]["raw_value"] = base64(text.as_bytes()).into();
    let id = lab.machine("a", "m", config);
    lab.wait("a", &id, "started");
    let backend = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let local = backend.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = backend.recv_from(&mut buffer) {
            let _ = backend.send_to(&buffer[..length], from);
        }
    });
    let _frpc = Frpc::start_udp(public, A, port, local);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.connect((public, port)).expect("connected");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut answer = [0; 16];
    // Datagrams before frpc is there are lost.
    let echoed = || {
        let _ = client.send(b"hello");
        client.recv(&mut answer).ok()
    };
    assert_eq!(wait_for(echoed, || "echo".to_owned()), 5);
    assert_eq!(&answer[..5], b"hello");
}
