//! Other ways to the API server: from an address that its certificate does not have, and through proxies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A server that passes on all bytes, in both directions. It ends with the process.
pub struct Relay {
    address: SocketAddr,
    /// The number of connections that it has carried.
    carried: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay at 127.0.0.2 that leads to one address.
    pub fn to(target: SocketAddr) -> Relay {
        Relay::start("127.0.0.2:0", move |stream| Some((stream.try_clone().ok()?, TcpStream::connect(target).ok()?)))
    }

    /// An HTTP proxy, which leads to the address that a CONNECT names.
    pub fn proxy() -> Relay {
        Relay::start("127.0.0.1:0", |stream| {
            let mut reader = BufReader::new(stream.try_clone().ok()?);
            let mut first = String::new();
            reader.read_line(&mut first).ok()?;
            let mut line = String::new();
            while reader.read_line(&mut line).ok()? > 2 {
                line.clear();
            }
            let target = first.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
            let upstream = TcpStream::connect(target).ok()?;
            let mut stream = reader.into_inner();
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
            Some((stream, upstream))
        })
    }

    /// A SOCKS5 proxy (RFC 1928), which leads to the IPv4 address that its client names.
    pub fn socks() -> Relay {
        Relay::start("127.0.0.1:0", |stream| {
            let mut stream = stream.try_clone().ok()?;
            let [_version, methods] = read(&mut stream)?;
            io::copy(&mut (&stream).take(methods.into()), &mut io::sink()).ok()?;
            stream.write_all(&[5, 0]).ok()?;
            let [5, 1, 0, 1] = read(&mut stream)? else { return None };
            let address: [u8; 4] = read(&mut stream)?;
            let upstream =
                TcpStream::connect((std::net::Ipv4Addr::from(address), u16::from_be_bytes(read(&mut stream)?))).ok()?;
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
            Some((stream, upstream))
        })
    }

    fn start(
        at: &str,
        connect: impl Fn(&TcpStream) -> Option<(TcpStream, TcpStream)> + Send + Sync + 'static,
    ) -> Relay {
        let listener = TcpListener::bind(at).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let carried = Arc::new(AtomicUsize::new(0));
        let count = carried.clone();
        let connect = Arc::new(connect);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, connect) = (count.clone(), connect.clone());
                thread::spawn(move || {
                    if let Some((down, up)) = connect(&stream) {
                        count.fetch_add(1, Ordering::SeqCst);
                        join(down, up);
                    }
                });
            }
        });
        Relay { address, carried }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

fn read<const N: usize>(stream: &mut TcpStream) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn join(down: TcpStream, up: TcpStream) {
    let (Ok(mut down_again), Ok(mut up_again)) = (down.try_clone(), up.try_clone()) else { return };
    thread::spawn(move || copy(&mut up_again, &mut down_again));
    copy(&mut { down }, &mut { up });
}

fn copy(from: &mut TcpStream, to: &mut TcpStream) {
    // An error needs no handling: the other side sees that its connection ends.
    let _ = io::copy(from, to);
    let _ = to.shutdown(Shutdown::Write);
}
