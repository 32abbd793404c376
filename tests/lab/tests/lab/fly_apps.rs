//! Apps, addresses, organisations and tokens.

use std::time::Duration;

use lab::fly::{Account, Settings};
use serde_json::{Value, json};

use crate::fly_lab::{FlyLab, quick, small};
use crate::support::wait_for;

fn create(lab: &FlyLab, name: &str) -> crate::fly_lab::Answer {
    lab.api("POST", "/apps", json!({"name": name, "org_slug": "personal"}))
}

#[test]
fn app_names_follow_flys_rules() {
    let lab = FlyLab::without_traffic(quick());
    let long = "a".repeat(62);
    for good in ["a", "a-b-1", "1a", long.as_str()] {
        assert_eq!(create(&lab, good).status, 201, "{good}");
    }
    let too_long = "a".repeat(63);
    for bad in ["A", "a_b", "-a", "a-", "a.b", too_long.as_str()] {
        let answer = create(&lab, bad);
        assert_eq!(answer.status, 422, "{bad}");
        assert_eq!(
            answer.error(),
            "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes"
        );
    }
}

#[test]
fn names_are_unique_among_all_organisations() {
    let lab = FlyLab::without_traffic(quick());
    let other = lab.fly.add_organisation("other");
    lab.fly.add_app("other", "theirs", "");
    let taken = create(&lab, "theirs");
    assert_eq!((taken.status, &taken.body["status"]), (422, &json!("name_taken")));
    assert_eq!(taken.error(), "Validation failed: Name has already been taken");
    let foreign = lab.get("/apps/theirs");
    assert_eq!((foreign.status, foreign.error()), (403, "unauthorized"));
    assert_eq!(lab.api_as(&other, "GET", "/apps/theirs", Value::Null).status, 200);
    assert_eq!(lab.get("/apps?org_slug=personal").good()["total_apps"], 0);
}

#[test]
fn an_idempotency_key_gives_the_first_app_again() {
    let lab = FlyLab::without_traffic(quick());
    let create = |name: Option<&str>| {
        lab.api("POST", "/apps", json!({"name": name, "org_slug": "personal", "idempotency_key": "k"}))
    };
    let first = create(Some("a")).good();
    assert_eq!(create(Some("a")).good()["id"], first["id"]);
    assert_eq!(create(None).good()["id"], first["id"]);
    assert_eq!(create(Some("b")).status, 422);
}

#[test]
fn an_app_gives_its_network_back() {
    let lab = FlyLab::without_traffic(quick());
    let create = |name: &str, network: &str| {
        lab.api("POST", "/apps?wait=true", json!({"app_name": name, "org_slug": "personal", "network": network}))
    };
    assert_eq!(create("a", "net-1").good()["network"], "net-1");
    assert_eq!(create("b", "").good()["network"], "default");
    assert_eq!(create("c", "1net").status, 422);
    let apps = lab.get("/apps?org_slug=personal").good();
    let networks: Vec<&Value> = apps["apps"].as_array().expect("apps").iter().map(|app| &app["network"]).collect();
    assert_eq!(networks, [&json!("net-1"), &json!("default")]);
}

#[test]
fn a_new_app_appears_late_and_cannot_be_deleted_before() {
    let lab = FlyLab::without_traffic(Settings { app_appears_after: Duration::from_secs(5), ..quick() });
    create(&lab, "a").good();
    for (method, path) in [("GET", "/apps/a"), ("DELETE", "/apps/a"), ("POST", "/apps/a/machines")] {
        let answer = lab.api(method, path, json!({"config": small()}));
        assert_eq!((answer.status, answer.error()), (404, "app not found"), "{method} {path}");
    }
    assert_eq!(create(&lab, "a").status, 422, "its name is taken all the same");
    wait_for(|| (lab.get("/apps/a").status == 200).then_some(()), || "App".to_owned());
}

#[test]
fn a_deleted_app_goes_a_little_later_with_all_that_it_has() {
    let lab = FlyLab::without_traffic(Settings { app_deletion: Duration::from_secs(3), ..quick() });
    lab.app("a");
    lab.machine("a", "m", small());
    let deleted = lab.api("DELETE", "/apps/a", Value::Null);
    assert_eq!((deleted.status, deleted.body), (202, Value::Null));
    assert_eq!(lab.get("/apps/a").status, 200, "it is still there");
    wait_for(|| (lab.get("/apps/a").status == 404).then_some(()), || "404".to_owned());
    assert_eq!(lab.fly.state(), json!({"apps": []}));
    assert_eq!(create(&lab, "a").status, 201, "its name is free at once");
}

#[test]
fn every_dedicated_address_is_another_one() {
    let lab = FlyLab::without_traffic(quick());
    let first = lab.app("a").to_string();
    let assign = |body: Value| lab.api("POST", "/apps/a/ip_assignments", body);
    // Fly's Go client writes a request like this.
    let empty = json!({"type": "v4", "region": "", "org_slug": "", "network": "", "service_name": ""});
    let second = assign(empty).good();
    assert_ne!(second["ip"], json!(first));
    assert!(assign(json!({"type": "v6"})).good()["ip"].as_str().is_some_and(|ip| ip.contains(':')));
    assert_eq!(assign(json!({"type": "shared_v4"})).good()["shared"], true);
    let regional = assign(json!({"type": "shared_v4", "region": "ord"}));
    assert_eq!((regional.status, regional.error()), (400, "region selection is not supported for this IP type"));
    let listed = || lab.get("/apps/a/ip_assignments").good()["ips"].as_array().expect("a list").len();
    assert_eq!(listed(), 4);
    let path = format!("/apps/a/ip_assignments/{first}");
    assert_eq!(lab.api("DELETE", &path, Value::Null).status, 204);
    assert_eq!(lab.api("DELETE", &path, Value::Null).status, 404);
    assert_eq!(listed(), 3);
}

#[test]
fn a_new_address_appears_late() {
    let lab = FlyLab::without_traffic(Settings { address_appears_after: Duration::from_secs(4), ..quick() });
    create(&lab, "a").good();
    let address = lab.api("POST", "/apps/a/ip_assignments", json!({"type": "v4"})).good();
    let listed = || lab.get("/apps/a/ip_assignments").good()["ips"].clone();
    assert_eq!(listed(), json!([]), "nobody can tell it from one that was not made");
    wait_for(|| (listed()[0]["ip"] == address["ip"]).then_some(()), || "address".to_owned());
}

#[test]
fn a_trial_gets_no_dedicated_address() {
    let lab = FlyLab::without_traffic(quick());
    create(&lab, "a").good();
    lab.fly.set_account(Account { dedicated_v4: false, ..Account::default() });
    assert_eq!(lab.api("POST", "/apps/a/ip_assignments", json!({"type": "v4"})).status, 400);
}

#[test]
fn a_token_is_of_one_organisation() {
    let lab = FlyLab::without_traffic(quick());
    let bad = lab.api_as("fo1_wrong", "GET", "/apps", Value::Null);
    assert_eq!((bad.status, bad.error()), (401, "Authenticate: token validation error"));
    assert_eq!(lab.get("/tokens/current").good()["tokens"][0]["org_slug"], "personal");
    assert_eq!(lab.api_as(&format!("FlyV1 {}", lab.fly.token()), "GET", "/apps", Value::Null).status, 200);
    let new = lab.fly.rotate_token();
    assert_eq!(lab.get("/apps").status, 401);
    assert_eq!(lab.api_as(&new, "GET", "/apps", Value::Null).status, 200);
}
