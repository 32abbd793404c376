//! Identifiers in the shapes that Fly gives them.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number. It keeps nothing secret, so the hasher's seed is random enough.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn letters(alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| alphabet[(random() % alphabet.len() as u64) as usize] as char).collect()
}

/// A Machine's: 14 hexadecimal digits, such as `d891f20c4e6798`.
pub(crate) fn machine() -> String {
    letters(b"0123456789abcdef", 14)
}

/// A Machine version's (`instance_id`) or an event's: a ULID.
pub(crate) fn ulid() -> String {
    format!("01{}", letters(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24))
}

/// An App's: 16 lower-case letters and digits.
pub(crate) fn app() -> String {
    letters(b"0123456789abcdefghijklmnopqrstuvwxyz", 16)
}

/// A lease's nonce, or a request's id.
pub(crate) fn nonce() -> String {
    letters(b"0123456789abcdef", 12)
}

/// A token of an organisation: opaque, because flyctl drops macaroons that it cannot decode.
pub(crate) fn token() -> String {
    format!("fo1_{}", letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 32))
}
