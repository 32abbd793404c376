//! The forms that things have on the wire, and how they are read back: a lane becomes a Machine, frp's two configurations, and
//! objects in the cluster. Pure.

pub mod address;
pub mod frp;
pub mod machine;
pub mod objects;
pub mod status;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer};

/// Reads a field for which `null` means the same as its absence.
///
/// # Errors
/// It is something else than `T` or `null`.
pub fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}
