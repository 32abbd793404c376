//! The kubelet's server, which the API server asks for the logs of containers (`kubectl logs`). One server speaks for
//! all nodes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::container;
use crate::pki::Authority;

/// A bound server, which does not answer yet.
pub(crate) struct Kubelet {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Kubelet {
    /// Listens on a free port; [`Kubelet::serve`] answers.
    pub(crate) fn bind(authority: &Authority) -> std::io::Result<Kubelet> {
        let listener = crate::runtime().block_on(TcpListener::bind("127.0.0.1:0"))?;
        Ok(Kubelet { listener, acceptor: TlsAcceptor::from(Arc::new(authority.server_config())) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("a bound socket has an address").port()
    }

    /// Serves the logs in this folder.
    pub(crate) async fn serve(self, logs: PathBuf) {
        let router = Router::new()
            .route("/containerLogs/{namespace}/{pod}/{container}", get(container_log))
            .with_state(Arc::new(logs));
        let _ = axum::serve(self, router).await; // it never ends by itself
    }
}

impl axum::serve::Listener for Kubelet {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // Errors of a connection may be ignored: a client that goes away in the middle concerns nobody else.
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Answers with the whole log so far, or with its last lines. It does not follow the log.
async fn container_log(
    State(logs): State<Arc<PathBuf>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<String, (StatusCode, String)> {
    if query.get("follow").is_some_and(|follow| follow == "true") {
        return Err((StatusCode::NOT_IMPLEMENTED, "nodes of the lab follow no logs: ask again\n".into()));
    }
    let log = logs.join(container::log_name(&namespace, &pod, &container));
    let bytes = std::fs::read(log).map_err(|error| (StatusCode::NOT_FOUND, format!("{error}\n")))?;
    let log = String::from_utf8_lossy(&bytes);
    let wanted = query.get("tailLines").and_then(|lines| lines.parse().ok()).unwrap_or(usize::MAX);
    let skipped = log.lines().count().saturating_sub(wanted);
    Ok(log.split_inclusive('\n').skip(skipped).collect())
}
