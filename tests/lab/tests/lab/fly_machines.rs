//! Machines: states and waits, names, bodies, placement, leases, metadata, rate limits.

use std::time::{Duration, Instant};

use lab::fly::{Account, Settings};
use serde_json::{Value, json};

use crate::fly_lab::{Answer, FlyLab, frps, quick, request, small};
use crate::support::wait_for;

fn lab_with_app(settings: Settings) -> FlyLab {
    let lab = FlyLab::without_traffic(settings);
    lab.app("a");
    lab
}

fn state(lab: &FlyLab, id: &str) -> String {
    lab.get(&format!("/apps/a/machines/{id}")).good()["state"].as_str().expect("a state").to_owned()
}

#[test]
fn a_machine_goes_through_its_states() {
    // A quarter of the first boot is spent in `created`, in which two requests are made.
    let lab = lab_with_app(Settings { machine_boot: Duration::from_secs(12), ..quick() });
    let id = lab.machine("a", "m", small());
    lab.fly.set(|fly| fly.machine_boot = quick().machine_boot);
    let path = |rest: &str| format!("/apps/a/machines/{id}{rest}");
    assert_eq!(state(&lab, &id), "created");
    let early = lab.api("POST", &path("/start"), Value::Null);
    assert_eq!(early.status, 412);
    assert_eq!(early.error(), "failed_precondition: unable to start machine from current state: 'created'");
    lab.wait("a", &id, "started");
    assert_eq!(lab.api("DELETE", &path(""), Value::Null).status, 412, "it runs");
    lab.api("POST", &path("/stop"), json!({"signal": "SIGTERM", "timeout": "30s"})).good();
    lab.wait("a", &id, "stopped");
    let started = lab.api("POST", &path("/start"), Value::Null).good();
    assert_eq!(started, json!({"previous_state": "stopped", "migrated": false, "new_host": ""}));
    lab.wait("a", &id, "started,destroyed");
    lab.api("POST", &path("/restart?timeout=1s"), Value::Null).good();
    lab.wait("a", &id, "settled");
    lab.api("DELETE", &path("?force=true"), Value::Null).good();
    lab.wait("a", &id, "destroyed");
    let events = lab.get(&path("/events")).good();
    assert!(events.as_array().expect("events").iter().any(|event| event["status"] == "destroying"), "{events}");
    assert_eq!(state(&lab, &id), "destroyed", "it can still be read");
    assert_eq!(lab.get("/apps/a/machines").good(), json!([]), "but is not listed");
    let deleted = lab.get("/apps/a/machines?include_deleted=true").good();
    assert_eq!(deleted[0]["id"], json!(id));
    assert_eq!(lab.get("/apps/a/machines/148ed193a95789").status, 404);
}

#[test]
fn waits_are_bounded_and_run_out() {
    let lab = lab_with_app(Settings { machine_boot: Duration::from_secs(60), ..quick() });
    let id = lab.machine("a", "m", small());
    let wait = |query: &str| lab.get(&format!("/apps/a/machines/{id}/wait?{query}"));
    for bad in ["timeout=61", "timeout=0"] {
        let answer = wait(bad);
        assert_eq!(answer.status, 400, "{bad}");
        let why = "invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]";
        assert_eq!(answer.error(), why);
    }
    assert_eq!(wait("state=happy").status, 400);
    let start = Instant::now();
    let late = wait("state=started&timeout=1");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(late.status, 408);
    let why = "deadline_exceeded: machine failed to reach desired state, started, currently created";
    assert_eq!(late.error(), why);
    let other = wait("state=started&version=01OLD");
    assert_eq!(other.status, 408);
    assert!(other.error().ends_with("currently replaced"), "{other:?}");
}

