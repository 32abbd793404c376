//! Kubeconfigs of all kinds, read by the real kubectl and by kube-client-lite: the API server takes both for the same
//! user, or lets neither in. A row says by name if we refuse by design something that kubectl takes.
//!
//! The rows are in `identities.rs`, `plugins.rs`, `servers.rs`, `merged.rs` and `spellings.rs`, the files that they
//! refer to in `files.rs`, other ways to the API server in `relay.rs`.

mod files;
mod identities;
mod merged;
mod plugins;
mod relay;
mod servers;
mod spellings;

use std::path::Path;
use std::process::{Command, Stdio};

use kube_client_lite::{Client, ClientOptions, Config, Sources};
use lab::cluster::Cluster;
use serde_json::{Value, json};

use files::Files;

use crate::support::side_by_side;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// The outcome that a kubeconfig is to have for kubectl and for us.
enum Verdict {
    /// Both get in as this user.
    Both(&'static str),
    /// Neither gets in, and our message contains this text.
    Neither(&'static str),
    /// kubectl gets in as this user. We refuse by design, and our message contains this text.
    KubectlOnly(&'static str, &'static str),
}

/// One kubeconfig, which may be several files.
struct Row {
    name: &'static str,
    /// The texts of the files of `KUBECONFIG`, which are all written to one folder.
    texts: Vec<String>,
    context: Option<&'static str>,
    verdict: Verdict,
}

impl Row {
    fn new(name: &'static str, text: impl ToString, verdict: Verdict) -> Row {
        Row { name, texts: vec![text.to_string()], context: None, verdict }
    }

    fn of_files(name: &'static str, texts: &[&dyn ToString], verdict: Verdict) -> Row {
        Row { name, texts: texts.iter().map(|text| text.to_string()).collect(), context: None, verdict }
    }

    fn with_context(self, context: &'static str) -> Row {
        Row { context: Some(context), ..self }
    }
}

/// The user as whom kubectl gets in, or its complaint.
fn kubectl(cluster: &Cluster, home: &Path, kubeconfig: &str, context: Option<&str>) -> Result<Value, String> {
    let mut command = Command::new(cluster.bin().join("kubectl"));
    command.args(["auth", "whoami", "-o", "json", "--request-timeout=60s"]);
    command.args(context.iter().flat_map(|context| ["--context", context]));
    let environment = [("KUBECONFIG", kubeconfig), ("PATH", "/usr/bin:/bin")];
    let home = ("HOME", home.to_str().expect("a path in UTF-8"));
    let command = command.env_clear().envs(environment.into_iter().chain([home])).stdin(Stdio::null());
    let output = command.output().expect("kubectl runs");
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The user as whom we get in, or our complaint.
fn ours(kubeconfig: &str, context: Option<&str>) -> Result<Value, String> {
    let sources = Sources { kubeconfig: Some(kubeconfig), context, ..Sources::default() };
    let config = Config::load(&sources).map_err(|error| error.to_string())?;
    let client = Client::new(config, &ClientOptions::new("test/1")).map_err(|error| error.to_string())?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    client.create(REVIEWS, &review).map_err(|error| error.to_string())
}

/// Tells where the two outcomes differ from the verdict, if they do.
fn judge(verdict: &Verdict, kubectl: Result<Value, String>, ours: Result<Value, String>) -> Option<String> {
    let user = |review: &Value| review["status"]["userInfo"].clone();
    let is = |review: &Value, name: &str| user(review)["username"] == name;
    match (verdict, kubectl, ours) {
        (Verdict::Both(name), Ok(theirs), Ok(ours)) if is(&theirs, name) && user(&theirs) == user(&ours) => None,
        (Verdict::Neither(told), Err(_), Err(ours)) if ours.contains(told) => None,
        (Verdict::KubectlOnly(name, told), Ok(theirs), Err(ours)) if is(&theirs, name) && ours.contains(told) => None,
        (_, kubectl, ours) => {
            Some(format!("kubectl: {:?}\n  ours: {:?}", kubectl.map(|r| user(&r)), ours.map(|r| user(&r))))
        }
    }
}

#[test]
fn we_are_who_kubectl_is() {
    let cluster = Cluster::shared();
    let files = Files::new(cluster);
    let rows = [
        identities::rows(&files),
        plugins::rows(&files),
        servers::rows(&files),
        merged::rows(&files),
        spellings::rows(&files),
    ];
    let rows: Vec<(usize, Row)> = rows.into_iter().flatten().enumerate().collect();
    let wrong = std::sync::Mutex::new(Vec::new());
    side_by_side(4, rows, |(number, row)| {
        let paths: Vec<_> = (row.texts.iter().enumerate())
            .map(|(index, text)| match text.as_str() {
                MISSING => "/nowhere/config".to_owned(),
                text => files.write(&format!("{number}-{index}.config"), text),
            })
            .collect();
        let list = paths.join(":");
        let theirs = kubectl(cluster, files.directory(), &list, row.context);
        if let Some(difference) = judge(&row.verdict, theirs, ours(&list, row.context)) {
            wrong.lock().expect("no panic").push(format!("{}:\n  {difference}", row.name));
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(files.proxy().carried(), 4, "both used the proxy in two rows");
}

/// Stands in place of a text for a file that is not there.
const MISSING: &str = "(missing)";

/// A plugin reads the variable `KUBERNETES_EXEC_INFO`. The test looks at it with the cluster in it and without.
#[test]
fn a_plugin_is_told_what_kubectl_tells() {
    let cluster = Cluster::shared();
    let files = Files::new(cluster);
    let script = "printf '%s\\n' \"$KUBERNETES_EXEC_INFO\" >> \"$1\"; cat \"$2\"";
    for (number, version) in ["v1", "v1beta1"].into_iter().enumerate() {
        let version = format!("client.authentication.k8s.io/{version}");
        let login = files::exec_credential(&version, json!({"token": cluster.admin_token()}));
        let printed = files.write(&format!("{number}.printed"), login.to_string());
        let extension = json!({"audience": "a", "numbers": [1, 2.5, true]});
        for (name, settings, provide) in [
            ("nothing", json!({}), false),
            ("plain", json!({}), true),
            ("named", json!({"tls-server-name": "kubernetes", "disable-compression": true}), true),
            ("proxied", json!({"proxy-url": format!("http://{}", files.proxy().address())}), true),
            ("any", json!({"certificate-authority": null, "insecure-skip-tls-verify": true}), true),
            (
                "extended",
                json!({"extensions": [{"name": "client.authentication.k8s.io/exec", "extension": extension}]}),
                true,
            ),
        ] {
            let told = files.write(&format!("{number}-{name}.told"), "");
            let exec = json!({
                "apiVersion": version, "interactiveMode": "IfAvailable", "provideClusterInfo": provide,
                "command": "sh", "args": ["-c", script, "sh", told, printed],
            });
            let text = files::kubeconfig(&files.cluster_with(settings), &json!({ "exec": exec })).to_string();
            let path = files.write(&format!("{number}-{name}.config"), text);
            kubectl(cluster, files.directory(), &path, None).expect("kubectl gets in");
            ours(&path, None).expect("we get in");
            let told = std::fs::read_to_string(&told).expect("a file of ours");
            let lines = told.lines().filter(|line| !line.is_empty());
            let told: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert!(told.len() >= 2, "both ran it: {told:?}");
            assert!(told.iter().all(|info| info == &told[0]), "{name}: {told:#?}");
            assert_eq!(told[0]["spec"]["cluster"].is_object(), provide, "{name}");
        }
    }
}
