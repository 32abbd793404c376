//! The recorder: its log, each fault, and requests that are held.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::recorder::{Answer as Made, Fault, Gate, Rule, Target};
use serde_json::{Map, Value, json};

use crate::fly_lab::{Answer, FlyLab, quick, request};
use crate::support::{DEADLINE, wait_for};

fn lab() -> FlyLab {
    FlyLab::without_traffic(quick())
}

/// Sends `POST /v1/apps`. Gives the status of the answer, or nothing if the connection was closed.
fn create(lab: &FlyLab, name: &str) -> Option<u16> {
    answer(lab, name).map(|answer| answer.status)
}

fn answer(lab: &FlyLab, name: &str) -> Option<Answer> {
    let headers = [("Authorization", format!("Bearer {}", lab.fly.token()))];
    let body = json!({"name": name, "org_slug": "personal"});
    request(lab.address, "POST", "/v1/apps?wait=true", &headers, &body).ok()
}

fn exists(lab: &FlyLab, name: &str) -> bool {
    let state = lab.fly.state();
    state["apps"].as_array().expect("apps").iter().any(|app| app["name"] == name)
}

#[test]
fn the_log_tells_all_but_the_token() {
    let lab = lab();
    create(&lab, "a");
    lab.get("/apps/b");
    let log = serde_json::to_value(lab.recorder.requests()).expect("JSON");
    let first = &log[0];
    let fields: Vec<&String> = first.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["body", "method", "path", "status", "time", "to", "user_agent"]);
    assert_eq!(first["to"], "fly");
    assert_eq!((&first["method"], &first["path"]), (&json!("POST"), &json!("/v1/apps?wait=true")));
    assert_eq!((&first["status"], &first["user_agent"]), (&json!(201), &json!("test/1")));
    let body: Value = serde_json::from_str(first["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body["name"], "a");
    let time = first["time"].as_str().expect("text");
    assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-11-24T19:56:35.649523Z".len(), "{time}");
    assert_eq!(log[1]["status"], 404);
    assert!(!log.to_string().contains(lab.fly.token()));
}

#[test]
fn an_answer_can_be_given_in_flys_stead() {
    let lab = lab();
    let headers = Map::from_iter([("Retry-After".to_owned(), json!("7"))]);
    let answer = Made { status: 503, headers, body: r#"{"error":"busy"}"#.to_owned() };
    let rule = Rule::new(Fault::Answer(answer)).to(Target::Fly).method("POST").path("^/v1/apps\\?").skip(1).times(2);
    lab.recorder.set_faults([rule]);
    let statuses: Vec<_> = ["a", "b", "c", "d"].map(|name| create(&lab, name)).into_iter().collect();
    assert_eq!(statuses, [Some(201), Some(503), Some(503), Some(201)]);
    assert!(exists(&lab, "a") && !exists(&lab, "b") && exists(&lab, "d"));
    assert_eq!(lab.recorder.requests()[1].status, Some(503));
}

#[test]
fn a_request_can_be_late() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::Delay(Duration::from_millis(300)))]);
    let start = Instant::now();
    assert_eq!(create(&lab, "a"), Some(201));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_refused_request_does_not_count() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::Refuse)]);
    assert_eq!(create(&lab, "a"), None);
    assert!(!exists(&lab, "a"));
    assert_eq!(lab.recorder.requests()[0].status, None);
}

#[test]
fn a_lost_reply_is_of_a_request_that_counts() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::LoseReply)]);
    assert_eq!(create(&lab, "a"), None);
    assert!(exists(&lab, "a"));
    assert_eq!(lab.recorder.requests()[0].status, None);
    assert_eq!(create(&lab, "a"), Some(422), "once only");
}

