//! What the process says of itself.

mod cost;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;

use std::sync::Arc;

use health::Health;
use metrics::Metrics;

/// Health and metrics of the process: everything in it that works tells it, and [`http::serve`] tells whoever asks.
#[derive(Default)]
pub struct Telemetry {
    pub health: Health,
    pub metrics: Arc<Metrics>,
}
