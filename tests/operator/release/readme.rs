//! Whoever follows README.md and then the chart's notes, word by word, gets what they promise.
//!
//! All commands run in the order in which they stand, in one shell and a cluster of their own. What a lab cannot have is stood in
//! for: a clone of the repository, Fly's command line, a web server's image, and where Fly's API is.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::homelab::Homelab;
use regex::Regex;
use serde_json::json;

use super::{CHART, quick};
use crate::{assert_nothing_left, binary, wait_until};

const README: &str = include_str!("../../../README.md");
const NAMESPACE: &str = "fly-tunnel-operator-system";

/// Some minutes of waiting, on a slow machine.
const DEADLINE: Duration = Duration::from_secs(400);

/// A fenced block: its language, and its text.
fn blocks(markdown: &str) -> Vec<(&str, &str)> {
    let fenced = markdown.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// The commands of the block that is marked so.
pub fn commands(mark: &str) -> impl Iterator<Item = &'static str> {
    let marked = blocks(README).into_iter().find(|(language, _)| *language == format!("sh {mark}"));
    marked.unwrap_or_else(|| panic!("README.md has no block {mark}")).1.lines()
}

/// A shell with what a reader has at hand.
struct Reader<'a> {
    lab: &'a Homelab,
    directory: PathBuf,
}

impl Reader<'_> {
    /// Runs the script to its end; gives what it printed.
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
        let helm = lab::helm(&self.directory);
        format!(
            r#"
git() {{ [ "$*" = "clone https://github.com/zhming0/fly-tunnel-operator" ] && ln -s '{repository}' fly-tunnel-operator; }}
fly() {{ [ "$*" = "tokens create org --org personal" ] && echo '{token}'; }}
helm() {{
    case $1 in
        install | upgrade) '{helm}' "$@" --values '{values}' ;;
        *) '{helm}' "$@" ;;
    esac
}}"#,
            repository = env!("CARGO_MANIFEST_DIR"),
            token = self.lab.fly().token(),
            helm = helm.get_program().display(),
            values = values.display(),
        )
    }
}

/// Addresses and ages differ each time, and columns are as wide as they have to be.
fn normal(text: &str) -> String {
    let replaced = |text: &str, pattern: &str, by: &str| {
        Regex::new(pattern).expect("a pattern").replace_all(text, by).into_owned()
    };
    let text = replaced(text, r"[0-9]+(\.[0-9]+){3}", "ADDRESS");
    let text = replaced(&text, r":[0-9]{5}/", ":NODE PORT/");
    let text = replaced(&text, r"[0-9]+[smh]([0-9]+s)?", "AGE");
    replaced(text.trim(), " +", " ")
}

#[test]
fn each_command_of_the_readme_and_of_the_notes_works() {
    let cluster = Cluster::start(ClusterOptions { operator: Some(binary().into()), ..ClusterOptions::default() });
    let lab = Homelab::builder().cluster(&cluster).start();
    let directory = lab.directory().join("reader");
    std::fs::create_dir(&directory).expect("a folder");
    let reader = Reader { lab: &lab, directory };

    let all = blocks(README);
    let (shown, run): (Vec<_>, Vec<_>) = all.into_iter().partition(|(language, _)| *language == "console");
    let run: Vec<&str> = run.into_iter().filter(|(language, _)| *language == "sh").map(|(_, text)| text).collect();
    let there = run.iter().position(|block| block.contains("kubectl wait")).expect("the address is waited for");
    let [(_, shown)] = shown[..] else { panic!("one block shows what is seen: {shown:#?}") };
    let (command, seen) = shown.split_once('\n').expect("a command and what it prints");
    let command = command.strip_prefix("$ ").expect("a prompt");

    let mut script = run[..=there].join("\n");
    script += &format!("\necho 'what is seen:'; {command}; echo 'was seen'\n{}", run[there + 1..].join("\n"));
    let printed = reader.run(&script);
    let really = printed.split_once("\nwhat is seen:\n").and_then(|(_, rest)| rest.split_once("\nwas seen\n"));
    let really: Vec<&str> = really.expect("it was run").0.lines().filter(|line| !line.starts_with('+')).collect();
    assert_eq!(normal(&really.join("\n")), normal(seen));
    assert!(printed.contains("is down; no operator that runs now makes them again"), "--drain by hand: {printed}");
    assert!(printed.contains("This was a dry run"), "{printed}");
    assert_nothing_left(&lab);

    // The notes tell the same story, to whoever has installed it; the README's last word was to take all down.
    let install = run[0].split_once("helm install").expect("it is installed").1;
    let begin = format!(
        "kubectl delete service/hello deployment/hello networkpolicy/hello-from-its-tunnel\ncd fly-tunnel-operator\n\
                         export FLY_API_TOKEN=\"$(fly tokens create org --org personal)\"\nhelm install{install}\n"
    );
    reader.run(&begin);
    let notes = reader.run(&format!("helm get notes fly-tunnel-operator --namespace {NAMESPACE} 2>/dev/null"));
    let commands: Vec<&str> = notes.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() > 15, "{notes}");
    reader.run(&commands.join("\n").replace(" CHART ", &format!(" {CHART} ")));
    reader.run(&format!("helm uninstall fly-tunnel-operator --namespace {NAMESPACE}"));
    assert_nothing_left(&lab);
}

/// Those of the story above, and those that are marked for one of their own.
#[test]
fn every_block_of_commands_is_run() {
    let marks: Vec<&str> = blocks(README).iter().filter_map(|(language, _)| language.strip_prefix("sh ")).collect();
    assert_eq!(
        marks,
        ["failed-drain", "bring-back", "start-again", "no-hooks", "finalizer"],
        "release::uninstall follows them"
    );
}

/// What developers run is run in CI, whole.
#[test]
fn the_scripts_that_the_readme_names_are_run_in_ci() {
    let ci = include_str!("../../../.ci/run");
    let scripts = README.lines().filter(|line| line.starts_with("scripts/"));
    let names: Vec<&str> = scripts.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["scripts/demo", "scripts/test"]);
    for name in names {
        assert!(ci.lines().any(|line| line.trim() == name), "{name}");
    }
}
