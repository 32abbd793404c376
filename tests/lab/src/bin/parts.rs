//! Builds the lab's real parts into their cache, and ends: so that scripts can do it beside something else, and before
//! tests that would otherwise be quiet about it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lab::parts::Parts::get() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}
