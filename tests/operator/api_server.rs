//! kube-client-lite's requests, each against the real API server. (How it bears hostile servers is in its own tests.)

use kube_client_lite::{Client, Config, DeleteOptions, ListQuery, ObjectMeta, PartialObject, PatchOperation, Resource};
use lab::homelab::Homelab;
use serde_json::{Value, json};

fn client(lab: &Homelab) -> Client {
    let config = Config::load(lab.kubeconfig().to_str(), None).expect("the lab's kubeconfig");
    Client::new(config, "test/1").expect("a client")
}

fn metadata(object: &Value) -> ObjectMeta {
    serde_json::from_value(object["metadata"].clone()).expect("metadata")
}

#[test]
fn objects_are_made_changed_and_deleted_only_as_they_were_seen() {
    let lab = Homelab::new();
    let (client, namespace) = (client(&lab), lab.namespace());
    let maps = Resource::CONFIG_MAPS.in_namespace(namespace);
    let path = Resource::CONFIG_MAPS.named(namespace, "a");
    assert!(client.get::<Value>(&path).is_err_and(|error| error.is_not_found()));

    let body = json!({ "metadata": { "name": "a" }, "data": { "key": "1" } });
    let made: Value = client.create(&maps, &body).expect("it is made");
    assert!(client.create::<Value>(&maps, &body).is_err_and(|error| error.is_already_exists()));

    let mut newer = made.clone();
    newer["data"]["key"] = json!("2");
    let replaced: Value = client.replace(&path, &newer).expect("nobody was faster");
    assert_eq!(replaced["data"]["key"], "2");
    assert!(client.replace::<Value>(&path, &newer).is_err_and(|error| error.is_conflict()));

    let version = |object: &Value| PatchOperation::Test {
        path: "/metadata/resourceVersion".into(),
        value: object["metadata"]["resourceVersion"].clone(),
    };
    let change = || PatchOperation::Add { path: "/data/key".into(), value: json!("3") };
    let stale = client.json_patch::<Value>(&path, &[version(&made), change()]);
    assert!(stale.is_err_and(|error| error.is_invalid()));
    let patched: Value = client.json_patch(&path, &[version(&replaced), change()]).expect("the test holds");
    assert_eq!(patched["data"]["key"], "3");

    let applied = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "other": "4" } });
    let applied: Value = client.apply(&path, "test", &applied).expect("it is applied");
    assert_eq!(applied["data"], json!({ "key": "3", "other": "4" }));

    let metadata = metadata(&applied);
    let uid = |uid: &str| DeleteOptions { uid: Some(uid.into()), ..DeleteOptions::default() };
    let version = |version: &str| DeleteOptions { resource_version: Some(version.into()), ..DeleteOptions::default() };
    for other in [uid("00000000-0000-0000-0000-000000000000"), version("1")] {
        let refused = client.delete(&path, &other);
        assert!(refused.as_ref().is_err_and(|error| error.is_conflict()), "{other:?}: {refused:?}");
    }
    let right =
        DeleteOptions { uid: Some(metadata.uid), resource_version: Some(metadata.resource_version), propagation: None };
    client.delete(&path, &right).expect("it is the one");
    assert!(client.delete(&path, &right).is_err_and(|error| error.is_not_found()));
}

/// More than a page of them.
#[test]
fn lists_come_whole_page_by_page_and_as_metadata_alone() {
    let lab = Homelab::new();
    let (client, namespace) = (client(&lab), lab.namespace());
    let maps = Resource::CONFIG_MAPS.in_namespace(namespace);
    for number in 0..501 {
        let body =
            json!({ "metadata": { "name": format!("m{number}"), "labels": { "of": "test" } }, "data": { "a": "b" } });
        client.create::<Value>(&maps, &body).expect("it is made");
    }
    let before = lab.requests().len();
    let query = ListQuery { label_selector: Some("of=test".into()), ..ListQuery::default() };
    let all: Vec<Value> = client.list(&maps, &query).expect("a list");
    assert_eq!(all.len(), 501);
    assert!(all.iter().all(|map| map["data"]["a"] == "b"));
    assert_eq!(lab.requests().len(), before + 2, "two pages");
    let names: std::collections::BTreeSet<String> = client
        .list_metadata(&maps, &query)
        .expect("a list")
        .into_iter()
        .map(|PartialObject { metadata }| metadata.name)
        .collect();
    assert_eq!(names.len(), 501);

    let unknown = ListQuery { field_selector: Some("data.a=b".into()), ..ListQuery::default() };
    assert_eq!(client.list::<Value>(&maps, &unknown).err().and_then(|error| error.code()), Some(400));
    // A token that the server never gave, as one that is too old: it says so, and the list begins again.
    let gone = client.get::<Value>(&format!("{maps}?limit=1&continue=bm90LW91cnM"));
    assert!(gone.is_err_and(|error| [Some(400), Some(410)].contains(&error.code())));
}
