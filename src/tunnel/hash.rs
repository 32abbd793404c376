//! The one hash that names and generations are made with.

use std::fmt::Write;

use ring::digest;

/// `length` hex digits of the SHA-256 of the parts. Each part is closed by a zero byte, so that no two lists of parts run
/// together.
pub fn hash(parts: &[&str], length: usize) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let mut hex = String::new();
    for byte in context.finish().as_ref().iter().take(length.div_ceil(2)) {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
    }
    hex.truncate(length);
    hex
}
