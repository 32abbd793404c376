//! Real clients, good and bad, on real sockets. Whatever the bad ones do, a probe is answered in time.

use std::fs;

use super::places::PLACES;
use super::*;
use crate::telemetry::metrics::{Holdings, TunnelState};
use crate::tunnel::TunnelId;
use crate::tunnel::condition::Reason;

/// The chart gives a probe so long. It takes milliseconds, and more on a machine that is busy with other tests.
const PROBE: Duration = Duration::from_secs(5);

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
}

fn server() -> Server {
    let telemetry = Arc::new(Telemetry::default());
    let address = serve("127.0.0.1:0", Arc::clone(&telemetry)).expect("a free port");
    Server { address, telemetry }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PROBE).expect("it accepts");
        stream.set_read_timeout(Some(LONG)).expect("a socket");
        stream
    }

    /// The whole answer, until the server closes. It must not reset, since an answer may be lost to that.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("no reset");
        text
    }

    #[track_caller]
    fn assert_probe_is_answered(&self) {
        let began = Instant::now();
        let reply = self.ask("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nok\n"), "{reply}");
        assert!(began.elapsed() < PROBE, "{:?}", began.elapsed());
    }

    /// The number of this server's threads, by the name that they have.
    fn threads(&self) -> usize {
        let name = thread_name(self.address);
        let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
        // A thread may end between the two.
        tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)).count()
    }

    /// There is one thread for each place, the one that accepts, and some that are just about to end.
    #[track_caller]
    fn assert_threads_are_few(&self) {
        let threads = self.threads();
        assert!((1..=40).contains(&threads), "{threads}");
    }

    /// How many connections the kernel holds that the server has not accepted yet.
    fn kernel_queue(&self) -> usize {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
        let local = format!("0100007F:{:04X}", self.address.port());
        let listening = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let row = listening.into_iter().find(|row| row[1] == local && row[3] == "0A").expect("it listens");
        let (_, receive_queue) = row[4].split_once(':').expect("two queues");
        usize::from_str_radix(receive_queue, 16).expect("hexadecimal")
    }

    fn add_tunnels(&self, number: usize) {
        let metrics = &self.telemetry.metrics;
        metrics.leading(true);
        for number in 0..number {
            let id = TunnelId { namespace: "default".into(), name: format!("a-service-with-a-name-{number}") };
            let holdings = Some(Holdings { cost: 402, ..Holdings::default() });
            metrics.tunnel(&id, TunnelState { reason: Reason::Serving, wanted: 1, holdings });
        }
    }
}

fn everything(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text); // what came before a reset counts
    String::from_utf8(text).expect("UTF-8")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Puts the chunks together; panics where one is broken off.
