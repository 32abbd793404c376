//! Requests as they go over the wire, and the cases in which one is sent twice.

use kube_client_lite::{
    Client, ClientOptions, Event, EventType, ObjectMeta, ObjectReference, PartialObject, PatchOperation, Resource,
};
use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::setup::{client, client_of, config};

fn service() -> String {
    Resource::SERVICES.named("shop", "web")
}

fn answers_with_an_object() -> Server {
    Server::start(|_, _| Answer::json(r#"{"metadata":{"name":"web","uid":"u-1"}}"#))
}

#[test]
fn each_verb_is_the_request_that_the_api_knows() {
    let server = answers_with_an_object();
    let client = client(&server);
    let path = service();
    let body = json!({"metadata": {"name": "web"}});
    let patch = [PatchOperation::Remove { path: "/metadata/finalizers".into() }];

    client.get::<PartialObject>(&path).expect("an object");
    client.create::<PartialObject>(&Resource::SERVICES.in_namespace("shop"), &body).expect("an object");
    client.json_patch::<PartialObject>(&path, &patch).expect("an object");
    client.apply::<PartialObject>(&path, "a tester", &body).expect("an object");
    client.delete(&path).expect("a deletion");

    let requests = server.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|request| {
            let content_type = request.header("content-type").unwrap_or("");
            format!("{} {} {content_type} {}", request.method, request.target, request.body)
        })
        .collect();
    assert_eq!(
        seen,
        [
            "GET /api/v1/namespaces/shop/services/web  ",
            r#"POST /api/v1/namespaces/shop/services application/json {"metadata":{"name":"web"}}"#,
            r#"PATCH /api/v1/namespaces/shop/services/web application/json-patch+json [{"op":"remove","path":"/metadata/finalizers"}]"#,
            r#"PATCH /api/v1/namespaces/shop/services/web?fieldManager=a%20tester&force=true application/apply-patch+yaml {"metadata":{"name":"web"}}"#,
            "DELETE /api/v1/namespaces/shop/services/web  ",
        ]
    );
    assert!(requests.iter().all(|request| request.header("user-agent") == Some("test/1")));
    assert!(requests.iter().all(|request| request.header("accept") == Some("application/json")));
    assert!(requests.iter().all(|request| request.connection == 0), "one connection serves all");
}

#[test]
fn a_path_of_the_server_comes_before_the_api() {
    let server = Server::start(|_, _| Answer::json(r#"{"major":"1","minor":"31+","gitVersion":"v1.31.2"}"#));
    let config = config(&format!("server: 'http://{}/clusters/c-1/'", server.address()), "");
    let client = client_of(config);
    assert!(client.version().expect("a version").is_at_least(1, 31));
    assert_eq!(server.requests()[0].target, "/clusters/c-1/version");
}

#[test]
fn an_event_is_one_that_kubectl_describe_shows() {
    let server = Server::start(|_, _| Answer::json("{}"));
    let [namespace, name, uid] = ["shop", "web", "u-1"].map(str::to_owned);
    let metadata = ObjectMeta { namespace, name, uid, ..ObjectMeta::default() };
    let object = ObjectReference::new("v1", "Service", &metadata);
    let event = Event {
        involved_object: &object,
        r#type: EventType::Warning,
        reason: "SyncLoadBalancerFailed",
        message: "no capacity",
        component: "tester",
    };
    client(&server).create_event(&event).expect("an event");

    let request = &server.requests()[0];
    assert_eq!(request.target, "/api/v1/namespaces/shop/events");
    let mut body: Value = serde_json::from_str(&request.body).expect("JSON");
    let first = body["firstTimestamp"].take();
    assert_eq!(first, body["lastTimestamp"].take());
    let first = first.as_str().expect("a time");
    assert!(humantime::parse_rfc3339(first).is_ok() && first.len() == "2026-01-01T00:00:00Z".len(), "{first}");
    assert_eq!(
        body,
        json!({
            "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "SyncLoadBalancerFailed",
            "message": "no capacity", "count": 1, "source": {"component": "tester"}, "reportingComponent": "tester",
            "metadata": {"generateName": "web.", "namespace": "shop"},
            "involvedObject": {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web", "uid": "u-1"},
            "firstTimestamp": null, "lastTimestamp": null
        })
    );
}

/// A server that answers every request but the second, at which it closes the connection.
fn kills_the_second_request() -> Server {
    Server::start(|_, number| match number {
        1 => Answer::HangUp,
        _ => Answer::json("{}"),
    })
}

fn succeeds_on_a_dead_connection<T>(request: impl Fn(&Client) -> Result<T, kube_client_lite::Error>) -> bool {
    let server = kills_the_second_request();
    let client = client(&server);
    client.get::<Value>("/first").expect("a reply");
    let result = request(&client);
    let requests = server.requests();
    assert_eq!(requests[0].connection, requests[1].connection, "the second goes over the pooled connection");
    match result {
        Ok(_) => assert_eq!(requests.len(), 3),
        Err(_) => assert_eq!(requests.len(), 2),
    }
    requests.len() == 3
}

#[test]
fn a_request_on_a_dead_connection_is_sent_again_where_that_is_safe() {
    let path = service();
    let guard = PatchOperation::Test { path: "/metadata/resourceVersion".into(), value: "7".into() };
    let change = PatchOperation::Remove { path: "/metadata/finalizers/0".into() };

    assert!(succeeds_on_a_dead_connection(|client| client.get::<Value>(&path)));
    assert!(succeeds_on_a_dead_connection(|client| client.apply::<Value>(&path, "tester", &json!({}))));
    assert!(succeeds_on_a_dead_connection(|client| {
        client.json_patch::<Value>(&path, &[guard.clone(), change.clone()])
    }));

    assert!(!succeeds_on_a_dead_connection(|client| client.create::<Value>(&path, &json!({}))));
    assert!(!succeeds_on_a_dead_connection(|client| client.json_patch::<Value>(&path, std::slice::from_ref(&change))));
    assert!(!succeeds_on_a_dead_connection(|client| client.delete(&path)));
}

#[test]
fn a_server_that_always_hangs_up_is_asked_twice_and_no_more() {
    let server = Server::start(|_, _| Answer::HangUp);
    client(&server).get::<Value>("/version").expect_err("no reply");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_refusal_does_not_cost_the_connection() {
    let server = Server::start(|_, number| match number {
        0 => Answer::status_object(404, "NotFound", "nothing here"),
        _ => Answer::json("{}"),
    });
    let client = client(&server);
    assert!(client.get::<Value>("/a").expect_err("a refusal").is_not_found());
    client.get::<Value>("/b").expect("a reply");
    assert!(server.requests().iter().all(|request| request.connection == 0));
}

#[test]
fn a_proxy_of_the_kubeconfig_is_used() {
    let proxy = Server::start(|_, _| Answer::with_status(403, "no"));
    let cluster = format!("server: 'https://10.0.0.1:6443', proxy-url: 'http://{}'", proxy.address());
    let client = client_of(config(&cluster, ""));
    client.get::<Value>("/version").expect_err("the proxy refuses");
    let request = &proxy.requests()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", "10.0.0.1:6443"));
}

#[test]
fn a_user_agent_that_is_no_header_is_refused() {
    let error =
        Client::new(config("server: 'http://localhost'", ""), &ClientOptions::new("a\nb")).expect_err("a refusal");
    assert!(error.to_string().contains("user agent"), "{error}");
}
