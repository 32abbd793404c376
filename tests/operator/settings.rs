//! A setting that is wrong ends the process with a message and an exit code. After a failure that may pass, the
//! operator tries again.

use std::process::Command;
use std::time::Duration;

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};

use crate::support::client::assert_answers;
use crate::support::conditions::{condition, wait_for_reason};
use crate::support::inventory::{apps, assert_nothing_left};
use crate::support::{DEADLINE, binary, ended, serving, start, wait_until};

/// Files that change are read again within a minute. The rest is for a busy machine.
const A_MINUTE: Duration = Duration::from_secs(60 + 15);

/// Runs the binary with nothing but these variables in its environment. Gives its exit code and its messages.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(binary()).args(arguments).env_clear().envs(environment.iter().copied()).output();
    let output = output.expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_bad_or_missing_value_ends_it_with_2_and_says_what_is_allowed() {
    let token = ("FLY_API_TOKEN", "fo1_secret");
    for (arguments, environment, told) in [
        (&["--fly-region", "ord"][..], &[token][..], "--fly-org"),
        (&["--fly-org", "personal"], &[token], "--fly-region"),
        (&["--fly-org", "personal", "--fly-region", "ord"], &[], "fly tokens create org"),
        (&["--fly-org", "personal", "--fly-region", "ord", "--fly-machine-size", "huge"], &[token], "shared-cpu-1x"),
        (&["--fly-org", "personal", "--fly-region", "ord", "--poll-interval", "soon"], &[token], "--poll-interval"),
        (&["--fly-org", "personal", "--fly-region", "ord", "--kubeconfig", "/nowhere"], &[token], "/nowhere"),
        (&["--fly-org", "personal", "--fly-region", "ord"], &[token, ("HOME", "/nowhere")], "--kubeconfig"),
        (&["--fly-regoin", "ord"], &[token], "--fly-regoin"),
        (&["--fly-api-token", "fo1_x"], &[], "--fly-api-token"),
    ] {
        let (code, said) = run(arguments, environment);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(!said.contains("fo1_secret"), "{said}");
    }
}

#[test]
fn help_and_version_are_told_and_end_it_with_0() {
    let (code, said) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("--fly-org SLUG  [FLY_ORG]") && said.contains("(default: 5s)"), "{said}");
    let (code, said) = run(&["--version"], &[]);
    assert_eq!((code, said.trim()), (Some(0), concat!("fly-tunnel-operator ", env!("CARGO_PKG_VERSION"))));
}

/// A pipe may be closed before all is read, as by `--help | head -1`.
#[test]
fn who_reads_no_further_does_not_break_it() {
    for flag in ["--help", "--version"] {
        let mut command = Command::new(binary());
        command.arg(flag).env_clear();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command.stdout(writer).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{flag}");
    }
}

/// k3s, kubeadm and cert-manager renew such files, one after the other. The operator goes straight to the API server here,
/// because the recorder takes only tokens.
#[test]
fn a_client_certificate_is_read_again_when_its_files_change_and_one_that_does_not_fit_is_passed_over() {
    let lab = Homelab::new();
    let cluster = lab.cluster();
    let file = |name: &str, text: &str| {
        let path = lab.directory().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (certificate, key) = cluster.authority().client(&lab.operator_account().user(), "people");
    let user = serde_json::json!({ "client-certificate": file("user.crt", &certificate), "client-key": file("user.key", &key) });
    let config = lab::cluster::kubeconfig(cluster.api_server(), cluster.authority().certificate_pem(), &user);
    let path = file("certificate.kubeconfig", &config.to_string());
    let operator = lab.operator(binary()).env("KUBECONFIG", &path).start();
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");

    // The second user may do nothing, so it shows whose certificate is used.
    let (certificate, key) = cluster.authority().client("second-user", "people");
    file("user.crt", &certificate);
    wait_until("the pair that does not fit is told", A_MINUTE, || {
        operator.log().contains("the last certificate is still used")
    });
    let shop = lab.service("shop").port(8080).create();
    assert_answers(shop.address(DEADLINE), 8080, "shop");
    file("user.key", &key);
    wait_until("the new pair is used", A_MINUTE, || operator.log().contains("User \"second-user\" cannot list"));
    assert_eq!(count(&operator.log(), "the last certificate is still used"), 1, "{}", operator.log());
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn an_unreachable_cluster_is_tried_again_and_said_once() {
    let lab = Homelab::new();
    lab.faults([Rule::new(Fault::Refuse).to(Target::Kubernetes).times(4)]);
    let operator = lab.operator(binary()).without("CLUSTER_NAME").start();
    lab.wait_requests(DEADLINE, |requests| requests.iter().filter(|r| r.status == Some(200)).count() > 1);
    let log = operator.log();
    assert_eq!(count(&log, "the cluster cannot be asked"), 1, "{log}");
    let tries = lab.requests();
    assert!(tries.len() >= 5, "{tries:?}");
    let times: Vec<_> = tries.iter().take(5).map(|r| humantime(&r.time)).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.last() > pauses.first(), "later each time: {pauses:?}");
}

/// The seconds since midnight of an RFC 3339 time.
fn humantime(time: &str) -> f64 {
    let parts: Vec<f64> = time[11..].trim_end_matches('Z').split(':').filter_map(|part| part.parse().ok()).collect();
    parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]
}

