//! The little of HTTP that a probe needs: the first line of a request. Headers are read, and nothing is done with them.

/// The longest head that is read, in bytes.
pub(super) const LONGEST_HEAD: usize = 8 << 10;

/// A request, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// HEAD, not GET.
    pub(super) head_only: bool,
    /// The path does not include the query.
    pub(super) path: &'a str,
    /// The client speaks HTTP/1.0, which has no chunks.
    pub(super) old: bool,
}

/// The reason why the answer is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    Method,
    TooLarge,
    Version,
}

/// Adds bytes to the head of a request. Returns whether the head is complete: an empty line ends it. Empty lines before it
/// do not count, since clients may send some (RFC 9112, 2.2).
pub(super) fn extend(head: &mut Vec<u8>, read: &[u8]) -> bool {
    let start = if head.is_empty() {
        read.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(read.len())
    } else {
        0
    };
    let searched = head.len().saturating_sub(2);
    head.extend_from_slice(read.get(start..).unwrap_or_default());
    let new = head.get(searched..).unwrap_or_default();
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Reads the first line of a complete head.
pub(super) fn parse(head: &[u8]) -> Result<Request<'_>, Refusal> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Refusal::Malformed)?;
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ if version.starts_with("HTTP/") => return Err(Refusal::Version),
        _ => return Err(Refusal::Malformed),
    };
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        "" => return Err(Refusal::Malformed),
        _ => return Err(Refusal::Method),
    };
    Ok(Request { head_only, path: path(target).ok_or(Refusal::Malformed)?, old })
}

/// The path of a target: `/path?query`, or `http://host/path?query` as a proxy sends it.
fn path(target: &str) -> Option<&str> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => target,
    };
    path.split('?').next().filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Request<'_>, Refusal> {
        Ok(Request { head_only: false, path, old: false })
    }

    #[test]
    fn first_lines_are_understood() {
        for (head, expected) in [
            ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", get("/healthz")),
            ("GET / HTTP/1.1\n\n", get("/")),
            ("GET /metrics?name[]=a HTTP/1.1\r\n\r\n", get("/metrics")),
            ("GET http://10.0.0.1:8080/readyz?x HTTP/1.1\r\n\r\n", get("/readyz")),
            ("GET http://10.0.0.1 HTTP/1.1\r\n\r\n", get("/")),
            ("HEAD / HTTP/1.0\r\n\r\n", Ok(Request { head_only: true, path: "/", old: true })),
            ("POST /metrics HTTP/1.1\r\n\r\n", Err(Refusal::Method)),
            ("get / HTTP/1.1\r\n\r\n", Err(Refusal::Method)),
            ("PRI * HTTP/2.0\r\n\r\n", Err(Refusal::Version)),
            ("GET / HTTPS\r\n\r\n", Err(Refusal::Malformed)),
            ("GET /\r\n\r\n", Err(Refusal::Malformed)),
            ("GET  / HTTP/1.1\r\n\r\n", Err(Refusal::Malformed)),
            ("GET / HTTP/1.1 x\r\n\r\n", Err(Refusal::Malformed)),
            ("GET healthz HTTP/1.1\r\n\r\n", Err(Refusal::Malformed)),
            (" / HTTP/1.1\r\n\r\n", Err(Refusal::Malformed)),
            ("\u{16}\u{3}\u{1}", Err(Refusal::Malformed)),
            ("", Err(Refusal::Malformed)),
        ] {
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n"), Err(Refusal::Malformed));
    }

    #[test]
    fn an_empty_line_ends_a_head_wherever_it_is_cut() {
        for (text, complete) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\n\n", true),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nmore", true),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
            ("\r\n\r\nGET / HTTP/1.1\r\n", false),
            ("GET / HTTP/1.1\r\nA: b\r\n", false),
            ("\r\n\r\n", false),
            ("", false),
        ] {
            for size in 1..=text.len().max(1) {
                let mut head = Vec::new();
                let ended = text.as_bytes().chunks(size).any(|piece| extend(&mut head, piece));
                assert_eq!(ended, complete, "{text:?} in pieces of {size}");
                assert!(head.is_empty() || head.starts_with(b"GET"), "{text:?} in pieces of {size}");
            }
        }
    }
}
