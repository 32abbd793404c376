//! Lists: their pages, the requests for them, and replies that are no list.

use kube_client_lite::{ListQuery, ObjectMeta, PartialObject};

use crate::server::{Answer, Request, Server};
use crate::setup::{client, is_refusal};

const SERVICES: &str = "/api/v1/services";

/// An answer with one page of a list: objects of these names, and the token of the next page.
fn page(names: &[&str], next: &str) -> Answer {
    let items: Vec<_> = names.iter().map(|name| format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{}}}}"#)).collect();
    Answer::json(format!(
        r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"9","continue":"{next}"}},"items":[{}]}}"#,
        items.join(",")
    ))
}

fn expired() -> Answer {
    Answer::status_object(410, "Expired", "the continue token is too old")
}

fn begins(request: &Request) -> bool {
    !request.target.contains("continue=")
}

fn names(objects: &[PartialObject]) -> Vec<&str> {
    objects.iter().map(|object| object.metadata.name.as_str()).collect()
}

#[test]
fn pages_become_one_list_over_one_connection() {
    let server = Server::start(|_, number| match number {
        0 => page(&["a", "b"], "next/1="),
        1 => page(&[], "next/2="),
        _ => page(&["c"], ""),
    });
    let query = ListQuery {
        label_selector: Some("app in (web, db)".into()),
        field_selector: Some("spec.type=LoadBalancer".into()),
    };
    let objects = client(&server).list::<PartialObject>(SERVICES, &query).expect("a list").items;
    assert_eq!(names(&objects), ["a", "b", "c"]);

    let requests = server.requests();
    let parameters = "limit=500&labelSelector=app%20in%20(web%2C%20db)&fieldSelector=spec.type%3DLoadBalancer";
    assert_eq!(requests[0].target, format!("{SERVICES}?{parameters}"));
    assert_eq!(requests[1].target, format!("{SERVICES}?{parameters}&continue=next%2F1%3D"));
    assert_eq!(requests[2].target, format!("{SERVICES}?{parameters}&continue=next%2F2%3D"));
    assert!(requests.iter().all(|request| request.connection == 0));
    assert!(requests.iter().all(|request| request.header("accept") == Some("application/json")));
}

#[test]
fn metadata_alone_is_asked_for_by_name() {
    let server = Server::start(|_, _| page(&["a"], ""));
    let objects = client(&server).list_metadata(SERVICES, &ListQuery::default()).expect("a list").items;
    assert_eq!(names(&objects), ["a"]);
    let accept = server.requests()[0].header("accept").map(str::to_owned);
    assert_eq!(accept.as_deref(), Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"));
}

#[test]
fn a_token_that_is_too_old_begins_the_list_again() {
    let server = Server::start(|request, number| match number {
        1 => expired(),
        _ if begins(request) => page(&["a"], "next"),
        _ => page(&["b"], ""),
    });
    let objects = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default()).expect("a list").items;
    assert_eq!(names(&objects), ["a", "b"]);
    let begun: Vec<_> = server.requests().iter().map(begins).collect();
    assert_eq!(begun, [true, false, true, false]);
}

#[test]
fn a_token_that_is_always_too_old_is_an_error() {
    let server = Server::start(|request, _| if begins(request) { page(&["a"], "next") } else { expired() });
    let result = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default());
    assert!(is_refusal(&result.expect_err("an error"), 410));
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_list_that_goes_round_in_circles_is_an_error() {
    let server = Server::start(|_, _| page(&["a"], "next"));
    let result = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default());
    let error = result.expect_err("an error");
    assert_eq!(error.to_string(), "GET /api/v1/services: the list does not end");
}

#[test]
fn a_page_that_fails_fails_the_list() {
    let server = Server::start(|_, number| match number {
        0 => page(&["a"], "next"),
        _ => Answer::status_object(500, "InternalError", "no"),
    });
    let result = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default());
    assert!(is_refusal(&result.expect_err("an error"), 500));
}

#[test]
fn an_empty_list_is_one_and_nothing_else_is() {
    for body in [r#"{"metadata":{},"items":[]}"#, r#"{"metadata":{"continue":""},"items":null}"#] {
        let server = Server::start(move |_, _| Answer::json(body));
        let objects = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default()).expect("a list");
        assert!(objects.items.is_empty() && objects.unreadable.is_empty());
    }
    for body in ["{}", r#"{"metadata":{}}"#, r#"{"items":[]}"#, "[]", "null", r#"{"metadata":{},"items":{}}"#] {
        let server = Server::start(move |_, _| Answer::json(body));
        let result = client(&server).list::<PartialObject>(SERVICES, &ListQuery::default());
        assert!(result.is_err(), "{body} is not a list");
    }
}

/// An object that somebody else wrote, and that is not as expected, must not hide all others.
#[test]
fn an_object_that_cannot_be_read_hides_no_other() {
    #[derive(Debug, serde::Deserialize)]
    struct Counted {
        metadata: ObjectMeta,
        count: u8,
    }

    let server = Server::start(|_, _| {
        Answer::json(
            r#"{"metadata":{},"items":[
                {"metadata":{"namespace":"shop","name":"a"},"count":null},
                {"metadata":{"namespace":"shop","name":"b"},"count":2},
                {"metadata":{"name":3}}, null,
                {"metadata":{"name":"c"},"count":{"deep":[[[]]]}}]}"#,
        )
    });
    let list = client(&server).list::<Counted>(SERVICES, &ListQuery::default()).expect("a list");
    assert_eq!(list.items.iter().map(|item| (item.metadata.name.as_str(), item.count)).collect::<Vec<_>>(), [("b", 2)]);
    let told: Vec<String> = list.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[0].starts_with("shop/a cannot be read: invalid type: null, expected u8"), "{told:#?}");
    assert_eq!(list.unreadable[3].name, "c");
}
