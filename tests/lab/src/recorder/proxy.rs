//! The reverse proxy. It opens one connection to the backend for each connection of a client, records requests and
//! perhaps strikes them, and passes answers on as they stream in (a watch never ends).

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use hyper::http::{self, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::faults::{Answer, Fault, Faults};
use super::log::{Log, Request, Target};

type Failure = Box<dyn Error + Send + Sync>;
type Reply = http::Response<BoxBody<Bytes, Failure>>;

/// The pause between the part of a body that is sent and the break, so that the part is on its way by then.
const BEFORE_THE_BREAK: Duration = Duration::from_millis(20);

/// A proxy before one backend.
pub(super) struct Front {
    pub(super) to: Target,
    /// The name of the client that this proxy is for; empty if it is for anybody.
    pub(super) from: String,
    pub(super) backend: SocketAddr,
    /// The TLS configurations towards clients and towards the backend. With `None` both sides are plain.
    pub(super) tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    pub(super) log: Arc<Log>,
    pub(super) faults: Arc<Faults>,
}

impl Front {
    /// Listens on a free port until the handle is aborted.
    pub(super) fn start(self) -> (SocketAddr, AbortHandle) {
        let listener = crate::runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let front = Arc::new(self);
        let task = crate::runtime().spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((client, _)) = accepted {
                        connections.spawn(front.clone().accept(client));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        (address, task.abort_handle())
    }

    async fn accept(self: Arc<Self>, client: TcpStream) {
        // Errors on this connection may be ignored: a client that goes away or refuses our certificate concerns nobody
        // else.
        let _ = client.set_nodelay(true);
        match &self.tls {
            None => self.serve(client).await,
            Some((server, _)) => {
                if let Ok(client) = TlsAcceptor::from(server.clone()).accept(client).await {
                    self.serve(client).await;
                }
            }
        }
    }

    /// Serves one connection. A request that fails closes the connection; several faults work by that.
    async fn serve(self: Arc<Self>, client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let backend = Arc::new(Mutex::new(None));
        let service = service_fn(|request| self.clone().handle(request, backend.clone()));
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
    }

    async fn handle(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        backend: Arc<Mutex<Option<SendRequest<Full<Bytes>>>>>,
    ) -> Result<Reply, Failure> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let fault = self.faults.strike(self.to, &self.from, head.method.as_str(), &path);
        let record = Request { struck: fault.is_some(), ..record(self.to, &self.from, &head, path, &body) };
        let number = self.log.add(record.clone());
        match &fault {
            Some(Fault::Answer(answer)) => {
                self.log.answered(number, answer.status);
                return reply(answer);
            }
            Some(Fault::Refuse) => return Err("struck: refused".into()),
            Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
            Some(Fault::Hold(gate)) if !gate.hold(record.clone()).await => {
                return Err("struck: held, then dropped".into());
            }
            _ => {}
        }
        // A task of its own makes the request, so that it is carried out even if the client goes away.
        let request = http::Request::from_parts(head, Full::new(body));
        let this = self.clone();
        let reply = tokio::spawn(async move { this.forward(request, &backend).await }).await??;
        match &fault {
            Some(Fault::LoseReply) => return Err("struck: reply lost".into()),
            Some(Fault::HoldReply(gate)) if !gate.hold(record).await => {
                return Err("struck: reply held, then dropped".into());
            }
            Some(Fault::CutReply) if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&reply.status()) => {
                return Err("struck: there is no body to cut".into());
            }
            Some(Fault::DelayReply(delay)) => tokio::time::sleep(*delay).await,
            _ => {}
        }
        self.log.answered(number, reply.status().as_u16());
        match fault {
            Some(Fault::ReplyBody(body)) => {
                let length = body.len();
                let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
                Ok(with_length(reply.map(|_| body.boxed()), length))
            }
            Some(Fault::CutReply) => {
                let (head, body) = reply.into_parts();
                let whole = body.collect().await?.to_bytes();
                let cut = Cut { first: Some(whole.slice(..whole.len() / 2)), pause: None };
                Ok(with_length(http::Response::from_parts(head, cut.boxed()), whole.len().max(1)))
            }
            _ => Ok(reply.map(|body| body.map_err(Failure::from).boxed())),
        }
    }

    /// Sends a request to the backend, over the connection that is there or a new one.
    async fn forward(
        &self,
        mut request: http::Request<Full<Bytes>>,
        connection: &Mutex<Option<SendRequest<Full<Bytes>>>>,
    ) -> Result<http::Response<Incoming>, Failure> {
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.backend.to_string())?);
        let mut connection = connection.lock().await;
        let usable = match connection.as_mut() {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *connection = Some(self.connect().await?);
        }
        let sender = connection.as_mut().ok_or("there is a connection now")?;
        Ok(sender.send_request(request).await?)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.backend).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((_, client)) => {
                let name = ServerName::IpAddress(self.backend.ip().into());
                handshake(TlsConnector::from(client.clone()).connect(name, stream).await?).await
            }
        }
    }
}

/// A body that breaks off after its first part.
struct Cut {
    first: Option<Bytes>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(BEFORE_THE_BREAK)));
        pause.as_mut().poll(task).map(|()| Some(Err("struck: cut off".into())))
    }
}

/// The reply, with a head that promises a body of this length.
fn with_length(mut reply: Reply, length: usize) -> Reply {
    reply.headers_mut().remove(TRANSFER_ENCODING);
    reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    reply
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when the sender is dropped; errors of the connection show up in the request.
    tokio::spawn(connection);
    Ok(sender)
}

fn record(to: Target, from: &str, head: &http::request::Parts, path: String, body: &[u8]) -> Request {
    let user_agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Request {
        to,
        from: from.to_owned(),
        struck: false,
        time: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        method: head.method.to_string(),
        path,
        status: None,
        body: String::from_utf8_lossy(body).into_owned(),
        user_agent: user_agent.to_owned(),
    }
}

fn reply(answer: &Answer) -> Result<Reply, Failure> {
    let mut reply = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        reply = reply.header(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let body = Full::new(Bytes::from(answer.body.clone()));
    Ok(reply.body(body.map_err(|never| match never {}).boxed())?)
}