fn unchunked(reply: &str) -> String {
    let (head, mut rest) = reply.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("\r\nTransfer-Encoding: chunked"), "{head}");
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("the end of a chunk");
        if size == 0 {
            assert_eq!(rest, "");
            return body;
        }
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_path_and_method_has_its_answer() {
    let server = server();
    for (request, status, part) in [
        (get("/healthz"), "200 OK", "\r\n\r\nok\n"),
        (get("/healthz?verbose"), "200 OK", "\r\n\r\nok\n"),
        (get("/readyz"), "503 Service Unavailable", "\r\n\r\nthe cluster has not been listed yet\n"),
        (get("/metrics"), "200 OK", "fly_tunnel_operator_leader 0\n"),
        (get("/metrics"), "200 OK", "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        (get("/"), "404 Not Found", "/metrics"),
        (get("/healthz/x"), "404 Not Found", "/metrics"),
        ("HEAD /healthz HTTP/1.1\r\n\r\n".into(), "200 OK", "Content-Length: 3\r\nConnection: close\r\n\r\n"),
        ("POST /healthz HTTP/1.1\r\n\r\n".into(), "405 Method Not Allowed", "\r\nAllow: GET, HEAD\r\n"),
        ("GET / HTTP/2.0\r\n\r\n".into(), "505 HTTP Version Not Supported", ""),
        ("\u{16}\u{3}\u{1}\n\n".into(), "400 Bad Request", ""),
    ] {
        let reply = server.ask(&request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {reply}");
        assert!(reply.contains(part) && reply.contains("\r\nConnection: close\r\n"), "{request:?}: {reply}");
        let head_only = request.starts_with("HEAD");
        assert_eq!(reply.ends_with("\r\n\r\n"), head_only || reply.contains("chunked"), "{request:?}: {reply}");
    }
    let head = server.ask("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"), "{head}");
}

#[test]
fn it_is_ready_once_it_is_told_so_and_alive_while_no_thread_is_late() {
    let server = server();
    server.telemetry.health.listed();
    assert!(server.ask(&get("/readyz")).ends_with("\r\n\r\nok\n"));
    let (status, text) = alive(&[
        Overdue { name: "poll".into(), by: Duration::from_secs(42) },
        Overdue { name: "loop".into(), by: Duration::from_millis(31_500) },
    ]);
    assert_eq!(status, "503 Service Unavailable");
    assert_eq!(text, "poll is overdue by 42 s\nloop is overdue by 31 s\n");
}

/// 500 tunnels are some 20 chunks, and take a busy machine a small part of the deadline.
#[test]
fn metrics_come_whole_to_old_and_new_clients() {
    let server = server();
    server.add_tunnels(500);
    let old = server.ask("GET /metrics HTTP/1.0\r\n\r\n");
    let (head, old) = old.split_once("\r\n\r\n").expect("a head");
    assert!(!head.contains("chunked"), "{head}");
    let new = unchunked(&server.ask(&get("/metrics")));
    for body in [old, &new] {
        assert_eq!(body.lines().filter(|line| line.ends_with(" 4.02")).count(), 500);
        assert!(body.lines().last().is_some_and(|line| line.starts_with("process_resident_memory_bytes ")));
    }
}

#[test]
fn silent_clients_keep_no_probe_from_its_answer() {
    let server = server();
    // A probe that had to wait until each of them had its time would wait for longer than it may.
    let silent: Vec<TcpStream> = (0..6 * PLACES).map(|_| server.connect()).collect();
    server.assert_probe_is_answered();
    server.assert_threads_are_few();
    // All are sent away: some had to make room, the others had their time.
    for mut stream in silent {
        assert_eq!(everything(&mut stream), "");
    }
    wait_until("their threads end", || server.threads() == 1);
}

#[test]
fn two_hundred_connections_are_few_threads_and_probes_are_answered_meanwhile() {
    let server = server();
    // The kernel's queue may overflow while the server's thread waits for a CPU: the kernel tries again a second later.
    let connect = |_| TcpStream::connect_timeout(&server.address, LONG).expect("it accepts");
    let _held: Vec<TcpStream> = (0..200).map(connect).collect();
    wait_until("all are taken in", || server.kernel_queue() == 0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| server.assert_probe_is_answered());
        }
    });
    server.assert_threads_are_few();
    wait_until("their threads end", || server.threads() == 1);
}