#[test]
fn a_name_is_taken_until_its_machine_is_destroyed() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", small());
    let again = || lab.api("POST", "/apps/a/machines", json!({"name": "m", "config": small()}));
    let taken = again();
    assert_eq!(taken.status, 409);
    let why = format!("already_exists: unique machine name violation, machine ID {id} already exists with name \"m\"");
    assert_eq!(taken.error(), why);
    lab.api("DELETE", &format!("/apps/a/machines/{id}?kill=true"), Value::Null).good();
    lab.wait("a", &id, "destroyed");
    assert_ne!(again().good()["id"], json!(id));
}

#[test]
fn a_new_machine_appears_late() {
    let lab = lab_with_app(Settings { machine_appears_after: Duration::from_secs(4), ..quick() });
    let id = lab.machine("a", "m", small());
    assert_eq!(lab.get(&format!("/apps/a/machines/{id}")).status, 404);
    assert_eq!(lab.get("/apps/a/machines").good(), json!([]));
    let again = lab.api("POST", "/apps/a/machines", json!({"name": "m", "config": small()}));
    assert_eq!(again.status, 409, "its name is taken all the same");
    wait_for(|| (lab.get("/apps/a/machines").good() != json!([])).then_some(()), || "Machine".to_owned());
}

#[test]
fn bodies_are_read_strictly() {
    let lab = lab_with_app(quick());
    let service = |service: Value| json!({"config": {"image": "frps", "services": [service]}});
    let check = |check: Value| service(json!({"internal_port": 80, "checks": [check]}));
    let config = |field: &str, value: Value| json!({"config": {"image": "frps", field: value}});
    for (why, body) in [
        ("an unknown field", json!({"config": small(), "colour": "red"})),
        ("an unknown field of config", config("imgae", json!("frps"))),
        ("an unknown field of a service", service(json!({"internal_port": 80, "external_port": 80}))),
        ("no config", json!({"name": "m"})),
        ("no image", json!({"config": {}})),
        ("a number as a name", json!({"name": 7, "config": small()})),
        ("a name with a space", json!({"name": "a b", "config": small()})),
        ("a port beyond 65535", service(json!({"internal_port": 65536}))),
        ("a service without an internal port", service(json!({"protocol": "tcp"}))),
        ("a port twice", service(json!({"internal_port": 80, "ports": [{"port": 1, "start_port": 1, "end_port": 2}]}))),
        ("a protocol that is none", service(json!({"internal_port": 80, "protocol": "sctp"}))),
        (
            "https forced without http",
            service(json!({"internal_port": 80, "ports": [{"port": 1, "force_https": true}]})),
        ),
        ("a handler that is none", service(json!({"internal_port": 80, "ports": [{"port": 1, "handlers": ["ssh"]}]}))),
        (
            "UDP with a handler",
            service(json!({"internal_port": 80, "protocol": "udp", "ports": [{"port": 1, "handlers": ["tls"]}]})),
        ),
        ("autostart as text", service(json!({"internal_port": 80, "autostart": "false"}))),
        ("autostop that is none", service(json!({"internal_port": 80, "autostop": "never"}))),
        ("a check without a type", check(json!({"interval": "15s"}))),
        ("a duration that is none", check(json!({"type": "tcp", "interval": "15"}))),
        ("a kind in a service's check", check(json!({"type": "tcp", "kind": "readiness"}))),
        ("cpus that do not exist", config("guest", json!({"cpu_kind": "shared", "cpus": 3, "memory_mb": 768}))),
        ("memory between the sizes", config("guest", json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 300}))),
        ("memory beyond the limit", config("guest", json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 4096}))),
        ("a size that is none", config("size", json!("shared-cpu-3x"))),
        ("guest and size", json!({"config": {"image": "frps", "size": "shared-cpu-1x", "guest": {"cpus": 1}}})),
        ("a relative path", config("files", json!([{"guest_path": "etc/x", "raw_value": ""}]))),
        ("a file without content", config("files", json!([{"guest_path": "/etc/x"}]))),
        ("a file that is no base64", config("files", json!([{"guest_path": "/etc/x", "raw_value": "%"}]))),
        ("a mode as text", config("files", json!([{"guest_path": "/etc/x", "raw_value": "", "mode": "0600"}]))),
        ("a restart policy that is none", config("restart", json!({"policy": "sometimes"}))),
        ("a signal that is none", config("stop_config", json!({"signal": "SIGSTOP"}))),
        ("a stop that takes too long", config("stop_config", json!({"timeout": "301s"}))),
        ("metadata that is no text", config("metadata", json!({"a": 1}))),
        ("an environment that is no text", config("env", json!({"A": true}))),
        ("a volume that is not there", config("mounts", json!([{"volume": "vol_1", "path": "/data"}]))),
        ("a region that is none", json!({"config": small(), "region": "xyz"})),
        ("a list with a region that is none", json!({"config": small(), "region": "ord,xyz"})),
    ] {
        let answer = lab.api("POST", "/apps/a/machines", body);
        assert_eq!(answer.status, 400, "{why}: {answer:?}");
        assert!(answer.error().starts_with("invalid_argument: "), "{why}: {answer:?}");
    }
    for (path, body) in [
        ("/apps", json!({"name": "b", "org_slug": "personal", "region": "ord"})),
        ("/apps/a/ip_assignments", json!({"type": "v5"})),
        ("/apps/a/ip_assignments", json!({"type": "v4", "count": 2})),
    ] {
        assert_eq!(lab.api("POST", path, body.clone()).status, 400, "{path} {body}");
    }
    assert_eq!(lab.fly.state()["apps"][0]["machines"], json!([]));
}

