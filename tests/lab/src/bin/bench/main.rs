//! `scripts/bench` measures the cost of the operator as sizes, counts and ratios, on a homelab in a box.
//!
//! Each part measures in a lab of its own and prints its rows as they come: name, value, bound, `ok` or `over`, and a
//! note. `faults` is another thing: it measures nothing, and looks whether all is well after any one fault.
//!
//! The bounds are those that the product promises; a row without a bound is only there to be watched. No row
//! passes or fails by the clock of a busy machine: a time is compared with something that was timed beside it.

mod burst;
mod creation;
mod faults;
mod lanes;
mod log;
mod path;
mod process;
mod restart;
mod row;
mod services;
mod settled;
mod size;
mod stalled;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The deadline of every wait. Even on a slow machine nothing takes this long.
const DEADLINE: Duration = Duration::from_secs(300);

/// A part that can be asked for by name: its name, a description for `--help`, and the function that measures.
type Part = (&'static str, &'static str, fn(&Path));

const PARTS: [Part; 9] = [
    ("size", "the binary and what it weighs in the image", size::run),
    ("creation", "requests and time from a Service to its address, with real traffic", creation::run),
    ("stalled", "frps and frpc with 200 clients that stopped reading", stalled::run),
    ("path", "the CPU of frps and frpc for what passes through a tunnel, against a direct connection", path::run),
    ("lanes", "what clients lose when something dies, with one lane and with two (45 minutes)", lanes::run),
    ("restart", "the operator as the chart's pod, killed during a creation and a deletion (2 minutes)", restart::run),
    ("trouble", "a tunnel that keeps failing, and one that somebody keeps breaking (9 minutes)", trouble::run),
    ("settled", "memory, CPU and requests with 0, 100 and 1,000 Services and nothing to do (35 minutes)", settled::run),
    ("burst", "1,000 new Services, the memory they take, and 200 deleted at once (8 minutes)", burst::run),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let faults = wanted.first().is_some_and(|word| word == "faults");
    if wanted.iter().any(|word| word == "--help") {
        print!("{}", if faults { faults::help() } else { help() });
        return ExitCode::SUCCESS;
    }
    if !faults && let Some(unknown) = wanted.iter().find(|word| PARTS.iter().all(|(name, ..)| name != word)) {
        eprintln!("bench: there is no part {unknown:?}; --help lists all");
        return ExitCode::from(2);
    }
    // scripts/bench has just built the operator and sets this variable to its path.
    let Some(operator) = std::env::var_os("BENCH_OPERATOR").map(PathBuf::from) else {
        eprintln!("bench: BENCH_OPERATOR names no operator; start it as scripts/bench");
        return ExitCode::from(2);
    };
    if faults {
        return faults::main(&wanted[1..], &operator);
    }
    row::print_head();
    for (name, what, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            progress(format_args!("{name}: {what}"));
            run(&operator);
        }
    }
    ExitCode::SUCCESS
}

fn help() -> String {
    let mut text = "What the operator costs, on a homelab in a box.\n\nUsage: scripts/bench [PART]...\n\n".to_owned();
    for (name, what, _) in PARTS {
        text.push_str(&format!("  {name:<10} {what}\n"));
    }
    text.push_str("\nApart from these, and never unless it is asked for:\n\n");
    text.push_str(
        "  faults     each request of a creation, a change or a deletion meets each fault (hours; faults --help)\n",
    );
    text
}

/// Prints progress to standard error, for whoever waits. Standard output has nothing but the rows.
fn progress(what: impl std::fmt::Display) {
    eprintln!("bench: {what}");
}
