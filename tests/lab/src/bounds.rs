//! What the product promises and more than one place holds it to.

/// The operator as the image's one layer of ours, compressed, in MB (10^6 bytes).
pub const COMPRESSED_OPERATOR_MB: f64 = 1.5;
