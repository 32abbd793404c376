//! The HTTP port: `/healthz` and `/readyz` for the kubelet, `/metrics` for Prometheus.
//!
//! It is made to answer a probe within a moment, whoever else connects: there are a few places, a connection loses its place
//! after [`DEADLINE`], and the newest takes that of the oldest. A connection serves one request; nothing is kept of it.

mod places;
mod request;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Telemetry;
use super::health::Overdue;
use super::metrics;
use places::Places;
use request::{LONGEST_HEAD, Refusal, Request};

/// The time that a connection has from first to last. A probe takes milliseconds; the kubelet waits for one second, and the
/// chart lets it wait for five.
const DEADLINE: Duration = Duration::from_secs(2);

/// Enough for what a connection's thread calls, several times over.
const STACK: usize = 128 << 10;

/// How long nobody is accepted after that failed (out of file descriptors, say), or while threads are still to leave. Long
/// enough to cost nothing, and short enough that a probe behind a hundred others is in time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// How often it is said that nobody can be accepted.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A client may still send so many bytes after its answer before the connection is closed on it.
const LONGEST_REST: usize = 64 << 10;

/// Metrics go out in pieces of this size.
const PIECE: usize = 4 << 10;

/// Starts to serve at `address` (`127.0.0.1:8080`, `[::]:8080`, or `:8080` for all addresses of both families), on threads
/// of its own and until the process ends. Returns the address on which it listens.
///
/// # Errors
/// The address is none, or it is taken.
pub fn serve(address: &str, telemetry: Arc<Telemetry>) -> io::Result<SocketAddr> {
    let listeners = listen(address)?;
    let local = listeners.first().ok_or(ErrorKind::AddrNotAvailable)?.local_addr()?;
    let places = Places::default();
    for listener in listeners {
        let (places, telemetry) = (places.clone(), Arc::clone(&telemetry));
        let thread = thread::Builder::new().name(thread_name(local)).stack_size(STACK);
        thread.spawn(move || accept(&listener, &places, &telemetry))?;
    }
    Ok(local)
}

/// `top` shows the threads by this name: `http:8080`.
fn thread_name(local: SocketAddr) -> String {
    format!("http:{}", local.port())
}

/// An address without a host stands for all: an IPv6 socket serves IPv4 too, unless the system is set otherwise
/// (`net.ipv6.bindv6only`) or has no IPv6.
fn listen(address: &str) -> io::Result<Vec<TcpListener>> {
    let Some(port) = address.strip_prefix(':') else { return Ok(vec![TcpListener::bind(address)?]) };
    let port: u16 = port.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, "the port is no number"))?;
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(both) => {
            let port = both.local_addr()?.port();
            let v4_too = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)); // taken by `both`, as a rule
            Ok([both].into_iter().chain(v4_too).collect())
        }
        Err(_) => Ok(vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?]),
    }
}

fn accept(listener: &TcpListener, places: &Places, telemetry: &Arc<Telemetry>) {
    let mut said: Option<Instant> = None;
    loop {
        while places.are_crowded() {
            thread::sleep(ACCEPT_PAUSE);
        }
        match take_in(listener, places, telemetry) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                    log::warn!("the HTTP port cannot take a connection: {error}");
                    said = Some(Instant::now());
                }
                places.free_oldest();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn take_in(listener: &TcpListener, places: &Places, telemetry: &Arc<Telemetry>) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    let place = places.take(stream);
    let end = Instant::now() + DEADLINE;
    let name = thread::current().name().unwrap_or_default().to_owned();
    let telemetry = Arc::clone(telemetry);
    thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
        // An error here is the client's: it has gone, is too slow, or had to make room.
        let _ = converse(Connection { stream: &place.stream, end }, &telemetry);
    })?;
    Ok(())
}