#[test]
fn a_drip_prolongs_nothing() {
    let server = server();
    let began = Instant::now();
    let mut stream = server.connect();
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let closed = |stream: &mut TcpStream| match stream.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    while !closed(&mut stream) {
        let _ = stream.write_all(b"G"); // fails when it is closed
        assert!(began.elapsed() < LONG);
    }
    assert!(began.elapsed() >= DEADLINE && began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
    server.assert_probe_is_answered();
}

#[test]
fn endless_heads_and_huge_lines_are_refused() {
    let server = server();
    let endless = format!("GET /healthz HTTP/1.1\r\n{}", "A: b\r\n".repeat(LONGEST_HEAD));
    let huge = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(3 * LONGEST_HEAD));
    for request in [endless, huge] {
        let reply = server.ask(&request);
        assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
        server.assert_probe_is_answered();
    }
    let large = format!("GET /healthz HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(LONGEST_HEAD - 100));
    assert!(server.ask(&large).starts_with("HTTP/1.1 200 "));
    // The server does not read for ever what comes after the head.
    let mut stream = server.connect();
    stream.set_write_timeout(Some(LONG)).expect("a socket");
    stream.write_all(get("/healthz").as_bytes()).expect("it reads");
    let began = Instant::now();
    while stream.write_all(&[b'x'; 4096]).is_ok() {}
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[test]
fn of_pipelined_requests_the_first_is_answered() {
    let server = server();
    let reply = server.ask(&get("/healthz").repeat(20));
    assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{reply}");
    assert!(reply.ends_with("\r\n\r\nok\n"), "{reply}");
}

#[test]
fn a_client_that_closes_its_half_is_answered_and_one_that_resets_harms_nobody() {
    let server = server();
    let mut stream = server.connect();
    stream.write_all(get("/healthz").as_bytes()).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("a socket");
    assert!(everything(&mut stream).ends_with("\r\n\r\nok\n"));

    let mut stream = server.connect();
    stream.write_all(b"GET /healthz").expect("it reads");
    stream.shutdown(Shutdown::Write).expect("a socket");
    assert_eq!(everything(&mut stream), "", "half a request is none");

    server.add_tunnels(500);
    for _ in 0..50 {
        let mut stream = server.connect();
        stream.write_all(get("/metrics").as_bytes()).expect("it reads");
        stream.read_exact(&mut [0; 10]).expect("it answers");
        drop(stream); // much is unread: the kernel sends a reset
    }
    server.assert_probe_is_answered();
    wait_until("their threads end", || server.threads() == 1);
}

/// Such a client holds a place for as long as it may, and no more. Nothing is kept for it of the text that it does not read.
#[test]
fn clients_that_do_not_read_hold_up_neither_probes_nor_the_work() {
    let server = server();
    server.add_tunnels(50_000);
    let lazy: Vec<TcpStream> = (0..2 * PLACES)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(get("/metrics").as_bytes()).expect("it reads");
            stream
        })
        .collect();
    let began = Instant::now();
    server.add_tunnels(10);
    assert!(began.elapsed() < PROBE, "nothing is locked meanwhile");
    server.assert_probe_is_answered();
    server.assert_threads_are_few();
    wait_until("their time is over", || began.elapsed() > DEADLINE + DEADLINE / 2);
    for mut stream in lazy {
        let reply = everything(&mut stream);
        assert!(!reply.ends_with("\r\n0\r\n\r\n"), "a scrape that broke off is known for one");
    }
    wait_until("their threads end", || server.threads() == 1);
}

#[test]
fn addresses_are_taken_as_people_write_them() {
    let telemetry = || Arc::new(Telemetry::default());
    let everywhere = serve(":0", telemetry()).expect("a free port");
    let healthz = |address: SocketAddr| {
        let mut stream = TcpStream::connect_timeout(&address, PROBE).expect("it accepts");
        stream.write_all(get("/healthz").as_bytes()).expect("it reads");
        everything(&mut stream)
    };
    assert!(healthz((Ipv4Addr::LOCALHOST, everywhere.port()).into()).ends_with("ok\n"));
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(healthz((Ipv6Addr::LOCALHOST, everywhere.port()).into()).ends_with("ok\n"));
    }
    for taken in [format!(":{}", everywhere.port()), format!("127.0.0.1:{}", everywhere.port())] {
        let error = serve(&taken, telemetry()).expect_err("somebody has it");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{taken}: {error}");
    }
    for wrong in ["", ":", ":http", ":99999", "8080", "127.0.0.1"] {
        assert_eq!(serve(wrong, telemetry()).expect_err("no address").kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}
