//! Reading replies: whole, bounded, and into the caller's type.
//!
//! A page of a list is decoded while it arrives (`page.rs`), so that no buffer ever holds it as text. Each body is read to its end, so
//! that the connection goes back to the pool.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, header::RETRY_AFTER};

use crate::error::{Kind, Refusal, Status};
use crate::page::{self, Broken};

/// The largest size of one object, in bytes. etcd's own limit is 1.5 MiB.
const OBJECT_LIMIT: u64 = 4 << 20;

/// So much of a refusal is read, in bytes.
const REFUSAL_LIMIT: u64 = 64 << 10;
/// So much of each text of a `Status` is shown, in characters.
const STATUS_TEXT: usize = 2_000;
/// So much of a refusal that is no `Status` is shown, in characters.
const EXCERPT: usize = 200;

/// The size of the buffer between ureq and the reader of a page.
const BUFFER: usize = 16 << 10;

pub(crate) type Reply = Response<ureq::Body>;

/// Decodes a successful reply that is one object.
pub(crate) fn decode<T: DeserializeOwned>(reply: Reply) -> Result<T, Kind> {
    let mut text = Vec::new();
    let mut body = reply.into_body().into_with_config().limit(OBJECT_LIMIT).reader();
    body.read_to_end(&mut text).map_err(|error| broken_off(error, OBJECT_LIMIT))?;
    serde_json::from_slice(&text).map_err(Kind::NotJson)
}

/// Reads a page of a list, of at most `limit` bytes, and hands the text of each object to `take`. Returns the token of the next page, and
/// the size of this one.
pub(crate) fn read_page(reply: Reply, limit: u64, take: &mut page::Take) -> Result<(String, u64), Kind> {
    let mut body = Counted { inner: reply.into_body().into_with_config().limit(limit).reader(), bytes: 0 };
    match page::read(&mut BufReader::with_capacity(BUFFER, &mut body), take) {
        Ok(next) => Ok((next, body.bytes)),
        Err(Broken::Io(error)) => Err(broken_off(error, limit)),
        Err(Broken::NotAList(error)) => Err(Kind::NotJson(error)),
    }
}

/// Makes an error of a reply whose status is not a success.
pub(crate) fn refusal(reply: Reply) -> Kind {
    let code = reply.status().as_u16();
    let retry_after = retry_after(&reply);
    let mut text = Vec::new();
    let mut body = reply.into_body().into_reader().take(REFUSAL_LIMIT);
    // Where the explanation breaks off, its beginning is shown. The code alone says enough.
    let _ = body.read_to_end(&mut text);
    let status = match serde_json::from_slice::<Status>(&text) {
        Ok(status) => Status { message: cut(&status.message), reason: cut(&status.reason), ..status },
        Err(_) => Status { message: excerpt(&text), ..Status::default() },
    };
    Kind::Refused(Refusal { code, retry_after, status })
}

/// The header `Retry-After` in seconds; the API server does not send the form with a date.
fn retry_after(reply: &Reply) -> Option<Duration> {
    let value = reply.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// A text of a `Status`, in a length that fits a log.
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
