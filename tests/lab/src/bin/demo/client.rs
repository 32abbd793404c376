//! A client that opens one connection after the other and counts the answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::fly::Fly;

/// No answer takes this long; if one does, its connection counts as lost.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between an answer and the next connection. It makes some hundred connections a second.
const PAUSE: Duration = Duration::from_millis(5);

/// The results of a client: how many answers it got, and which connections failed.
#[derive(Default)]
pub struct Tally {
    pub answered: u32,
    /// How many connections ended in the midst, and were opened once more, as browsers do.
    pub again: u32,
    /// The errors of the connections that failed, one entry each.
    pub lost: Vec<String>,
}

/// A client that works until it is told to stop.
pub struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl Client {
    /// Starts to ask `address` again and again for `expected`.
    pub fn start(address: SocketAddr, expected: String) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut tally = Tally::default();
            while !stopped.load(Ordering::Relaxed) {
                let first = get(address);
                let cut = first.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut);
                tally.again += u32::from(cut);
                match if cut { get(address) } else { first } {
                    Ok(body) if body.trim() == expected => tally.answered += 1,
                    Ok(body) => tally.lost.push(format!("another answer: {body:?}")),
                    Err(error) => tally.lost.push(error.to_string()),
                }
                thread::sleep(PAUSE);
            }
            tally
        });
        Client { stop, thread }
    }

    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Gets the body of `GET /`.
///
/// # Errors
/// It fails without a connection, or without a whole answer that says success.
pub fn get(address: SocketAddr) -> io::Result<String> {
    ask(address, "GET / HTTP/1.1", "")
}

/// Destroys a Machine, as `fly machine destroy --force` does.
///
/// # Errors
/// Those of [`get`].
pub fn destroy(fly: &Fly, app: &str, machine: &str) -> io::Result<String> {
    let authorization = format!("Authorization: Bearer {}\r\n", fly.token());
    ask(fly.address(), &format!("DELETE /v1/apps/{app}/machines/{machine}?force=true HTTP/1.1"), &authorization)
}

fn ask(address: SocketAddr, line: &str, header: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{line}\r\nHost: {address}\r\n{header}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("not an answer of success: {answer:?}"))),
    }
}
