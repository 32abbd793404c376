//! An operator with nothing to do: its memory, its CPU time and its requests.
//!
//! The API server and the operator are real, and Fly's API is the lab's. Machines and pods are states without processes: they start, and
//! their checks and probes pass, by themselves. The operator asks no frps and no frpc anything, so it sends the same requests as with them.

use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::Target;

use crate::process::{Memory, cpu_time};
use crate::row::Row;
use crate::{log, progress, services};

const SERVICES: usize = 100;

/// As many as the operator must be able to watch.
const MANY: usize = 1000;

/// The default of `--resync-interval`.
const RESYNC: Duration = Duration::from_secs(60);

/// After so many intervals, a quarter more or less, each tunnel is looked at by itself.
const INTERVALS: u32 = 10;

pub fn run(operator: &Path) {
    let lab = services::lab(Settings::default(), false);
    at_rest(&lab, operator);
    in_use(&lab, operator, SERVICES, Bounds { cpu: Some(0.1), kubernetes: 25.0, fly: 40.0 });
    let running = services::operator_without_resync(&lab, operator);
    progress(format_args!("creating {} more Services", MANY - SERVICES));
    let from = lab.requests().len();
    services::create(&lab, "many", MANY - SERVICES);
    log::wait_for(&lab, from, MANY - SERVICES, log::shows_address);
    drop(running);
    in_use(&lab, operator, MANY, Bounds { cpu: None, kubernetes: 60.0, fly: 400.0 });
}

/// The bounds that are promised of an operator with so many Services.
struct Bounds {
    cpu: Option<f64>,
    kubernetes: f64,
    fly: f64,
}

/// Measures between resyncs, when the operator does nothing but poll.
fn at_rest(lab: &Homelab, operator: &Path) {
    let running = services::operator_without_resync(lab, operator);
    log::wait_for(lab, 0, 3, log::is_poll);
    let memory = Memory::highest(running.pid());
    Row::new("resident memory, no Service", memory.resident, "MiB").bound(4.0).note(memory.details()).print();

    progress(format_args!("creating {SERVICES} Services"));
    services::create(lab, "settled", SERVICES);
    log::wait_for(lab, 0, SERVICES, log::shows_address);
    let per_poll = requests_per_poll(lab, 0);
    Row::new(format!("requests to Kubernetes per poll, {SERVICES} Services"), per_poll, "").bound(1.0).print();
}

/// Requests to Fly and Kubernetes together, per poll, once the operator does nothing but poll.
pub fn requests_per_poll(lab: &Homelab, from: usize) -> f64 {
    const POLLS: usize = 2;
    let quiet = log::wait_quiet(lab, from);
    log::wait_for(lab, quiet, POLLS + 1, log::is_poll);
    let all = lab.requests();
    let polls: Vec<usize> = (quiet..all.len()).filter(|number| log::is_poll(&all[*number])).collect();
    (polls[POLLS] - polls[0]) as f64 / POLLS as f64
}

/// Measures at the default intervals, resyncs included, with so many Services.
fn in_use(lab: &Homelab, operator: &Path, number: usize, bounds: Bounds) {
    let started = lab.requests().len();
    let running = services::operator(lab, operator).start();
    log::wait_quiet(lab, started);
    // All tunnels were looked at just now. Half of the time to their next looks away, a window of that time has one look at each.
    let window = RESYNC * INTERVALS;
    progress(format_args!("waiting {} s, then watching {} s", window.as_secs() / 2, window.as_secs()));
    thread::sleep(window / 2);
    let (cpu, first) = (cpu_time(running.pid()), lab.requests().len());
    thread::sleep(window);
    let cpu = cpu_time(running.pid()) - cpu;
    let requests = &lab.requests()[first..];

    let looks = log::count(requests, log::is_look_at_machines);
    let percent = 100.0 * cpu.as_secs_f64() / window.as_secs_f64();
    let note = format!("{} ms in {} s, in which {looks} tunnels were looked at", cpu.as_millis(), window.as_secs());
    let row = Row::new(format!("CPU, {number} Services settled"), percent, "% of core").note(note);
    match bounds.cpu {
        Some(most) => row.bound(most),
        None => row,
    }
    .print();
    let all = [("Kubernetes", Target::Kubernetes, bounds.kubernetes), ("Fly", Target::Fly, bounds.fly)];
    for (name, to, most) in all {
        let per_minute = log::count(requests, |request| request.to == to) as f64 / window.as_secs_f64() * 60.0;
        Row::new(format!("requests to {name} per minute, {number} Services settled"), per_minute, "")
            .bound(most)
            .print();
    }
    let memory = Memory::highest(running.pid());
    Row::new(format!("resident memory, {number} Services"), memory.resident, "MiB")
        .bound(12.0)
        .note(memory.details())
        .print();
}
