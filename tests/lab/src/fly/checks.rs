//! A Machine's checks, which really run: each is a task that dials the Machine's own address, as Fly's host does.
//!
//! Just after a start Fly probes much faster, until the check passes or two intervals have gone by
//! (community.fly.io/t/26370). Without traffic there is nobody to dial, and every check passes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::state::{CheckResult, CheckState, CheckStatus, Key, Machine};
use super::types::{Check, CheckType, MachineConfig};

/// The pause between two probes just after a start.
const FAST: Duration = Duration::from_millis(300);

/// More of an answer is not read.
const LONGEST_ANSWER: u64 = 64 << 10;

/// The place of a check in its Machine.
#[derive(Clone)]
enum Place {
    /// The index of the service, and of the check in it.
    Service(usize, usize),
    TopLevel(usize),
}

impl Place {
    fn find<'a>(&self, machine: &'a mut Machine) -> Option<&'a mut CheckState> {
        match *self {
            Place::Service(service, check) => machine.services.get_mut(service)?.checks.get_mut(check),
            Place::TopLevel(check) => machine.top_level_checks.get_mut(check),
        }
    }
}

/// Starts all checks of a Machine that has just started. They end when the set is dropped.
pub(crate) fn start(shared: &Arc<Shared>, key: &Key, config: &MachineConfig, address: Option<Ipv4Addr>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let of_services = config.services().iter().enumerate().flat_map(|(service, definition)| {
        let checks = definition.checks.iter().flatten().enumerate();
        checks.map(move |(check, definition)| (Place::Service(service, check), definition))
    });
    let top_level =
        config.checks.iter().flatten().enumerate().map(|(check, (_, definition))| (Place::TopLevel(check), definition));
    for (place, definition) in of_services.chain(top_level) {
        tasks.spawn_on(run(shared.clone(), key.clone(), place, definition.clone(), address), crate::runtime().handle());
    }
    tasks
}

async fn run(shared: Arc<Shared>, key: Key, place: Place, check: Check, address: Option<Ipv4Addr>) {
    let started = Instant::now();
    let or_zero = |duration: Option<super::types::GoDuration>| duration.unwrap_or_default().0;
    let interval = or_zero(check.interval);
    let mut passed = false;
    loop {
        let mut result = probe(&check, address).await;
        if result.status == CheckStatus::Critical && started.elapsed() < or_zero(check.grace_period) {
            result.status = CheckStatus::Warning;
        }
        if result.status == CheckStatus::Passing && !passed {
            passed = true;
            sleep(shared.settings().checks_pass_late).await;
        }
        report(&shared, &key, &place, result);
        if address.is_none() {
            return;
        }
        let fast = !passed && started.elapsed() < 2 * interval;
        sleep(if fast { FAST.min(interval) } else { interval }).await;
    }
}

async fn probe(check: &Check, address: Option<Ipv4Addr>) -> CheckResult {
    let result = |status, output: String| CheckResult { status, output, updated_at: SystemTime::now() };
    let Some(address) = address else { return result(CheckStatus::Passing, "Success".to_owned()) };
    let target = SocketAddr::from((address, check.port.unwrap_or_default()));
    let limit = check.timeout.unwrap_or_default().0;
    let knock = async {
        let stream = TcpStream::connect(target).await.map_err(|error| format!("connect to {target}: {error}"))?;
        if check.r#type != Some(CheckType::Http) {
            return Ok("Success".to_owned());
        }
        let status = ask(stream, target, check).await.map_err(|error| format!("ask {target}: {error}"))?;
        let told = format!("{target} answers {status}");
        if (200..300).contains(&status) { Ok(told) } else { Err(told) }
    };
    match timeout(limit, knock).await {
        Ok(Ok(told)) => result(CheckStatus::Passing, told),
        Ok(Err(told)) => result(CheckStatus::Critical, told),
        Err(_) => result(CheckStatus::Critical, format!("connect to {target}: timed out after {limit:?}")),
    }
}

/// Makes the HTTP request of a check, and gives the status of the answer.
async fn ask(mut stream: TcpStream, target: SocketAddr, check: &Check) -> io::Result<u16> {
    let (method, path) = (check.method.as_deref().unwrap_or("GET"), check.path.as_deref().unwrap_or("/"));
    let headers = check.headers.iter().flatten().flat_map(|header| {
        let name = header.name.as_deref().unwrap_or_default();
        header.values.iter().flatten().map(move |value| format!("{name}: {value}\r\n"))
    });
    let headers: String = headers.collect();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    let first = String::from_utf8_lossy(&answer);
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP"))
}

/// Records a result, unless the Machine's host is lost: nothing is heard from such a host.
fn report(shared: &Shared, key: &Key, place: &Place, result: CheckResult) {
    shared.with_machine(key, |machine| {
        if machine.host_up
            && let Some(check) = place.find(machine)
        {
            check.result = Some(result);
            machine.touch();
        }
    });
}
