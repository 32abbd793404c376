//! Startup, readiness and liveness probes by HTTP and TCP, against the pod's own address, and by a command in the container, with
//! the kubelet's timing. (`grpc` probes are refused when the container is put together.)

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::spec::{Container, HttpGet, PortRef, Probe};

/// A container that is probed.
pub(crate) trait Probed {
    /// The startup probe has passed, or there is none.
    fn started(&self);
    fn ready(&self, ready: bool);
    /// Runs a command in the container. An error says why it did not end well.
    async fn exec(&self, command: &[String]) -> Result<(), String>;
}

/// Runs all probes of a container that has just been started. It returns only if the container has to be restarted,
/// with the reason.
pub(crate) async fn run(container: &Container, address: Ipv4Addr, probed: &impl Probed) -> String {
    let prober = |probe| Prober { probe, container, address, probed, successes: 0, failures: 0 };
    if let Some(startup) = &container.startup_probe {
        let mut startup = prober(startup);
        startup.delay().await;
        if let Err(message) = startup.verdict().await {
            return format!("Startup probe failed: {message}");
        }
    }
    probed.started();
    let readiness = async {
        let Some(probe) = &container.readiness_probe else {
            probed.ready(true);
            return std::future::pending().await;
        };
        let mut readiness = prober(probe);
        readiness.delay().await;
        loop {
            probed.ready(readiness.verdict().await.is_ok());
            readiness.period().await;
        }
    };
    let liveness = async {
        let Some(probe) = &container.liveness_probe else { return std::future::pending().await };
        let mut liveness = prober(probe);
        liveness.delay().await;
        loop {
            if let Err(message) = liveness.verdict().await {
                return format!("Liveness probe failed: {message}");
            }
            liveness.period().await;
        }
    };
    tokio::select! {
        message = liveness => message,
        never = readiness => never,
    }
}

/// The reason why this container's probes cannot be run, if there is one.
pub(crate) fn unsupported(container: &Container) -> Option<String> {
    let probes = [
        ("startup", &container.startup_probe),
        ("readiness", &container.readiness_probe),
        ("liveness", &container.liveness_probe),
    ];
    let is_unsupported = |probe: &Probe| probe.exec.is_none() && probe.http_get.is_none() && probe.tcp_socket.is_none();
    let (name, _) = probes.into_iter().find(|(_, probe)| probe.as_ref().is_some_and(is_unsupported))?;
    Some(format!("the lab's nodes run exec, httpGet and tcpSocket probes only, and the {name} probe is none of them"))
}

struct Prober<'a, P> {
    probe: &'a Probe,
    probed: &'a P,
    container: &'a Container,
    address: Ipv4Addr,
    /// The successes and the failures in a row; one of the two is zero.
    successes: u32,
    failures: u32,
}

impl<P: Probed> Prober<'_, P> {
    async fn delay(&self) {
        tokio::time::sleep(Duration::from_secs(self.probe.initial_delay_seconds)).await;
    }

    async fn period(&self) {
        tokio::time::sleep(Duration::from_secs(self.probe.period_seconds)).await;
    }

    /// Probes until one of the thresholds is reached.
    async fn verdict(&mut self) -> Result<(), String> {
        loop {
            match self.once().await {
                Ok(()) => (self.successes, self.failures) = (self.successes + 1, 0),
                Err(message) => {
                    (self.successes, self.failures) = (0, self.failures + 1);
                    if self.failures >= self.probe.failure_threshold {
                        return Err(message);
                    }
                }
            }
            if self.successes >= self.probe.success_threshold {
                return Ok(());
            }
            self.period().await;
        }
    }

    async fn once(&self) -> Result<(), String> {
        let attempt = async {
            match (&self.probe.exec, &self.probe.http_get, &self.probe.tcp_socket) {
                (Some(exec), _, _) => self.probed.exec(&exec.command).await,
                (_, Some(get), _) => self.http_get(get).await,
                (_, _, Some(socket)) => self.connect(&socket.port).await.map(drop),
                (None, None, None) => Err("not a probe of the lab".into()),
            }
        };
        let limit = Duration::from_secs(self.probe.timeout_seconds);
        tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    async fn connect(&self, port: &PortRef) -> Result<TcpStream, String> {
        let named = |name: &String| self.container.ports.iter().find(|port| port.name == *name);
        let port = match port {
            PortRef::Number(port) => *port,
            PortRef::Name(name) => named(name).ok_or_else(|| format!("no port is named {name}"))?.container_port,
        };
        TcpStream::connect((self.address, port)).await.map_err(|error| format!("{}:{port}: {error}", self.address))
    }

    async fn http_get(&self, get: &HttpGet) -> Result<(), String> {
        let mut stream = self.connect(&get.port).await?;
        let path = if get.path.is_empty() { "/" } else { &get.path };
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in &get.http_headers {
            request += &format!("{}: {}\r\n", header.name, header.value);
        }
        request += "User-Agent: kube-probe/1.36\r\n\r\n";
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.map_err(|error| error.to_string())?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(200..=399) => Ok(()),
            Some(status) => Err(format!("HTTP probe failed with statuscode: {status}")),
            None => Err(format!("{line:?} is no answer in HTTP")),
        }
    }
}