/// A connection that ends at a fixed time, however short the wait for each byte is.
struct Connection<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Connection<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Connection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn converse(mut connection: Connection, telemetry: &Telemetry) -> io::Result<()> {
    let mut head = Vec::new();
    let complete = read_head(&mut connection, &mut head)?;
    match if complete { request::parse(&head) } else { Err(Refusal::TooLarge) } {
        Ok(request) => answer(&mut connection, &request, telemetry)?,
        Err(refusal) => refuse(&mut connection, refusal)?,
    }
    // Closing a connection while something is unread resets it, and the client might lose its answer.
    connection.stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 512];
    let mut read = 0;
    while read < LONGEST_REST {
        match connection.read(&mut rest)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}

/// Reads until the head is complete. Returns `false` if it is too large.
fn read_head(connection: &mut Connection, head: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 512];
    let mut read = 0;
    while read <= LONGEST_HEAD {
        let length = connection.read(&mut buffer)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        read += length;
        if request::extend(head, buffer.get(..length).unwrap_or_default()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn answer(connection: &mut Connection, request: &Request, telemetry: &Telemetry) -> io::Result<()> {
    let (status, text) = match request.path {
        "/healthz" => alive(&telemetry.health.overdue()),
        "/readyz" => match telemetry.health.unready() {
            None => ("200 OK", "ok\n".to_owned()),
            Some(why) => ("503 Service Unavailable", format!("{why}\n")),
        },
        "/metrics" => return show_metrics(connection, request, telemetry),
        _ => ("404 Not Found", "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    reply(connection, status, "", &text, request.head_only)
}

fn alive(overdue: &[Overdue]) -> (&'static str, String) {
    if overdue.is_empty() {
        return ("200 OK", "ok\n".to_owned());
    }
    ("503 Service Unavailable", overdue.iter().map(|thread| format!("{thread}\n")).collect())
}

fn refuse(connection: &mut Connection, refusal: Refusal) -> io::Result<()> {
    let (status, more, text) = match refusal {
        Refusal::Malformed => ("400 Bad Request", "", "this is not HTTP\n"),
        Refusal::Method => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "GET and HEAD only\n"),
        Refusal::TooLarge => ("431 Request Header Fields Too Large", "", "the request is too large\n"),
        Refusal::Version => ("505 HTTP Version Not Supported", "", "HTTP/1.1 and HTTP/1.0 only\n"),
    };
    reply(connection, status, more, text, false)
}

fn reply(connection: &mut Connection, status: &str, more: &str, text: &str, head_only: bool) -> io::Result<()> {
    let length = text.len();
    let body = if head_only { "" } else { text };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
    );
    connection.write_all(reply.as_bytes())
}

/// Sends the metrics in chunks, so that the text need not be held as a whole, and the client can tell a scrape that broke
/// off. HTTP/1.0 has no chunks: the end of the connection is the end of the text.
fn show_metrics(connection: &mut Connection, request: &Request, telemetry: &Telemetry) -> io::Result<()> {
    let encoding = if request.old { "" } else { "Transfer-Encoding: chunked\r\n" };
    let content_type = metrics::CONTENT_TYPE;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{encoding}Connection: close\r\n\r\n");
    connection.write_all(head.as_bytes())?;
    if request.head_only {
        return Ok(());
    }
    if request.old {
        let mut out = BufWriter::with_capacity(PIECE, connection);
        telemetry.metrics.render(&mut out)?;
        return out.flush();
    }
    let mut out = BufWriter::with_capacity(PIECE, Chunks(connection));
    telemetry.metrics.render(&mut out)?;
    out.flush()?;
    out.get_mut().0.write_all(b"0\r\n\r\n")
}

/// Each write is a chunk (RFC 9112, 7.1).
struct Chunks<'a, 'b>(&'a mut Connection<'b>);

impl Write for Chunks<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0); // an empty chunk is the last
        }
        let size = format!("{:x}\r\n", buffer.len());
        self.0.write_all(&[size.as_bytes(), buffer, b"\r\n"].concat())?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
