//! Names of servers. musl gives up a name as a whole where a name server fails for its IPv6 address, or below a search domain.
//! Many homes have such a name server, and glibc takes its replies. So a name that the system does not find is looked up in parts.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libc::{AF_INET, AF_INET6, AF_UNSPEC};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The ways to look up a name, in the order in which they are tried: the family to ask for, and what is put behind the name.
/// With a dot there it is looked up below no search domain.
const WAYS: [(libc::c_int, &str); 5] =
    [(AF_UNSPEC, ""), (AF_INET, ""), (AF_INET6, ""), (AF_INET, "."), (AF_INET6, ".")];

/// The next way is tried beside the others after this time. musl gives a server that has failed 5 s to change its mind.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest time that a lookup takes where a request has no limit of its own.
const LONGEST: Duration = Duration::from_secs(60);

/// `ResolvedSocketAddrs` holds no more.
const MOST: usize = 16;

/// The resolver of a [`Client`](crate::Client), for other agents of ureq. It finds what the system's own finds. Where
/// that fails, or takes longer than a second, it also asks for IPv4 and IPv6 each alone, and without search domains.
#[derive(Debug, Default)]
pub struct LenientResolver;

impl Resolver for LenientResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let place = uri.scheme().zip(uri.authority());
        let place = place.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let place = place.ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let found = match (place.parse(), place.rsplit_once(':')) {
            (Err(_), Some((name, port))) => {
                let port = port.parse().map_err(|_| Error::BadUri(uri.to_string()))?;
                look_up(name, port, &timeout)?
            }
            (address, _) => address.into_iter().collect(),
        };
        let mut addresses = self.empty();
        found.into_iter().take(MOST).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Tries each way in a thread of its own, since nothing can end a lookup.
fn look_up(name: &str, port: u16, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    let end = Instant::now() + LONGEST.min(*timeout.after);
    let (sender, results) = mpsc::channel();
    let mut ways = WAYS.into_iter();
    let mut failures = Vec::new();
    while failures.len() < WAYS.len() {
        let patience = ways.next().map_or(LONGEST, |(family, dot)| {
            let (name, sender) = (format!("{name}{dot}"), sender.clone());
            thread::spawn(move || sender.send(ask_system(&name, port, family)));
            PATIENCE
        });
        let left = end.saturating_duration_since(Instant::now());
        match results.recv_timeout(patience.min(left)) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => failures.push(failure),
            Err(_) if left <= patience => return Err(Error::Timeout(timeout.reason)),
            Err(_) => {}
        }
    }
    Err(Error::Io(failures.swap_remove(0)))
}

/// The addresses of a name that are of this family.
fn ask_system(name: &str, port: u16, family: libc::c_int) -> io::Result<Vec<SocketAddr>> {
    let name = CString::new(name)?;
    // SAFETY: the fields are numbers and pointers, which may be zero.
    let hints = libc::addrinfo { ai_family: family, ai_socktype: libc::SOCK_STREAM, ..unsafe { std::mem::zeroed() } };
    let mut list = std::ptr::null_mut();
    // SAFETY: all pointers are to values that outlive the call. What it puts into the list is freed below.
    match unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &hints, &mut list) } {
        0 => {}
        libc::EAI_SYSTEM => return Err(io::Error::last_os_error()),
        code => {
            // SAFETY: the text is a constant of the system's.
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy();
            return Err(io::Error::other(format!("failed to lookup address information: {text}")));
        }
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: each pointer is to an entry of the list or null.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: an entry's family says which kind of address it points to.
        found.extend(match entry.ai_family {
            AF_INET => {
                let address = unsafe { &*entry.ai_addr.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
            }
            AF_INET6 => {
                let address = unsafe { &*entry.ai_addr.cast::<libc::sockaddr_in6>() };
                let ip = address.sin6_addr.s6_addr.into();
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id)))
            }
            _ => None,
        });
        next = entry.ai_next;
    }
    // SAFETY: the list is the system's, and nothing refers to it any more.
    unsafe { libc::freeaddrinfo(list) };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ureq::Timeout;
    use ureq::unversioned::transport::time;

    use super::*;

    fn resolve(url: &str, after: time::Duration) -> Result<Vec<SocketAddr>, Error> {
        let timeout = NextTimeout { after, reason: Timeout::Global, ..NextTimeout::default() };
        LenientResolver.resolve(&url.parse().expect("a URL"), &Config::default(), timeout).map(|found| found.to_vec())
    }

    #[test]
    fn an_address_is_taken_as_it_is() {
        for (url, address) in [
            ("https://10.0.0.1", "10.0.0.1:443"),
            ("http://10.0.0.1:8080/path", "10.0.0.1:8080"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
        ] {
            let found = resolve(url, time::Duration::NotHappening).expect(url);
            assert_eq!(found, [address.parse().expect("an address")], "{url}");
        }
    }

    /// Each family finds the name by itself, which needs no name server.
    #[test]
    fn a_name_is_found_with_its_port() {
        let found = resolve("http://localhost:81", time::Duration::from_secs(60)).expect("localhost");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 81), "{found:?}");
        let found = ask_system("localhost", 81, AF_INET).expect("localhost");
        assert_eq!(found[0], (Ipv4Addr::LOCALHOST, 81).into());
        assert!(ask_system("127.0.0.1", 81, AF_INET6).is_err(), "of another family");
    }

    #[test]
    fn a_name_that_is_not_found_is_told_in_the_systems_words_and_in_time() {
        let error = resolve("http://a..b", time::Duration::from_secs(60)).expect_err("no name");
        assert!(error.to_string().contains("failed to lookup address information: "), "{error}");
        let error = resolve("http://a..b", time::Duration::from_millis(0)).expect_err("no time");
        assert!(matches!(error, Error::Timeout(Timeout::Global)), "{error}");
    }
}
