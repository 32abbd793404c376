//! An operator with nothing to do: its memory, its CPU time and its requests.

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

/// The default of `--resync-interval`.
const RESYNC: Duration = Duration::from_secs(60);

/// After so many intervals, a quarter more or less, each tunnel is looked at by itself.
const INTERVALS: u32 = 10;

pub fn run(operator: &Path) {
    let lab = services::lab(Settings::default(), false);
    at_rest(&lab, operator);
    in_use(&lab, operator);
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

/// Measures at the default intervals, resyncs included.
fn in_use(lab: &Homelab, operator: &Path) {
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
    Row::new(format!("CPU, {SERVICES} Services settled"), percent, "% of core").bound(0.1).note(note).print();
    let per_minute = |to| log::count(requests, |request| request.to == to) as f64 / window.as_secs_f64() * 60.0;
    let name = |to| format!("requests to {to} per minute, {SERVICES} Services settled");
    Row::new(name("Kubernetes"), per_minute(Target::Kubernetes), "").bound(25.0).print();
    Row::new(name("Fly"), per_minute(Target::Fly), "").bound(40.0).print();
    let memory = Memory::highest(running.pid());
    Row::new(format!("resident memory, {SERVICES} Services"), memory.resident, "MiB").note(memory.details()).print();
}
