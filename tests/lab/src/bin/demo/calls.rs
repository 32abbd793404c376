//! The operator's requests to Fly and to the cluster, as far as the story tells of them.

use lab::recorder::{Request, Target};
use serde_json::Value;

/// Whether a request changes something. All others only read.
pub fn changes(request: &Request) -> bool {
    request.method != "GET"
}

/// Whether it changes something at Fly.
pub fn changes_fly(request: &Request) -> bool {
    request.to == Target::Fly && changes(request)
}

/// The path without its query.
pub fn path(request: &Request) -> &str {
    request.path.split('?').next().unwrap_or_default()
}

/// A line with method, path and answer.
pub fn line(request: &Request) -> String {
    let status = request.status.map_or("closed".to_owned(), |status| status.to_string());
    format!("{:6} {} → {status}", request.method, path(request))
}

/// Whether it is a JSON patch that does `operation` ("add" or "remove") to the finalizers.
pub fn patches_finalizers(request: &Request, operation: &str) -> bool {
    let operations: Vec<Value> = serde_json::from_str(&request.body).unwrap_or_default();
    operations.iter().any(|patch| {
        patch["op"] == operation && patch["path"].as_str().is_some_and(|path| path.starts_with("/metadata/finalizers"))
    })
}
