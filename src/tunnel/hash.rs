//! The one hash that names and generations are made with.

use ring::digest;

/// `length` hex digits of the SHA-256 of the parts. Each part is closed by a zero byte, so that no two lists of parts run
/// together.
pub fn hash(parts: &[&str], length: usize) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    let bytes = context.finish();
    let digits = bytes.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    digits.take(length).collect()
}
