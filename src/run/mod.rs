//! The ways through a process, from its wiring to its end: one for each thing that it may be for.

mod drain;
mod dry_run;
mod process;
mod serve;

use std::io;

use crate::config::{Config, Mode};
pub use process::Exit;
use process::Process;

/// Does what the process is for.
///
/// # Errors
/// Why it ends otherwise than well.
pub fn run(config: Config) -> Result<(), Exit> {
    let mode = config.mode;
    let process = Process::start(config)?;
    match mode {
        Mode::Serve => serve::serve(process),
        Mode::Once => serve::once(process),
        Mode::Drain => drain::drain(process),
        Mode::DryRun => dry_run::run(&process.world, &mut io::stdout()).map_err(Exit::Work),
    }
}
