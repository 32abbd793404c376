//! Reading replies: whole, bounded, and straight into the caller's type.
//!
//! A reply is decoded while it arrives, so that no buffer ever holds a page of a list as text. The
//! decoder reads on to the end of the body, which is what gives the connection back to the pool.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, header::RETRY_AFTER};

use crate::error::{Kind, Refusal, Status};

/// What one object may weigh, in bytes. etcd's own limit is 1.5 MiB.
pub(crate) const OBJECT_LIMIT: u64 = 4 << 20;

/// How much of a refusal is read, in bytes; how much of each text of a `Status`, and of what is none, is shown, in
/// characters.
const REFUSAL_LIMIT: u64 = 64 << 10;
const STATUS_TEXT: usize = 2_000;
const EXCERPT: usize = 200;

/// serde_json asks a reader for one byte at a time.
const BUFFER: usize = 16 << 10;

pub(crate) type Reply = Response<ureq::Body>;

/// Decodes a successful reply of at most `limit` bytes; also says how many it had.
pub(crate) fn decode<T: DeserializeOwned>(reply: Reply, limit: u64) -> Result<(T, u64), Kind> {
    let mut body = Counted { inner: reply.into_body().into_with_config().limit(limit).reader(), bytes: 0 };
    match serde_json::from_reader(BufReader::with_capacity(BUFFER, &mut body)) {
        Ok(value) => Ok((value, body.bytes)),
        Err(error) if error.is_io() => Err(broken_off(error.into(), limit)),
        Err(error) => Err(Kind::NotJson(error)),
    }
}

/// Makes an error of a reply whose status is not a success.
pub(crate) fn refusal(reply: Reply) -> Kind {
    let code = reply.status().as_u16();
    let retry_after = retry_after(&reply);
    let mut text = Vec::new();
    let mut body = reply.into_body().into_reader().take(REFUSAL_LIMIT);
    // What came of the explanation is all there is to show; the code alone says enough.
    let _ = body.read_to_end(&mut text);
    let status = match serde_json::from_slice::<Status>(&text) {
        Ok(status) => Status { message: cut(&status.message), reason: cut(&status.reason), ..status },
        Err(_) => Status { message: excerpt(&text), ..Status::default() },
    };
    Kind::Refused(Refusal { code, retry_after, status })
}

/// In seconds; the API server does not send the form with a date.
fn retry_after(reply: &Reply) -> Option<Duration> {
    let value = reply.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// What the API server itself says in a `Status`, in a length that fits a log.
fn cut(text: &str) -> String {
    text.chars().take(STATUS_TEXT).collect()
}

/// The beginning of a text that some proxy wrote, fit for one line of a log.
fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(EXCERPT).collect()
}

fn broken_off(error: io::Error, limit: u64) -> Kind {
    match ureq::Error::from(error) {
        ureq::Error::BodyExceedsLimit(_) => Kind::TooLarge(limit),
        error => Kind::Transport(error),
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
