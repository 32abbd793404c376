//! A load balancer for clusters that have none: see README.md for what it does, ARCHITECTURE.md for how.

mod act;
#[cfg(test)]
mod architecture;
mod backoff;
mod cluster;
mod config;
mod controller;
mod events;
#[cfg(test)]
mod examples;
mod failure;
mod fly;
mod goal;
mod leader;
#[cfg(test)]
mod model;
mod observe;
mod random;
mod render;
mod report;
mod run;
mod service;
mod telemetry;
mod text;
mod tunnel;
#[cfg(all(target_env = "musl", panic = "abort"))]
mod unwinder;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;

use config::Config;
use config::flags::{self, Command, Given};
use run::Exit;

fn main() -> ExitCode {
    let (code, message) = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Exit::Work(message)) => (1, message),
        Err(Exit::Usage(message)) => (2, message),
    };
    eprintln!("fly-tunnel-operator: {message}");
    ExitCode::from(code)
}

fn run() -> Result<(), Exit> {
    let environment = |name: &str| std::env::var_os(name);
    match Given::read(std::env::args_os().skip(1), environment).map_err(Exit::Usage)? {
        Command::Run(given) => run::run(Config::resolve(&given).map_err(Exit::Usage)?),
        Command::Help => tell(&flags::help()),
        Command::Version => tell(concat!("fly-tunnel-operator ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// The reader may have enough before the end (`--help | head`).
fn tell(text: &str) -> Result<(), Exit> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::Work(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// For the simulator, which allocates all the time.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