#[test]
fn a_token_that_fly_refuses_is_told_once_and_tried_again() {
    let lab = Homelab::new();
    let operator = lab.operator(binary()).env("FLY_API_TOKEN", "fo1_wrong").start();
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "FlyUnauthorized");
    assert!(message.contains("fly tokens create org"), "{message}");
    let refused = |requests: &[lab::recorder::Request]| requests.iter().filter(|r| r.status == Some(401)).count();
    lab.wait_requests(DEADLINE, |requests| refused(requests) >= 4);
    let log = operator.log();
    assert_eq!(count(&log, "FlyUnauthorized"), 1, "{log}");
    assert!(!log.contains("fo1_wrong"), "{log}");
    operator.kill();
    let _operator = start(&lab);
    assert_answers(web.address(DEADLINE), 8080, "web");
}

/// The App's network proves that the App is ours, so the operator does not give it up because a setting is wrong.
#[test]
fn an_operator_of_another_organisation_leaves_nothing_behind() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    operator.kill();
    let wrong = lab.operator(binary()).env("FLY_ORG", "somebody").start();
    let message = wait_for_reason(&web, "FlyUnauthorized");
    assert!(message.contains("--fly-org"), "{message}");
    assert_answers(ip, 8080, "web");
    web.delete();
    let before = lab.requests().len();
    lab.wait_requests(DEADLINE, |requests| requests[before..].iter().filter(|r| r.to == Target::Fly).count() > 2);
    assert!(!web.object().is_null(), "the finalizer stays");
    wrong.kill();
    let _operator = start(&lab);
    web.wait_gone(DEADLINE);
    assert_nothing_left(&lab);
}

#[test]
fn a_wish_to_wait_for_ever_is_not_granted() {
    let lab = Homelab::new();
    let headers = serde_json::json!({ "retry-after": u64::MAX.to_string() });
    let answer = Answer { status: 429, headers: headers.as_object().cloned().unwrap_or_default(), body: "{}".into() };
    lab.faults([Rule::new(Fault::Answer(answer)).to(Target::Fly)]);
    let mut operator = start(&lab);
    lab.service("one").port(8080).create();
    lab.wait_requests(DEADLINE, |requests| requests.iter().any(|r| r.status == Some(429)));
    assert_answers(lab.service("two").port(8080).create().address(DEADLINE), 8080, "two");
    assert!(operator.exit_status().is_none(), "{}", operator.log());
}

#[test]
fn a_namespace_that_is_missing_is_made() {
    let lab = Homelab::new();
    let namespace = format!("{}-made", lab.operator_namespace());
    let _operator = lab.operator(binary()).env("OPERATOR_NAMESPACE", &namespace).as_admin().start();
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    web.delete();
    web.wait_gone(DEADLINE);
    lab.cluster().kube().delete(&format!("/api/v1/namespaces/{namespace}")).expect("the namespace is deleted");
}

/// The Service tells that the cluster refuses our objects, before anything is billed.
#[test]
fn a_cluster_that_refuses_our_objects_is_told() {
    let lab = Homelab::new();
    let forbidden = Answer { status: 403, headers: Default::default(), body: "{\"message\":\"not for you\"}".into() };
    let secrets = Rule::new(Fault::Answer(forbidden)).to(Target::Kubernetes).method("POST").path("/secrets$");
    lab.faults([secrets.times(u32::MAX)]);
    let operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    let message = wait_for_reason(&web, "Degraded");
    assert!(message.contains("not for you"), "{message}");
    lab.wait_requests(DEADLINE, |requests| requests.iter().filter(|r| r.status == Some(403)).count() > 4);
    assert_eq!(count(&operator.log(), "Degraded"), 1, "{}", operator.log());
    assert!(apps(&lab).is_empty());
    lab.faults([]);
    assert_answers(web.address(DEADLINE), 8080, "web");
}

