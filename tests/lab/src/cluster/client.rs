//! A small client of the API server for the lab's own use. It sends JSON over one HTTP/2 connection, with the
//! administrator's token, straight to the API server and past every recorder.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// The content types of server-side apply and of the three kinds of patches.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
const JSON: &str = "application/json";

/// The reason why the API server did not do as asked.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status, or 0 if there was no answer.
    pub status: u16,
    /// A word for programs, such as `AlreadyExists`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.reason, self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// Whether the same request may succeed later: no answer, too many requests, or an error of the server.
    pub fn is_passing(&self) -> bool {
        matches!(self.status, 0 | 429 | 500..)
    }

    fn no_answer(error: impl fmt::Display) -> ApiError {
        ApiError { status: 0, reason: "NoAnswer".into(), message: error.to_string() }
    }

    fn from_answer(status: u16, body: &[u8]) -> ApiError {
        let body: Value =
            serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()));
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let message = body["message"].as_str().or(body.as_str()).unwrap_or_default().to_owned();
        ApiError { status, reason: text("reason"), message }
    }
}

/// The client. It is cheap to clone: all clones share the connection.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    tls: TlsConnector,
    token: String,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, ca_pem: &str, token: &str) -> Client {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("the lab's CA is PEM");
        roots.add(certificate).expect("the lab's CA is a certificate");
        let mut tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        Client(Arc::new(Inner { address, tls, token: token.into(), connection: Mutex::default() }))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, JSON, None).await
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.json(Method::POST, path, JSON, Some(object)).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Result<Value, ApiError> {
        self.json(Method::PATCH, path, kind, Some(patch)).await
    }

    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.json(Method::PUT, path, JSON, Some(object)).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Value, ApiError> {
        self.json(Method::DELETE, path, JSON, Some(options)).await
    }

    /// Gets something whose answer is no JSON.
    pub(crate) async fn text(&self, path: &str) -> Result<String, ApiError> {
        let body = self.body(Method::GET, path, JSON, None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Opens a stream, such as a watch.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, ApiError> {
        let response = self.send(Method::GET, path, JSON, None).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(ApiError::no_answer)?.to_bytes();
        Err(ApiError::from_answer(status, &body))
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let body = self.body(method, path, content_type, body).await?;
        serde_json::from_slice(&body).map_err(ApiError::no_answer)
    }

    async fn body(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, ApiError> {
        let response = self.send(method, path, content_type, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(ApiError::no_answer)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(ApiError::from_answer(status.as_u16(), &body)) }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ApiError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.0.address))
            .header("authorization", format!("Bearer {}", self.0.token))
            .header("content-type", content_type)
            .header("user-agent", "lab")
            .body(Full::from(body))
            .map_err(ApiError::no_answer)?;
        let mut connection = self.connection().await.map_err(ApiError::no_answer)?;
        connection.send_request(request).await.map_err(ApiError::no_answer)
    }

    async fn connection(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let mut connection = self.0.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let tcp = TcpStream::connect(self.0.address).await?;
        tcp.set_nodelay(true)?;
        let tls = self.0.tls.connect(ServerName::from(self.0.address.ip()), tcp).await?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            // One stream that is read slowly must not hold up the others.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 26)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(io::Error::other)?;
        // The task ends with the connection. Its error may be ignored: whoever uses the connection gets one, too.
        tokio::spawn(driver);
        *connection = Some(sender.clone());
        Ok(sender)
    }
}