#[test]
fn a_config_is_read_back_as_fly_writes_it() {
    let lab = lab_with_app(quick());
    let id = lab.machine(
        "a",
        "m",
        json!({
            "image": "registry.example:5000/me/frps:1@sha256:00",
            "init": {},
            "files": [{"guest_path": "/x", "raw_value": "c2VjcmV0", "mode": 384}],
            "services": [{
                "internal_port": 80, "autostop": "off", "force_instance_key": null, "ports": [{"port": 80}],
                "checks": [{"type": "tcp", "interval": "90s", "timeout": 500_000_000, "grace_period": "0s"}],
            }],
        }),
    );
    let machine = lab.get(&format!("/apps/a/machines/{id}")).good();
    let config = &machine["config"];
    assert_eq!(config["guest"], json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 256}));
    assert_eq!(config["files"][0]["raw_value"], "c2VjcmV0");
    assert_eq!(config["services"][0]["autostop"], false);
    let check = json!({"type": "tcp", "port": 80, "interval": "1m0s", "timeout": "1s", "grace_period": "0s"});
    assert_eq!(config["services"][0]["checks"][0], check);
    let image = json!({"registry": "registry.example:5000", "repository": "me/frps", "tag": "1", "digest": "sha256:00", "labels": {}});
    assert_eq!(machine["image_ref"], image);
}

#[test]
fn an_update_is_a_new_version_of_the_same_machine() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", small());
    lab.wait("a", &id, "started");
    let path = format!("/apps/a/machines/{id}");
    let before = lab.get(&path).good()["instance_id"].clone();
    let stale = lab.api("POST", &path, json!({"config": small(), "current_version": "01OLD"}));
    assert_eq!(stale.status, 409);
    assert_eq!(lab.api("POST", &path, json!({"config": small(), "region": "iad"})).status, 400);
    let updated = lab.api("POST", &path, json!({"config": {"image": "frps", "env": {"A": "1"}}})).good();
    assert_eq!(updated["id"], json!(id));
    assert_ne!(updated["instance_id"], before);
    lab.wait("a", &id, "started");
    assert_eq!(lab.get(&path).good()["config"]["env"]["A"], "1");
}

