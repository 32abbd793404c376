//! The size of our layer of the image: the static binary, compressed as a layer is.

use std::fs;
use std::path::Path;
use std::process::Command;

use lab::bounds::COMPRESSED_OPERATOR_MB;

use crate::row::Row;

/// A megabyte in bytes.
const MB: f64 = 1e6;

pub fn run(operator: &Path) {
    let size = fs::metadata(operator).expect("scripts/bench has built it").len();
    Row::new("binary", size as f64 / MB, "MB").print();
    let compressed = Command::new("gzip").args(["-9", "--stdout"]).arg(operator).output().expect("gzip is there");
    assert!(compressed.status.success(), "{}", String::from_utf8_lossy(&compressed.stderr));
    Row::new("binary, compressed (gzip -9)", compressed.stdout.len() as f64 / MB, "MB")
        .bound(COMPRESSED_OPERATOR_MB)
        .print();
}