#[test]
fn a_late_reply_is_of_a_request_that_counted_at_once() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::DelayReply(Duration::from_secs(1)))]);
    std::thread::scope(|scope| {
        let start = Instant::now();
        let created = scope.spawn(|| create(&lab, "a"));
        wait_for(|| exists(&lab, "a").then_some(()), || "App".to_owned());
        assert_eq!(created.join().expect("no panic"), Some(201));
        assert!(start.elapsed() >= Duration::from_secs(1));
    });
}

/// Whoever gives up waiting takes the request with him.
#[test]
fn a_request_that_is_late_does_not_count_once_its_client_is_gone() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::Delay(Duration::from_millis(500)))]);
    let mut stream = TcpStream::connect(lab.address).expect("it listens");
    let body = json!({"name": "a", "org_slug": "personal"}).to_string();
    let head = format!("POST /v1/apps HTTP/1.1\r\nHost: fly\r\nAuthorization: Bearer {}\r\n", lab.fly.token());
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it is sent");
    lab.recorder.wait_for_request(1, DEADLINE, |request| request.struck).expect("it has arrived");
    drop(stream);
    // A request that comes later and is as late has its answer when the first would have been passed on.
    lab.recorder.set_faults([Rule::new(Fault::Delay(Duration::from_secs(1)))]);
    assert_eq!(create(&lab, "b"), Some(201));
    assert!(!exists(&lab, "a"));
}

#[test]
fn a_reply_can_have_another_body() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::ReplyBody("17".to_owned()))]);
    let answer = answer(&lab, "a").expect("a reply");
    assert_eq!((answer.status, answer.body, answer.cut), (201, json!(17), false));
    assert!(exists(&lab, "a"));
}

#[test]
fn a_reply_can_break_off() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::CutReply)]);
    let cut = answer(&lab, "a").expect("its head");
    assert_eq!((cut.status, cut.cut), (201, true));
    assert!(exists(&lab, "a"));
    assert!(!answer(&lab, "b").expect("a reply").cut, "once only");
}

#[test]
fn no_faults_no_strikes() {
    let lab = lab();
    lab.recorder.set_faults([Rule::new(Fault::Refuse).times(9)]);
    assert_eq!(create(&lab, "a"), None);
    lab.recorder.set_faults([]);
    assert_eq!(create(&lab, "a"), Some(201));
}

#[test]
fn a_held_request_waits_for_the_test() {
    for go_on in [true, false] {
        let lab = lab();
        let gate = Gate::default();
        lab.recorder.set_faults([Rule::new(Fault::Hold(gate.clone())).method("POST")]);
        std::thread::scope(|scope| {
            let created = scope.spawn(|| create(&lab, "a"));
            assert_eq!(gate.wait(DEADLINE).expect("held").path, "/v1/apps?wait=true");
            assert!(!exists(&lab, "a"), "it has not counted");
            if go_on {
                gate.open()
            } else {
                gate.drop_held()
            }
            assert_eq!(created.join().expect("no panic"), go_on.then_some(201));
        });
        assert_eq!(exists(&lab, "a"), go_on);
    }
}

#[test]
fn a_held_reply_is_of_a_request_that_counts() {
    let lab = lab();
    let gate = Gate::default();
    lab.recorder.set_faults([Rule::new(Fault::HoldReply(gate.clone())).method("POST")]);
    std::thread::scope(|scope| {
        let created = scope.spawn(|| create(&lab, "a"));
        assert!(gate.wait(DEADLINE).is_some());
        assert!(exists(&lab, "a"), "it has counted");
        gate.drop_held();
        assert_eq!(created.join().expect("no panic"), None);
    });
}

#[test]
fn the_nth_request_can_be_waited_for() {
    let lab = lab();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| lab.recorder.wait_for_request(2, DEADLINE, |request| request.method == "GET"));
        lab.get("/apps/a");
        create(&lab, "a");
        lab.get("/apps/b");
        assert_eq!(second.join().expect("no panic").expect("in time").path, "/v1/apps/b");
    });
    assert!(lab.recorder.wait_for_request(3, Duration::from_millis(10), |request| request.method == "GET").is_none());
}
