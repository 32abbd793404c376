//! Replies that are not what they should be: each is an error that says so, and none is a panic or a
//! process that grows.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use kube_client_lite::{Client, ClientOptions, Error, ListQuery, PartialObject};
use serde_json::Value;

use crate::server::{Answer, Server};
use crate::setup::{client, config, hasty_client};

fn get_error(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Error {
    let server = Server::start(move |_, _| answer());
    client(&server).get::<Value>("/version").expect_err("an error")
}

#[test]
fn a_reply_that_is_cut_off_is_a_retryable_error() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"major\":",
        // What came is whole by itself; the rest is missing all the same.
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let error = get_error(|| Answer::Raw(reply.into()));
        assert!(error.is_retryable(), "{reply:?}: {error}");
    }
}

#[test]
fn a_reply_that_is_not_json_is_an_error() {
    for body in ["<html>Sign in to the hotel's network</html>", "", "{} {}", "nul", &"[".repeat(100_000)] {
        let body = body.to_owned();
        let error = get_error(move || Answer::json(body.clone()));
        assert!(!error.is_retryable() && error.code().is_none(), "{error}");
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
    assert!(error.code().is_none(), "{error}");
}

#[test]
fn a_reply_without_end_is_an_error() {
    let error = get_error(|| Answer::Endless("HTTP/1.1 200 OK\r\n\r\n\"", "spam and eggs"));
    assert_eq!(error.to_string(), "GET /version: the reply is larger than 4194304 bytes");
    assert!(!error.is_retryable());
}

#[test]
fn a_refusal_without_end_is_cut_short() {
    let error = get_error(|| Answer::Endless("HTTP/1.1 500 Oops\r\n\r\n", "spam and eggs "));
    assert_eq!(error.code(), Some(500));
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
        // Each part comes in time, the whole does not.
        || Answer::Drip("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        || Answer::Drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"major\":\"", "1"),
        || Answer::Drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
    ];
    for answer in answers {
        let server = Server::start(move |_, _| answer());
        let started = Instant::now();
        let error = hasty_client(&server, patience).get::<Value>("/version").expect_err("a timeout");
        assert!(error.is_retryable(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[test]
fn a_server_that_never_shakes_hands_is_given_up_in_time() {
    // The kernel accepts; nobody does after it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    for cluster in
        [format!("server: 'https://{address}'"), format!("server: 'https://10.0.0.1', proxy-url: 'http://{address}'")]
    {
        let options = ClientOptions { connect_timeout: Duration::from_millis(300), ..ClientOptions::new("test/1") };
        let client = Client::with_options(config(&cluster, ""), &options).expect("a usable configuration");
        let started = Instant::now();
        let error = client.get::<Value>("/version").expect_err("a timeout");
        assert!(error.is_retryable(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[test]
fn headers_without_end_are_an_error() {
    let started = Instant::now();
    for rest in ["X-Spam: eggs\r\n", "spam"] {
        let error = get_error(move || Answer::Endless("HTTP/1.1 200 OK\r\nX: ", rest));
        assert!(error.code().is_none(), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "not by the deadline: {:?}", started.elapsed());
}

#[test]
fn nobody_at_the_address_is_a_retryable_error() {
    let server = Server::start(|_, _| Answer::HangUp);
    let client = client(&server);
    drop(server);
    assert!(client.get::<Value>("/version").expect_err("an error").is_retryable());
}

#[test]
fn a_redirect_is_not_followed() {
    let server = Server::start(|_, _| Answer::Reply {
        status: 302,
        headers: "Location: http://127.0.0.1:1/login\r\n",
        body: String::new(),
    });
    let error = client(&server).get::<Value>("/version").expect_err("an error");
    assert_eq!(error.code(), Some(302));
    assert!(!error.is_retryable());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_refusal_says_what_can_be_done_about_it() {
    type Predicate = fn(&Error) -> bool;
    let table: [(u16, &str, &str, Predicate, bool); 12] = [
        (400, "BadRequest", "field label not supported", |error| error.code() == Some(400), false),
        (401, "Unauthorized", "Unauthorized", Error::is_unauthorized, false),
        (403, "Forbidden", "cannot list services", Error::is_forbidden, false),
        (404, "NotFound", "services web not found", Error::is_not_found, false),
        (409, "AlreadyExists", "services web already exists", Error::is_already_exists, false),
        (409, "Conflict", "the object has been modified", Error::is_conflict, false),
        (410, "Expired", "the token is too old", Error::is_gone, false),
        (422, "Invalid", "the test failed", Error::is_invalid, false),
        (429, "TooManyRequests", "later", |error| error.code() == Some(429), true),
        (500, "InternalError", "etcdserver: leader changed", |error| error.code() == Some(500), true),
        // kubernetes#122480
        (500, "", ".status.x: field not declared in schema", |error| error.code() == Some(500), false),
        (503, "ServiceUnavailable", "starting", |error| error.code() == Some(503), true),
    ];
    for (code, reason, message, predicate, is_retryable) in table {
        let error = get_error(move || Answer::status_object(code, reason, message));
        let text = error.to_string();
        assert!(predicate(&error), "{text}");
        assert_eq!(error.is_retryable(), is_retryable, "{text}");
        assert_eq!(error.reason(), reason);
        assert_eq!(error.retry_after(), None);
        assert!(text.starts_with(&format!("GET /version: {code}")) && text.ends_with(message), "{text}");
        let predicates: [Predicate; 7] = [
            Error::is_not_found,
            Error::is_conflict,
            Error::is_already_exists,
            Error::is_invalid,
            Error::is_unauthorized,
            Error::is_forbidden,
            Error::is_gone,
        ];
        assert!(predicates.iter().filter(|predicate| predicate(&error)).count() <= 1, "{text}");
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
        assert!(error.is_retryable());
        assert_eq!(error.to_string(), format!("GET /version: {code}: Too many requests, please try again later."));
    }
    let error = get_error(|| {
        Answer::with_status(504, r#"{"kind":"Status","reason":"Timeout","details":{"retryAfterSeconds":3}}"#)
    });
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.to_string(), "GET /version: 504 Timeout");
}
