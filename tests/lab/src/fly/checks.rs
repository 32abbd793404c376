//! A Machine's checks, which really run: each is a task that dials the Machine's own address, as Fly's host does.
//!
//! Just after a start Fly probes much faster, until the check passes or two intervals have gone by
//! (community.fly.io/t/26370). Without traffic there is nobody to dial, and every check passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::state::{CheckResult, CheckState, CheckStatus, Key, Machine};
use super::types::{Check, CheckType, MachineConfig};

/// The pause between two probes just after a start.
const FAST: Duration = Duration::from_millis(300);

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
    if check.r#type == Some(CheckType::Http) {
        return result(CheckStatus::Warning, "the lab runs no HTTP checks".to_owned());
    }
    let target = SocketAddr::from((address, check.port.unwrap_or_default()));
    let limit = check.timeout.unwrap_or_default().0;
    match timeout(limit, TcpStream::connect(target)).await {
        Ok(Ok(_)) => result(CheckStatus::Passing, "Success".to_owned()),
        Ok(Err(error)) => result(CheckStatus::Critical, format!("connect to {target}: {error}")),
        Err(_) => result(CheckStatus::Critical, format!("connect to {target}: timed out after {limit:?}")),
    }
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
