//! Builds the lab's real parts into their cache, and ends: so that scripts can do it beside something else, and before
//! tests that would otherwise be quiet about it. Arguments name what is to be built besides what every lab runs: `helm`,
//! `prometheus`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let besides: Vec<String> = std::env::args().skip(1).collect();
    match lab::parts::build_with(&besides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}
