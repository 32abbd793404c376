//! No secret is in the log, at any level, in either format, whatever goes wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};
use serde_json::{Value, json};

use crate::support::conditions::wait_for_reason;
use crate::support::{DEADLINE, LONG_DEADLINE, binary, serving, side_by_side, wait_until};

const REFUSED_TOKEN: &str = "fo1_a-token-that-Fly-does-not-take";

/// A kubeconfig whose user gets the token of the operator's account from a program.
fn exec_kubeconfig(lab: &Homelab) -> String {
    let write = |name: &str, text: &str| {
        let path = lab.directory().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let version = "client.authentication.k8s.io/v1";
    let status = json!({ "token": lab.operator_account().token() });
    let credential = json!({ "apiVersion": version, "kind": "ExecCredential", "status": status });
    let file = write("credential", &credential.to_string());
    let login = json!({ "apiVersion": version, "command": "/bin/cat", "args": [file], "interactiveMode": "Never" });
    let certificate = lab.cluster().authority().certificate_pem();
    let config = lab::cluster::kubeconfig(lab.api_server(), certificate, &json!({ "exec": login }));
    write("exec.kubeconfig", &config.to_string())
}

/// The whole life of a tunnel at the most talkative level of the log: a token that is refused, a creation with a lost
/// reply, a change, a Fly that fails, a deletion. Gives the log and all secrets that there were.
fn story(lab: &Homelab, format: &str, kubeconfig: &str) -> (String, Vec<String>) {
    let file = lab.directory().join("token");
    std::fs::write(&file, REFUSED_TOKEN).expect("a file");
    let operator = lab
        .operator(binary())
        .without("FLY_API_TOKEN")
        .env("FLY_API_TOKEN_FILE", &file.display().to_string())
        .env("KUBECONFIG", kubeconfig)
        // These targets would log the bytes on the wire, and must not do so even if somebody asks for them.
        .env("RUST_LOG", "trace,ureq_proto=trace,ureq_proto::util=trace")
        .env("LOG_FORMAT", format)
        .start();
    let early = lab.service("early").port(8080).create();
    wait_for_reason(&early, "FlyUnauthorized");
    lab.faults([Rule::new(Fault::LoseReply).to(Target::Fly).method("POST").path("/machines$")]);
    std::fs::write(&file, lab.fly().token()).expect("a file");
    early.address(DEADLINE);
    let (web, _) = serving(lab);
    web.set_ports(&[8080, 9090]);
    wait_for_reason(&web, "Updating");
    wait_for_reason(&web, "Serving");
    let secrets = format!("/api/v1/namespaces/{}/secrets", lab.operator_namespace());
    let secrets = lab.cluster().kube().list(&secrets).expect("a list");
    let down = Answer { status: 503, headers: Default::default(), body: "{\"error\":\"down\"}".into() };
    lab.faults([Rule::new(Fault::Answer(down)).to(Target::Fly).times(u32::MAX)]);
    wait_for_reason(&web, "FlyUnavailable");
    lab.faults([]);
    web.delete();
    web.wait_gone(LONG_DEADLINE);
    wait_until("the whole story", DEADLINE, || operator.log().contains("remove the finalizer"));

    let mut hidden: Vec<String> =
        secrets.iter().flat_map(|secret| ["frps.key", "frpc.key", "token"].map(|n| plain(secret, n))).collect();
    let tokens = [REFUSED_TOKEN, lab.fly().token(), lab.operator_account().token(), lab.cluster().admin_token()];
    hidden.extend(tokens.map(str::to_owned));
    (operator.log(), hidden)
}

/// An entry of a Secret, decoded.
fn plain(secret: &Value, name: &str) -> String {
    let bytes = STANDARD.decode(secret["data"][name].as_str().expect("base64")).expect("base64");
    String::from_utf8(bytes).expect("text")
}

/// The length of the shortest piece of a secret that could be of use to a thief.
const PIECE: usize = 16;

/// Asserts that the log does not hold the secret in any form in which a program may print it: as it is, as base64 of
/// itself or of a text that it is part of, and each of these as a list of bytes.
#[track_caller]
fn assert_hidden(log: &str, secret: &str) {
    // A PEM file is looked for line by line, without the two lines that mark its begin and end.
    for line in secret.lines().filter(|line| line.len() >= PIECE && !line.starts_with("-----")) {
        let as_base64 = |skip: usize| {
            let whole = (line.len() - skip) / 3 * 3;
            STANDARD.encode(&line[skip..skip + whole])
        };
        for form in [line.to_owned(), as_base64(0), as_base64(1), as_base64(2)] {
            assert!(!log.contains(&form), "{line} is in the log as {form}");
            let list = form.as_bytes()[..PIECE].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            assert!(!log.contains(&list), "{line} is in the log as {list}");
        }
    }
}

/// Asserts that the log has no dump of bytes. HTTP libraries dump their traffic as groups of hex digits, beside letters
/// that are cut in pieces.
#[track_caller]
fn assert_no_dump(log: &str) {
    for digits in [2, 4, 8] {
        let is_hex = |word: &&str| word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let dump = log.lines().find(|line| line.split_whitespace().filter(is_hex).count() >= 6);
        assert_eq!(dump, None, "the log holds a dump");
    }
}

#[test]
fn no_secret_is_in_the_log() {
    side_by_side(2, ["text", "json"], |format| {
        let lab = Homelab::new();
        let kubeconfig = match format {
            "text" => lab.operator_kubeconfig().display().to_string(),
            _ => exec_kubeconfig(&lab),
        };
        let (log, secrets) = story(&lab, format, &kubeconfig);
        assert!(log.contains("DEBUG") || log.contains("\"debug\""), "the log is at its most talkative");
        assert_eq!(secrets.len(), 2 * 3 + 4, "two tunnels and four tokens");
        secrets.iter().for_each(|secret| assert_hidden(&log, secret));
        assert_no_dump(&log);
        assert!(format == "text" || log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "all is JSON");
    });
}
