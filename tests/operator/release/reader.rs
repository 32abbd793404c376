//! A reader follows README.md and the pages in docs/ from the install to the uninstall, and then the chart's notes, word by
//! word, and gets what they promise.
//!
//! All commands run in the order of [`STORY`], in one shell and a cluster of their own. There is no Internet, so a few
//! things are replaced: the chart in the registry by that of this repository, packaged as the release workflow does it;
//! the clone by this repository; Fly's command line by a shell function; the image of a web server by one of the lab;
//! and Fly by the lab's.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::homelab::Homelab;
use regex::Regex;
use serde_json::json;

use crate::support::documents::{PUBLISHED_CHART, STORY, blocks, commands};
use crate::support::inventory::assert_nothing_left;
use crate::support::release::{CHART, quick};
use crate::support::{binary, wait_until};

const NAMESPACE: &str = "fly-tunnel-operator-system";

/// Enough for some minutes of waiting, on a slow machine.
const DEADLINE: Duration = Duration::from_secs(400);

/// A shell with the tools that a reader has at hand.
struct Reader<'a> {
    lab: &'a Homelab,
    directory: PathBuf,
}

impl Reader<'_> {
    /// Runs the script to its end. Gives its output.
    fn run(&self, script: &str) -> String {
        let script = script.replace("nginxinc/nginx-unprivileged", "echo");
        let log = self.directory.join("log");
        let output = std::fs::File::create(&log).expect("the lab's directory can be written");
        let errors = output.try_clone().expect("a file");
        let printed = || std::fs::read_to_string(&log).expect("a log");
        let mut shell = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{}\nset -x\n{script}", self.stand_ins())])
            .current_dir(&self.directory)
            .env("PATH", format!("{}:{}", self.lab.cluster().bin().display(), std::env::var("PATH").expect("a PATH")))
            .env("HOME", &self.directory)
            .env("KUBECONFIG", self.lab.cluster().kubeconfig())
            .envs(quick(self.lab))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("bash starts");
        let mut status = None;
        wait_until("the shell ends", DEADLINE, || {
            status = shell.try_wait().expect("its status");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{}", printed());
        printed()
    }

    fn stand_ins(&self) -> String {
        let environment = quick(self.lab).map(|(name, value)| json!({ "name": name, "value": value }));
        let values = self.directory.join("values.json");
        std::fs::write(&values, json!({ "extraEnv": environment }).to_string()).expect("a file");
        let mut helm = lab::helm(&self.directory);
        let packaged =
            helm.args(["package", CHART, "--destination"]).arg(&self.directory).output().expect("helm starts");
        assert!(packaged.status.success(), "{}", String::from_utf8_lossy(&packaged.stderr));
        format!(
            r#"
git() {{ [ "$*" = "clone https://github.com/zhming0/fly-tunnel-operator" ] && ln -s '{repository}' fly-tunnel-operator; }}
fly() {{ [ "$*" = "tokens create org --org personal" ] && echo '{token}'; }}
published='{PUBLISHED_CHART}'
packaged='{packaged}'
helm() {{
    case $1 in
        install | upgrade) '{helm}' "${{@/#$published/$packaged}}" --values '{values}' ;;
        *) '{helm}' "$@" ;;
    esac
}}"#,
            repository = env!("CARGO_MANIFEST_DIR"),
            token = self.lab.fly().token(),
            helm = helm.get_program().display(),
            packaged = self.directory.join(format!("fly-tunnel-operator-{}.tgz", env!("CARGO_PKG_VERSION"))).display(),
            values = values.display(),
        )
    }
}

/// The text without the differences of each run: addresses, ages, and the widths of columns, which follow their
/// contents.
fn normal(text: &str) -> String {
    let replaced = |text: &str, pattern: &str, by: &str| {
        Regex::new(pattern).expect("a pattern").replace_all(text, by).into_owned()
    };
    let text = replaced(text, r"[0-9]+(\.[0-9]+){3}", "ADDRESS");
    let text = replaced(&text, r":[0-9]{5}/", ":NODE PORT/");
    let text = replaced(&text, r"[0-9]+[smh]([0-9]+s)?", "AGE");
    replaced(text.trim(), " +", " ")
}

/// The one command whose output the README shows, and that output.
fn console() -> (&'static str, &'static str) {
    let shown: Vec<&str> =
        blocks().into_iter().filter(|block| block.info == "console").map(|block| block.text).collect();
    let [shown] = shown[..] else { panic!("one block shows what is seen: {shown:#?}") };
    let (command, seen) = shown.split_once('\n').expect("a command and what it prints");
    (command.strip_prefix("$ ").expect("a prompt"), seen)
}

#[test]
fn each_command_of_the_pages_and_of_the_notes_works() {
    let cluster = Cluster::start(ClusterOptions { operator: Some(binary().into()), ..ClusterOptions::default() });
    let lab = Homelab::builder().cluster(&cluster).start();
    let directory = lab.directory().join("reader");
    std::fs::create_dir(&directory).expect("a folder");
    let reader = Reader { lab: &lab, directory };

    let (command, seen) = console();
    let look = format!("echo 'what is seen:'; {command}; echo 'was seen'\n");
    let script =
        STORY.map(|name| if name == "try" { format!("{}\n{look}", commands(name)) } else { commands(name).into() });
    let printed = reader.run(&script.join("\n"));
    let really = printed.split_once("\nwhat is seen:\n").and_then(|(_, rest)| rest.split_once("\nwas seen\n"));
    let really: Vec<&str> = really.expect("it was run").0.lines().filter(|line| !line.starts_with('+')).collect();
    assert_eq!(normal(&really.join("\n")), normal(seen));
    assert!(printed.contains("This was a dry run"), "{printed}");
    // The Services were deleted before.
    assert!(printed.contains("there was no tunnel of the class"), "--drain by hand: {printed}");
    assert_nothing_left(&lab);

    // The chart's notes tell the same story. This time the chart is installed from a clone.
    let token = commands("install").lines().next().expect("the token is exported first");
    let again = "kubectl delete service/hello deployment/hello networkpolicy/hello-from-its-tunnel";
    reader.run(&[again, token, commands("clone")].join("\n"));
    let notes = reader.run(&format!("helm get notes fly-tunnel-operator --namespace {NAMESPACE} 2>/dev/null"));
    let lines: Vec<&str> = notes.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(lines.len() > 15, "{notes}");
    reader.run(&lines.join("\n").replace(" CHART ", &format!(" {CHART} ")));
    reader.run(&format!("helm uninstall fly-tunnel-operator --namespace {NAMESPACE}"));
    assert_nothing_left(&lab);
}
