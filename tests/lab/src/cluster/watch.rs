//! Follows a collection of the API server by list and watch, without polling.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;

use super::client::{ApiError, Client};

/// The pause between two attempts to list.
const PAUSE: Duration = Duration::from_millis(200);

/// A change of an object.
pub(crate) enum Change {
    /// The object is new, or has changed.
    Set(Arc<Value>),
    /// The object is gone. The value is its last known state.
    Gone(Arc<Value>),
}

/// Follows a collection, such as `/api/v1/pods`, for ever. `on_change` hears of each object that is there at first,
/// then of each change, also of those that happened while the connection was lost.
pub(crate) async fn follow(client: Client, collection: &str, mut on_change: impl FnMut(Change)) {
    let mut known = HashMap::new();
    loop {
        // The stream ended, or a version is too old: list again.
        let _ = follow_once(&client, collection, &mut known, &mut on_change).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(
    client: &Client,
    collection: &str,
    known: &mut HashMap<String, Arc<Value>>,
    on_change: &mut impl FnMut(Change),
) -> Result<(), ApiError> {
    let mut list = client.get(collection).await?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let mut before = std::mem::take(known);
    for item in items {
        let uid = uid(&item);
        let unchanged = before.remove(&uid).filter(|old| resource_version(old) == resource_version(&item));
        let is_new = unchanged.is_none();
        let item = unchanged.unwrap_or_else(|| Arc::new(item));
        known.insert(uid, item.clone());
        if is_new {
            on_change(Change::Set(item));
        }
    }
    for gone in before.into_values() {
        on_change(Change::Gone(gone));
    }

    let query = format!("watch=1&allowWatchBookmarks=true&resourceVersion={version}");
    let mut stream = client.stream(&format!("{collection}?{query}")).await?;
    let mut buffer = Vec::new();
    while let Some(Ok(frame)) = stream.frame().await {
        buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { return Ok(()) };
            let object = event["object"].take();
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => {
                    let object = Arc::new(object);
                    known.insert(uid(&object), object.clone());
                    on_change(Change::Set(object));
                }
                Some("DELETED") => {
                    known.remove(&uid(&object));
                    on_change(Change::Gone(Arc::new(object)));
                }
                Some("BOOKMARK") => {}
                _ => return Ok(()),
            }
        }
    }
    Ok(())
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn resource_version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}
