//! A server that answers as a test tells it to, well or badly, and records the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of the connection that brought it, from 0.
    pub connection: usize,
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// The headers as `name: value`, with the names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The certificate of the client, in DER.
    pub certificate: Option<Vec<u8>>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The server's answer to a request.
pub enum Answer {
    /// The server sends a whole reply, and the connection stays open.
    Reply { status: u16, headers: &'static str, body: String },
    /// The server sends these bytes, then closes the connection.
    Raw(Vec<u8>),
    /// The server closes the connection without a reply.
    HangUp,
    /// The server sends these bytes, then nothing until the client goes away.
    Stall(&'static str),
    /// The server sends the first text, then the second again and again, slowly.
    Drip(&'static str, &'static str),
    /// The server sends the first text, then the second again and again, as fast as it can.
    Endless(&'static str, &'static str),
}

impl Answer {
    pub fn json(body: impl Into<String>) -> Answer {
        Answer::with_status(200, body)
    }

    pub fn with_status(status: u16, body: impl Into<String>) -> Answer {
        Answer::Reply { status, headers: "", body: body.into() }
    }

    pub fn status_object(code: u16, reason: &str, message: &str) -> Answer {
        let body = format!(
            r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}","message":"{message}"}}"#
        );
        Answer::with_status(code, body)
    }
}

/// A server, which runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A function that makes the answer to a request. The number says how many requests came before.
type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

struct Shared {
    answer: Box<Script>,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    ends: AtomicBool,
}

impl Server {
    /// Starts a server without TLS. `answer` gets each request, and the number of requests before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
        Server::start_as(None, answer)
    }

    pub fn start_tls(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::start_as(Some(tls), answer)
    }

    fn start_as(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            tls,
            requests: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if accepting.ends.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                thread::spawn(move || shared.serve(number, stream.expect("a connection")));
            }
        });
        Server { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests up to now.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // A connection wakes the thread that accepts. The other threads end with their clients.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, connection: usize, stream: TcpStream) {
        match &self.tls {
            None => self.converse(connection, stream, |_| None),
            Some(tls) => {
                let session = ServerConnection::new(tls.clone()).expect("a valid configuration");
                self.converse(connection, StreamOwned::new(session, stream), |stream| {
                    Some(stream.conn.peer_certificates()?.first()?.to_vec())
                });
            }
        }
    }

    /// Serves one connection. A client that goes away, or fails the handshake, ends this thread and nothing else.
    fn converse<S: Read + Write>(&self, connection: usize, stream: S, certificate_of: impl Fn(&S) -> Option<Vec<u8>>) {
        let mut stream = BufReader::new(stream);
        while let Some(mut request) = read_request(connection, &mut stream) {
            request.certificate = certificate_of(stream.get_ref());
            let number = {
                let mut requests = self.requests();
                requests.push(request.clone());
                requests.len() - 1
            };
            let answer = (self.answer)(&request, number);
            if !give(answer, &mut stream) {
                return;
            }
        }
    }
}

fn read_request(connection: usize, stream: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (first, headers) = lines.split_first()?;
    let mut words = first.split(' ').map(str::to_owned);
    let headers: Vec<_> = headers
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request {
        connection,
        method: words.next()?,
        target: words.next()?,
        headers,
        body: String::new(),
        certificate: None,
    };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).expect("a body in UTF-8");
    Some(request)
}

/// Sends the answer. Returns whether the connection stays open.
fn give<S: Read + Write>(answer: Answer, stream: &mut BufReader<S>) -> bool {
    match answer {
        Answer::Reply { status, headers, body } => {
            let length = body.len();
            let reply = format!("HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
            send(stream, reply.as_bytes())
        }
        Answer::Raw(bytes) => {
            send(stream, &bytes);
            false
        }
        Answer::HangUp => false,
        Answer::Stall(beginning) => {
            send(stream, beginning.as_bytes());
            let _ = stream.read(&mut [0]);
            false
        }
        Answer::Drip(first, drop) => {
            send(stream, first.as_bytes());
            while send(stream, drop.as_bytes()) {
                thread::sleep(Duration::from_millis(50));
            }
            false
        }
        Answer::Endless(first, rest) => {
            let rest = rest.repeat(1_000);
            send(stream, first.as_bytes());
            while send(stream, rest.as_bytes()) {}
            false
        }
    }
}

fn send<S: Read + Write>(stream: &mut BufReader<S>, bytes: &[u8]) -> bool {
    let stream = stream.get_mut();
    stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
}
