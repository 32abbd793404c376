//! A thousand new Services at once, compared with one new Service at a time. Also the memory that a thousand take, and whether two hundred
//! that are deleted at once keep to Fly's limits, which the lab enforces.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::Request;

use crate::process::Memory;
use crate::row::Row;
use crate::settled::requests_per_poll;
use crate::{DEADLINE, log, progress, services};

const SERVICES: usize = 1000;

/// The operator asks for this many Services in each page of a list.
const PAGE: usize = 500;

/// How many of them are deleted at once: more than the Apps that Fly lets an organisation delete in a minute.
const DELETED: usize = 200;

/// How many Services are made one after the other, to see how long one takes.
const SINGLES: usize = 3;

pub fn run(operator: &Path) {
    let slow =
        Settings { latency: Duration::from_millis(300), machine_boot: Duration::from_secs(3), ..Settings::default() };
    let lab = services::lab(slow, false);
    let running = services::operator(&lab, operator).start();
    log::wait_for(&lab, 0, 1, log::is_poll);

    progress(format_args!("{SINGLES} Services, one after the other"));
    let single =
        (0..SINGLES).map(|number| one_tunnel(&lab, &format!("single{number}"))).sum::<Duration>() / SINGLES as u32;
    progress(format_args!("one takes {:.1} s; {SERVICES} at once", single.as_secs_f64()));
    let (first, start) = (lab.requests().len(), Instant::now());
    services::create(&lab, "burst", SERVICES);
    wait_made(&lab, first, SERVICES);
    let all = start.elapsed();

    let one_at_a_time = single * SERVICES as u32;
    let part = 100.0 * all.as_secs_f64() / one_at_a_time.as_secs_f64();
    let times = one_at_a_time.as_secs_f64() / all.as_secs_f64();
    let note = format!("{times:.0} times as fast: {:.0} s, one takes {:.1} s", all.as_secs_f64(), single.as_secs_f64());
    Row::new("1,000 new Services, against one at a time", part, "%").bound(5.0).note(note).print();

    lab.fly().set(|fly| fly.latency = Duration::ZERO);
    progress("looking at each once more");
    wait_looked_at_again(&lab, first);
    memory_row("resident memory, 1,000 Services, after all were made", running.pid());
    drop(running);

    let restarted = lab.requests().len();
    let running = services::operator_without_resync(&lab, operator);
    let per_poll = requests_per_poll(&lab, restarted);
    memory_row("resident memory, 1,000 Services, after a restart", running.pid());
    let services = SERVICES + SINGLES;
    let pages = services.div_ceil(PAGE);
    Row::new(format!("requests to Kubernetes per poll, {services} Services"), per_poll, "").bound(pages as f64).print();
    deletion(&lab);
}

/// Deletes many Services at once, with an operator that runs.
fn deletion(lab: &Homelab) {
    progress(format_args!("deleting {DELETED} Services"));
    let (from, start) = (lab.requests().len(), Instant::now());
    services::delete(lab, "burst", DELETED);
    log::wait_for(lab, from, DELETED, log::removes_finalizer);
    let requests = &lab.requests()[from..];
    let too_many = |request: &Request| request.status == Some(429);
    let failures = |request: &Request| log::is_event(request) && request.body.contains("SyncLoadBalancerFailed");
    let note = format!(
        "it took {:.0} s, and {} events told of a failure",
        start.elapsed().as_secs_f64(),
        log::count(requests, failures)
    );
    Row::new(format!("429s, {DELETED} Services deleted at once"), log::count(requests, too_many) as f64, "")
        .bound(0.0)
        .note(note)
        .print();
}

fn memory_row(name: &str, pid: u32) {
    let memory = Memory::highest(pid);
    Row::new(name, memory.resident, "MiB").bound(12.0).note(memory.details()).print();
}

/// Waits until so many tunnels have an address and an frpc. It waits for each, since without traffic the order is open:
/// Fly's checks pass before there is an frpc.
fn wait_made(lab: &Homelab, from: usize, tunnels: usize) {
    log::wait_for(lab, from, tunnels, log::shows_address);
    log::wait_for(lab, from, tunnels, log::applies_frpc);
}

/// Waits until each of the many tunnels was looked at after its Service showed the address.
fn wait_looked_at_again(lab: &Homelab, from: usize) {
    let (mut read, mut made, mut again) = (from, BTreeSet::new(), BTreeSet::new());
    let all = lab.recorder().wait_requests(DEADLINE, |log| {
        for request in &log[read..] {
            let Some(number) = burst_number(&request.path) else { continue };
            if log::shows_address(request) {
                made.insert(number);
            } else if log::is_look_at_app(request) && made.contains(&number) {
                again.insert(number);
            }
        }
        read = log.len();
        (again.len() == SERVICES).then_some(())
    });
    all.unwrap_or_else(|| panic!("only {} of {SERVICES} were looked at again within {DEADLINE:?}", again.len()));
}

/// The number of the Service in a path that names it, or its App.
fn burst_number(path: &str) -> Option<usize> {
    let (_, rest) = path.split_once("burst-")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The time from the operator's first request for a Service to its last. The wait for a poll is not part of it.
fn one_tunnel(lab: &Homelab, name: &str) -> Duration {
    let from = lab.requests().len();
    services::create(lab, name, 1);
    wait_made(lab, from, 1);
    let requests = &lab.requests()[from..];
    let first = requests.iter().find(|request| request.path.contains(&format!("/services/{name}")));
    let last = requests.iter().rfind(|request| log::shows_address(request) || log::applies_frpc(request));
    let [first, last] = [first, last].map(|request| log::arrival(request.expect("the tunnel was made just now")));
    log::since(last, first)
}
