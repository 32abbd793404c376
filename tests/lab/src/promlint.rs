//! Judges metrics as `promtool check metrics` does.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::parts::Parts;

/// Lints metrics in Prometheus' text format with Prometheus' own linter.
///
/// # Errors
/// One line for each problem, or the place where the text cannot be parsed.
///
/// # Panics
/// It panics if the linter does not start.
pub fn promlint(metrics: &str) -> Result<(), String> {
    let parts = Parts::get().expect("the parts can be built");
    let mut linter = Command::new(&parts.control_plane)
        .arg0("promlint")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the linter starts");
    // An error may be ignored: a linter that cannot parse the text stops reading, and its output below says so.
    let _ = linter.stdin.take().expect("it is piped").write_all(metrics.as_bytes());
    let output = linter.wait_with_output().expect("the linter ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_metrics_pass_and_bad_ones_are_told() {
        let good = "# HELP polls_total Polls.\n# TYPE polls_total counter\npolls_total{result=\"success\"} 3\n";
        assert_eq!(promlint(good), Ok(()));
        for (bad, told) in [
            ("# HELP polls Polls.\n# TYPE polls counter\npolls 3\n", "_total"),
            ("# TYPE polls_total counter\npolls_total 3\n", "no help text"),
            ("# HELP took_milliseconds Time.\n# TYPE took_milliseconds gauge\ntook_milliseconds 3\n", "base unit"),
            ("polls_total{result=\"success} 3\n", "cannot be parsed"),
        ] {
            let problems = promlint(bad).expect_err(bad);
            assert!(problems.contains(told), "{problems}");
        }
    }
}
