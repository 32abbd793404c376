//! Telemetry: the process tells of itself in logs, health and metrics.

pub mod cost;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;

use std::sync::Arc;

use health::Health;
use metrics::Metrics;

/// Health and metrics of the process. Everything that works is told to it, and [`http::serve`] tells it to whoever asks.
#[derive(Default)]
pub struct Telemetry {
    pub health: Health,
    pub metrics: Arc<Metrics>,
}