#[test]
fn a_full_region_sends_the_machine_to_the_next() {
    let lab = lab_with_app(quick());
    lab.fly.set_capacity([("ord".to_owned(), 1), ("iad".to_owned(), 0)]);
    let create = |region: &str| lab.api("POST", "/apps/a/machines", json!({"region": region, "config": small()}));
    assert_eq!(create("ord").good()["region"], "ord");
    assert_eq!(create("ord,iad,fra").good()["region"], "fra");
    let full = create("ord,iad");
    assert_eq!((full.status, &full.body["status"]), (422, &json!("insufficient_capacity")));
    assert_eq!(full.error(), "could not find a candidate host");
    lab.fly.set_capacity([]);
    assert_eq!(create("iad").good()["region"], "iad");
}

#[test]
fn an_account_has_its_limits() {
    let lab = lab_with_app(quick());
    let create = || lab.api("POST", "/apps/a/machines", json!({"region": "ord", "config": small()}));
    lab.fly.set_account(Account { memory_quota: Some(256), ..Account::default() });
    create().good();
    let over = create();
    assert_eq!(over.status, 403);
    assert!(over.error().contains("over the allowed quota"), "{over:?}");
    lab.fly.set_account(Account { payment_method: false, ..Account::default() });
    let unpaid = create();
    assert_eq!(unpaid.status, 402);
    assert!(unpaid.error().contains("payment"), "{unpaid:?}");
}

#[test]
fn a_lease_keeps_others_out() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", small());
    let path = |rest: &str| format!("/apps/a/machines/{id}{rest}");
    assert_eq!(lab.get(&path("/lease")).status, 404);
    let lease = lab.api("POST", &path("/lease?ttl=30"), json!({"description": "me"})).good();
    assert_eq!((&lease["status"], &lease["data"]["description"]), (&json!("success"), &json!("me")));
    assert_eq!(lab.api("POST", &path("/lease"), Value::Null).status, 409);
    assert_eq!(lab.api("POST", &path("/cordon"), Value::Null).status, 409);
    let with_nonce = |method: &str, rest: &str| {
        let nonce = lease["data"]["nonce"].as_str().expect("a nonce").to_owned();
        let headers = [("Authorization", format!("Bearer {}", lab.fly.token())), ("fly-machine-lease-nonce", nonce)];
        request(lab.address, method, &format!("/v1{}", path(rest)), &headers, &Value::Null).expect("an answer")
    };
    assert_eq!(with_nonce("POST", "/cordon").status, 200);
    assert_eq!(with_nonce("POST", "/lease").good()["data"]["nonce"], lease["data"]["nonce"]);
    assert_eq!(with_nonce("DELETE", "/lease").status, 200);
    assert_eq!(lab.api("POST", &path("/uncordon"), Value::Null).status, 200);
}

#[test]
fn metadata_changes_without_a_new_version() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", json!({"image": "frps", "metadata": {"a": "1"}}));
    let path = |rest: &str| format!("/apps/a/machines/{id}{rest}");
    let version = || lab.get(&path("")).good()["version"].clone();
    let before = version();
    assert_eq!(lab.api("POST", &path("/metadata/b"), json!({"value": "2"})).status, 204);
    assert_eq!(lab.get(&path("/metadata")).good(), json!({"a": "1", "b": "2"}));
    assert_eq!(lab.api("PATCH", &path("/metadata"), json!({"metadata": {"a": "3"}})).status, 204);
    assert_eq!(lab.api("DELETE", &path("/metadata/b"), Value::Null).status, 204);
    assert_eq!(lab.get(&path("/metadata")).good(), json!({"a": "3"}));
    let stale = json!({"metadata": {}, "machine_version": "01OLD"});
    assert_eq!(lab.api("PUT", &path("/metadata"), stale).status, 412);
    assert_eq!(version(), before);
    let listed = |query: &str| lab.get(&format!("/apps/a/machines?{query}")).good().as_array().expect("a list").len();
    assert_eq!(listed("metadata.a=3&region=ord&state=created,starting,started"), 1);
    assert_eq!(listed("metadata.a=3&metadata.b=2"), 0);
    let row = &lab.get("/orgs/personal/machines").good()["machines"][0];
    assert_eq!((&row["app_name"], &row["config"]["metadata"]), (&json!("a"), &json!({"a": "3"})));
    assert!(row.get("checks").is_none() && row.get("cordoned").is_none() && row.get("host_status").is_none());
}

