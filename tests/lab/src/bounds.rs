//! Bounds that the product promises, and that both benches and tests check.

/// The compressed size of the image's one layer that is ours, which holds the operator, in MB (10^6 bytes).
pub const COMPRESSED_OPERATOR_MB: f64 = 1.5;