#[test]
fn a_rotated_token_needs_no_restart() {
    let lab = Homelab::new();
    let file = lab.directory().join("token");
    std::fs::write(&file, "fo1_old\n").expect("a file");
    let path = file.display().to_string();
    let _operator = lab.operator(binary()).without("FLY_API_TOKEN").env("FLY_API_TOKEN_FILE", &path).start();
    let web = lab.service("web").port(8080).create();
    wait_for_reason(&web, "FlyUnauthorized");
    std::fs::write(&file, format!("{}\n", lab.fly().token())).expect("a file");
    assert_answers(web.address(DEADLINE), 8080, "web");
}

/// Fly is not asked meanwhile, so nothing is said of a refusal by Fly.
#[test]
fn a_token_file_that_cannot_be_read_is_told_as_that() {
    let lab = Homelab::new();
    let (file, away) = (lab.directory().join("token"), lab.directory().join("token.away"));
    std::fs::write(&file, lab.fly().token()).expect("a file");
    let path = file.display().to_string();
    let operator = lab.operator(binary()).without("FLY_API_TOKEN").env("FLY_API_TOKEN_FILE", &path).start();
    let (web, ip) = serving(&lab);
    std::fs::rename(&file, &away).expect("it is ours");
    let message = wait_for_reason(&web, "FlyUnavailable");
    assert!(message.contains("the Fly token cannot be read") && message.contains(&path), "{message}");
    assert_eq!(web.address(DEADLINE), ip);
    assert_answers(ip, 8080, "web");
    for never in ["FlyUnauthorized", "does not take the token"] {
        assert!(!operator.log().contains(never), "{}", operator.log());
    }
    std::fs::rename(&away, &file).expect("it is ours");
    wait_for_reason(&web, "Serving");
}

#[test]
fn a_fly_that_is_down_is_tried_again_and_the_address_stays() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, ip) = serving(&lab);
    let down = Answer { status: 503, headers: Default::default(), body: "{\"error\":\"down\"}".into() };
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(u32::MAX)]);
    wait_for_reason(&web, "FlyUnavailable");
    assert_eq!(web.address(Duration::from_secs(1)), ip);
    assert_answers(ip, 8080, "web");
    assert_eq!(count(&operator.log(), "FlyUnavailable"), 1, "{}", operator.log());
    lab.faults([]);
    wait_for_reason(&web, "Serving");
}

#[test]
fn a_bad_moment_of_flys_is_not_worth_a_word() {
    let lab = Homelab::new();
    let operator = start(&lab);
    let (web, _) = serving(&lab);
    let down = Answer { status: 503, headers: Default::default(), body: String::new() };
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(2)]);
    let looked = |requests: &[lab::recorder::Request]| {
        let failed = requests.iter().rposition(|r| r.status == Some(503));
        failed.is_some_and(|failed| requests[failed..].iter().filter(|r| r.to == Target::Fly).count() > 3)
    };
    lab.wait_requests(DEADLINE, looked);
    assert_eq!(count(&operator.log(), "FlyUnavailable"), 0, "{}", operator.log());
    assert_eq!(condition(&web.object()).0, "Serving");
}

/// Fly proves itself by an authority that the system knows. The lab's API server stands for it here: it is asked by HTTPS, and knows no
/// such token.
#[test]
fn fly_proves_itself_by_the_authorities_of_the_system() {
    let lab = Homelab::new();
    let authority = lab.directory().join("authority.crt");
    std::fs::write(&authority, lab.cluster().authority().certificate_pem()).expect("a file");
    let authority = authority.display().to_string();
    let url = format!("https://{}", lab.api_server());
    let web = lab.service("web").port(8080).create();
    let operator = |file: &str| lab.operator(binary()).env("FLY_FLAPS_BASE_URL", &url).env("SSL_CERT_FILE", file);
    {
        let _operator = operator(&authority).start();
        wait_for_reason(&web, "FlyUnauthorized");
    }
    let (code, log) = ended(operator("/nowhere").start());
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("ca-certificates") && log.contains("SSL_CERT_FILE"), "{log}");
}