/// Asks until Fly refuses, and gives the refusal. Asserts that as many requests succeeded as the burst allows, and
/// beyond them no more than `per_second` adds meanwhile.
#[track_caller]
fn until_refused(burst: usize, per_second: f64, ask: impl Fn() -> Answer) -> Answer {
    let start = Instant::now();
    let mut succeeded = 0;
    loop {
        let answer = ask();
        if answer.status == 429 {
            assert!(succeeded >= burst, "refused after {succeeded}");
            return answer;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        succeeded += 1;
        let allowed = burst as f64 + start.elapsed().as_secs_f64() * per_second;
        assert!(succeeded as f64 <= allowed, "{succeeded} succeeded in {:?}", start.elapsed());
    }
}

#[test]
fn requests_are_limited_for_each_machine_and_app() {
    let lab = lab_with_app(Settings { rate_limits: true, ..quick() });
    let (one, two) = (lab.machine("a", "one", small()), lab.machine("a", "two", small()));
    let cordon = |id: &str| lab.api("POST", &format!("/apps/a/machines/{id}/cordon"), Value::Null);
    let refused = until_refused(3, 1.0, || cordon(&one));
    assert_eq!(refused.error(), "resource_exhausted: rate limit exceeded");
    assert_eq!(cordon(&two).status, 200, "another Machine has its own");
    until_refused(10, 5.0, || lab.get(&format!("/apps/a/machines/{one}")));
}

#[test]
fn an_image_that_is_unknown_never_starts() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", json!({"image": "nginx:latest"}));
    lab.wait("a", &id, "destroyed");
    let events = lab.get(&format!("/apps/a/machines/{id}/events")).good();
    let statuses: Vec<&Value> = events.as_array().expect("events").iter().map(|event| &event["status"]).collect();
    assert!(statuses.contains(&&json!("launch_failed")) && !statuses.contains(&&json!("started")), "{statuses:?}");
}

#[test]
fn a_crash_is_followed_by_a_restart_if_the_policy_says_so() {
    let lab = lab_with_app(quick());
    let machine = |policy: &str| {
        let id = lab.machine("a", policy, json!({"image": "frps", "restart": {"policy": policy}}));
        lab.wait("a", &id, "started");
        id
    };
    let (always, no) = (machine("always"), machine("no"));
    assert!(lab.fly.crash(&always) && lab.fly.crash(&no));
    lab.wait("a", &no, "stopped");
    let starts = || {
        let events = lab.get(&format!("/apps/a/machines/{always}/events")).good();
        events.as_array().expect("events").iter().filter(|event| event["type"] == "start").count()
    };
    wait_for(|| (starts() == 2).then_some(()), || "second start".to_owned());
    assert!(!lab.fly.crash("148ed193a95789"));
}

#[test]
fn a_lost_host_hides_the_config() {
    let lab = lab_with_app(quick());
    let id = lab.machine("a", "m", frps(7000, &[]));
    lab.wait("a", &id, "started");
    assert!(lab.fly.host_down(&id));
    let path = format!("/apps/a/machines/{id}");
    let lost = wait_for(
        || Some(lab.get(&path).good()).filter(|machine| machine["host_status"] == "unreachable"),
        || "lost host".to_owned(),
    );
    assert!(lost.get("config").is_none() && lost["incomplete_config"].is_object(), "{lost}");
    assert_eq!(lab.api("POST", &format!("{path}/lease"), Value::Null).status, 412);
    assert!(lab.fly.host_up(&id));
    wait_for(|| (lab.get(&path).good()["host_status"] == "ok").then_some(()), || "host".to_owned());
    assert!(lab.fly.host_down(&id));
    lab.api("DELETE", &format!("{path}?force=true"), Value::Null).good();
    lab.wait("a", &id, "destroyed");
}
