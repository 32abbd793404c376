//! Builds the lab's real parts into their cache, and ends. Scripts run it beside something else, and before tests,
//! since a test would build without showing its progress. It builds the parts that every lab runs; arguments add more:
//! `helm`, `prometheus`.

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
