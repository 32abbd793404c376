//! All Secrets and ConfigMaps of the cluster, followed by one watch for each kind. So a pod that waits for a missing
//! one goes on the moment it appears, and a change of a mounted one is noticed without polling.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::watch;

use super::client::Client;
use super::watch::{Change, follow};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn collection(self) -> &'static str {
        match self {
            Kind::ConfigMap => "/api/v1/configmaps",
            Kind::Secret => "/api/v1/secrets",
        }
    }
}

type Key = (Kind, String, String);

#[derive(Default)]
pub(crate) struct Objects {
    all: Mutex<HashMap<Key, Arc<Value>>>,
    /// A count that goes up with each change.
    version: watch::Sender<u64>,
}

impl Objects {
    /// Follows all objects of one kind, for ever.
    pub(crate) async fn follow(&self, client: Client, kind: Kind) {
        follow(client, kind.collection(), |change| {
            let mut all = self.all.lock().expect("no one panics while holding it");
            match change {
                Change::Set(object) => all.insert(key(kind, &object), object),
                Change::Gone(object) => all.remove(&key(kind, &object)),
            };
            self.version.send_modify(|version| *version += 1);
        })
        .await;
    }

    /// A receiver that is notified of changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The decoded data of an object, or `None` if it is not there.
    pub(crate) fn data(&self, kind: Kind, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let object = self.all.lock().expect("no one panics while holding it").get(&key).cloned()?;
        let decoded = |value: &str| STANDARD.decode(value).unwrap_or_default();
        let plain = |value: &str| value.as_bytes().to_vec();
        let mut data = BTreeMap::new();
        for (key, value) in entries(&object, "data") {
            data.insert(key.clone(), if kind == Kind::Secret { decoded(value) } else { plain(value) });
        }
        for (key, value) in entries(&object, "binaryData") {
            data.insert(key.clone(), decoded(value));
        }
        Some(data)
    }
}

fn key(kind: Kind, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (kind, text("namespace"), text("name"))
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    object[field].as_object().into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)))
}
