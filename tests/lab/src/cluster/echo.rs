//! The image `echo`: a backend that listens on every containerPort of its pod. Over TCP it answers an HTTP request with
//! the pod's name (one for `/endless` with a body that never ends), and echoes everything else. Over UDP it echoes
//! everything.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::freeze::unless;
use super::spec::ContainerPort;

/// A running backend. All its connections end when it is dropped.
pub(crate) struct Echo {
    _tasks: JoinSet<()>,
}

impl Echo {
    /// Starts to listen.
    ///
    /// # Errors
    /// A port cannot be bound.
    pub(crate) async fn start(
        pod_name: &str,
        address: Ipv4Addr,
        ports: &[ContainerPort],
        frozen: &Frozen,
    ) -> io::Result<Echo> {
        let mut tasks = JoinSet::new();
        let name: Arc<str> = pod_name.into();
        for port in ports {
            let at = (address, port.container_port);
            match port.protocol.as_str() {
                "UDP" => tasks.spawn(unless_frozen(frozen, address, echo_datagrams(UdpSocket::bind(at).await?))),
                _ => tasks.spawn(serve(TcpListener::bind(at).await?, name.clone(), address, frozen.clone())),
            };
        }
        Ok(Echo { _tasks: tasks })
    }
}

/// The addresses of all pods that stand still.
type Frozen = watch::Sender<HashSet<Ipv4Addr>>;

fn unless_frozen<O, T: Future<Output = O>>(
    frozen: &Frozen,
    address: Ipv4Addr,
    task: T,
) -> impl Future<Output = O> + use<O, T> {
    unless(move |frozen: &HashSet<Ipv4Addr>| frozen.contains(&address), frozen.subscribe(), task)
}

async fn serve(listener: TcpListener, name: Arc<str>, address: Ipv4Addr, frozen: Frozen) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let name = name.clone();
        // Errors of a connection may be ignored: they concern its client only.
        connections.spawn(unless_frozen(&frozen, address, async move {
            let _ = serve_connection(stream, &name).await;
        }));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if speaks_http(&stream).await? {
        let answer = service_fn(|request: Request<Incoming>| answer(request, name));
        let http = hyper::server::conn::http1::Builder::new();
        return http.serve_connection(TokioIo::new(stream), answer).await.map_err(io::Error::other);
    }
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// Looks at the first bytes without taking them.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS "];
    let mut buffer = [0; 8];
    // A second is enough for the rest of a method to come.
    for _ in 0..500 {
        let length = stream.peek(&mut buffer).await?;
        let seen = &buffer[..length];
        if METHODS.iter().any(|method| seen.starts_with(method)) {
            return Ok(true);
        }
        if seen.is_empty() || !METHODS.iter().any(|method| method.starts_with(seen)) {
            return Ok(false);
        }
        // So far this is the start of a method: the rest is on its way.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(false)
}

async fn answer(
    mut request: Request<Incoming>,
    name: &str,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    while let Some(frame) = request.frame().await {
        frame?;
    }
    let body = match request.uri().path() {
        "/endless" => Endless.boxed(),
        _ => Full::from(format!("{name}\n")).boxed(),
    };
    Ok(Response::new(body))
}

/// A body without end, produced as fast as it is read.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 64 << 10] = [b'.'; 64 << 10];
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A client that has closed its port makes the next call fail; the one after works.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let _ = socket.send_to(&buffer[..length], client).await;
    }
}
