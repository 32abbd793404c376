//! Replies that are not as they should be. Each gives an error that says so; none gives a panic or lets the process
//! grow.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::{Error, ListQuery, PartialObject};
use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::{client, client_of, config, hasty_client, is_refusal};

fn get_error(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Error {
    let server = Server::start(move |_, _| answer());
    client(&server).get::<Value>("/version").expect_err("an error")
}

#[test]
fn a_reply_that_is_cut_off_is_an_error() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"major\":",
        // The part that came is complete JSON, but the rest of the body is missing.
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let error = get_error(|| Answer::Raw(reply.into())).to_string();
        assert!(!error.contains("not what was asked for"), "{reply:?}: {error}");
    }
}

#[test]
fn a_reply_that_is_not_json_is_an_error() {
    for body in ["<html>Sign in to the hotel's network</html>", "", "{} {}", "nul", &"[".repeat(100_000)] {
        let body = body.to_owned();
        let error = get_error(move || Answer::json(body.clone()));
        assert!(error.to_string().starts_with("GET /version: the reply is not what was asked for: "), "{error}");
    }
}

#[test]
fn a_reply_of_the_wrong_shape_is_an_error() {
    let server = Server::start(|_, _| Answer::json(r#"{"metadata":{"name":5}}"#));
    let error = client(&server).get::<PartialObject>("/version").expect_err("an error");
    assert!(error.to_string().contains("expected a string"), "{error}");
}

#[test]
fn a_reply_that_is_not_http_is_an_error() {
    let error = get_error(|| Answer::Raw("SSH-2.0-OpenSSH_9.9\r\n".into()));
    assert_eq!(error.to_string(), "GET /version: protocol: http parse fail: invalid HTTP version");
}

#[test]
fn a_reply_without_end_is_an_error() {
    let error = get_error(|| Answer::Endless("HTTP/1.1 200 OK\r\n\r\n\"", "spam and eggs"));
    assert_eq!(error.to_string(), "GET /version: the reply is larger than 4194304 bytes");
}

#[test]
fn a_refusal_without_end_is_cut_short() {
    let error = get_error(|| Answer::Endless("HTTP/1.1 500 Oops\r\n\r\n", "spam and eggs "));
    assert!(is_refusal(&error, 500));
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn a_long_explanation_is_cut_short() {
    let error = get_error(|| Answer::status_object(422, "Invalid", &"spam and eggs ".repeat(1_000)));
    assert!(error.is_invalid());
    assert!(error.to_string().len() < 3_000, "{error}");
}

#[test]
fn a_list_without_end_is_an_error() {
    let server =
        Server::start(|_, _| Answer::Endless("HTTP/1.1 200 OK\r\n\r\n{\"metadata\":{},\"x\":\"", "spam and eggs"));
    let result = client(&server).list::<PartialObject>("/api/v1/services", &ListQuery::default());
    let error = result.expect_err("an error");
    assert_eq!(error.to_string(), "GET /api/v1/services: the reply is larger than 67108864 bytes");
}

#[test]
fn a_server_that_is_too_slow_is_given_up_in_time() {
    let patience = Duration::from_millis(300);
    let answers: [fn() -> Answer; 6] = [
        || Answer::Stall(""),
        || Answer::Stall("HTTP/1.1 200 OK\r\nContent-Le"),
        || Answer::Stall("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"major\":"),
        // Each part comes in time, but the whole does not.
        || Answer::Drip("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        || Answer::Drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"major\":\"", "1"),
        || Answer::Drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
    ];
    for answer in answers {
        let server = Server::start(move |_, _| answer());
        let started = Instant::now();
        let error = hasty_client(&server, patience).get::<Value>("/version").expect_err("a timeout");
        assert!(error.to_string().contains("timeout"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// A request has 30 s, but only 5 s of them are for the connection.
#[test]
fn a_server_that_never_shakes_hands_is_given_up_in_time() {
    // The kernel accepts the connection, and then nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    let clusters =
        [format!("server: 'https://{address}'"), format!("server: 'https://10.0.0.1', proxy-url: 'http://{address}'")];
    thread::scope(|scope| {
        for cluster in &clusters {
            scope.spawn(|| {
                let started = Instant::now();
                let error = client_of(config(cluster, "")).get::<Value>("/version").expect_err("a timeout");
                assert!(error.to_string().contains("timeout"), "{error}");
                assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
            });
        }
    });
}

#[test]
fn headers_without_end_are_an_error() {
    let started = Instant::now();
    for rest in ["X-Spam: eggs\r\n", "spam"] {
        get_error(move || Answer::Endless("HTTP/1.1 200 OK\r\nX: ", rest));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "not by the deadline: {:?}", started.elapsed());
}

#[test]
fn nobody_at_the_address_is_an_error() {
    let server = Server::start(|_, _| Answer::HangUp);
    let client = client(&server);
    drop(server);
    client.get::<Value>("/version").expect_err("nobody answers");
}

#[test]
fn a_redirect_is_not_followed() {
    let server = Server::start(|_, _| Answer::Reply {
        status: 302,
        headers: "Location: http://127.0.0.1:1/login\r\n",
        body: String::new(),
    });
    let error = client(&server).get::<Value>("/version").expect_err("an error");
    assert!(is_refusal(&error, 302), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_refusal_says_what_can_be_done_about_it() {
    type Predicate = fn(&Error) -> bool;
    let predicates: [Predicate; 5] =
        [Error::is_not_found, Error::is_conflict, Error::is_already_exists, Error::is_invalid, Error::is_forbidden];
    let [not_found, conflict, already_exists, invalid, forbidden] = predicates.map(Some);
    for (code, reason, message, expected) in [
        (400, "BadRequest", "field label not supported", None),
        (401, "Unauthorized", "Unauthorized", None),
        (403, "Forbidden", "cannot list services", forbidden),
        (404, "NotFound", "services web not found", not_found),
        (409, "AlreadyExists", "services web already exists", already_exists),
        (409, "Conflict", "the object has been modified", conflict),
        (410, "Expired", "the token is too old", None),
        (422, "Invalid", "the test failed", invalid),
        (429, "TooManyRequests", "later", None),
        (500, "InternalError", "etcdserver: leader changed", None),
    ] {
        let error = get_error(move || Answer::status_object(code, reason, message));
        assert_eq!(error.to_string(), format!("GET /version: {code} {reason}: {message}"));
        assert_eq!(error.retry_after(), None);
        assert!(expected.is_none_or(|predicate| predicate(&error)), "{error}");
        let true_ones = predicates.iter().filter(|predicate| predicate(&error)).count();
        assert_eq!(true_ones, usize::from(expected.is_some()), "{error}");
    }
}

/// Both have the status 403. A cause in the details tells them apart (the apiserver's NamespaceLifecycle admission).
#[test]
fn a_namespace_that_is_being_deleted_is_no_missing_right() {
    for (causes, expected) in [
        (r#"[{"reason":"NamespaceTerminating","message":"namespace a is being terminated"}]"#, true),
        (r#"[{"reason":"FieldValueInvalid"}]"#, false),
        ("[]", false),
    ] {
        let body = format!(r#"{{"kind":"Status","code":403,"reason":"Forbidden","details":{{"causes":{causes}}}}}"#);
        let error = get_error(move || Answer::with_status(403, body.clone()));
        assert_eq!((error.is_namespace_terminating(), error.is_forbidden()), (expected, true), "{causes}");
    }
}

#[test]
fn the_time_to_wait_is_the_servers() {
    for code in [429, 503] {
        let error = get_error(move || Answer::Reply {
            status: code,
            headers: "Retry-After: 7\r\n",
            body: "Too many requests, please try again later.\n".to_owned(),
        });
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.to_string(), format!("GET /version: {code}: Too many requests, please try again later."));
    }
    let error = get_error(|| {
        Answer::with_status(504, r#"{"kind":"Status","reason":"Timeout","details":{"retryAfterSeconds":3}}"#)
    });
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.to_string(), "GET /version: 504 Timeout");
}
