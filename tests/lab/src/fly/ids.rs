//! Identifiers in the shapes that Fly gives them.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number. Nothing has to be secret here, so the seed of a hasher is random enough.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn letters(alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| alphabet[(random() % alphabet.len() as u64) as usize] as char).collect()
}

/// A Machine's ID: 14 hexadecimal digits, such as `d891f20c4e6798`.
pub(crate) fn machine() -> String {
    letters(b"0123456789abcdef", 14)
}

/// The ID of a Machine's version (`instance_id`) or of an event: a ULID.
pub(crate) fn ulid() -> String {
    format!("01{}", letters(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24))
}

/// An App's ID: 16 lower-case letters and digits.
pub(crate) fn app() -> String {
    letters(b"0123456789abcdefghijklmnopqrstuvwxyz", 16)
}

/// A lease's nonce, or a request's id.
pub(crate) fn nonce() -> String {
    letters(b"0123456789abcdef", 12)
}

/// A token of an organisation. It is opaque, because flyctl drops macaroons that it cannot decode.
pub(crate) fn token() -> String {
    format!("fo1_{}", letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 32))
}
