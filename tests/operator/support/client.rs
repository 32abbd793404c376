//! Clients of the tunnels, as users on the Internet are.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// A connection whose reads and writes may each take a third of the deadline. So a test that asks again and again
/// outlives a request that hangs.
pub fn connect(ip: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((ip, port))?;
    stream.set_read_timeout(Some(DEADLINE / 3))?;
    stream.set_write_timeout(Some(DEADLINE / 3))?;
    Ok(stream)
}

/// Makes an HTTP request. Gives the head and the body of the answer.
pub fn get(ip: IpAddr, port: u16, path: &str) -> io::Result<String> {
    let mut stream = connect(ip, port)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asserts that the backend of that name answers.
#[track_caller]
pub fn assert_answers(ip: IpAddr, port: u16, backend: &str) {
    let answer = get(ip, port, "/").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("{backend}-")), "{answer:?}");
}

/// Clients that open connections as fast as they can, until told to stop. A connection that gets no answer counts as
/// lost.
#[derive(Default)]
pub struct Stream {
    stop: AtomicBool,
    pub answered: AtomicUsize,
    pub lost: std::sync::Mutex<Vec<String>>,
    /// When each began that was lost or took longer than three seconds.
    bad: std::sync::Mutex<Vec<Instant>>,
}

impl Stream {
    /// Runs `story` while this number of clients asks the backend.
    pub fn during(clients: usize, ip: IpAddr, port: u16, backend: &str, story: impl FnOnce(&Stream)) -> Stream {
        let stream = Stream::default();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| stream.client(ip, port, backend));
            }
            let _stop = StopAtEnd(&stream.stop);
            story(&stream);
        });
        stream
    }

    /// The number of connections that began after `strike`, and were lost or took longer than three seconds.
    pub fn bad_after(&self, strike: Instant) -> usize {
        self.bad.lock().expect("no one panics while holding it").iter().filter(|began| **began > strike).count()
    }

    fn client(&self, ip: IpAddr, port: u16, backend: &str) {
        let began = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = get(ip, port, "/");
            let is_answer = answer.as_ref().is_ok_and(|answer| answer.contains(&format!("{backend}-")));
            if !is_answer || asked.elapsed() > Duration::from_secs(3) {
                self.bad.lock().expect("no one panics while holding it").push(asked);
            }
            let what = match answer {
                Ok(answer) if answer.contains(&format!("{backend}-")) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Ok(answer) => format!("an answer {answer:?}"),
                Err(error) => error.to_string(),
            };
            let lost = format!("at {:?}, after {:?}: {what}", began.elapsed(), asked.elapsed());
            self.lost.lock().expect("no one panics while holding it").push(lost);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Stops the clients when it is dropped, so they stop also when the story fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
pub fn assert_none_lost(stream: &Stream) {
    let lost = stream.lost.lock().expect("nobody panicked");
    assert!(lost.is_empty(), "{} of {}: {lost:#?}", lost.len(), stream.answered.load(Ordering::Relaxed));
    assert!(stream.answered.load(Ordering::Relaxed) > 100, "the clients were busy all the while");
}
