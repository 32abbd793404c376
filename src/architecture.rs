//! Rules for the sources, as tests that read them: which way arrows between modules run, what pure modules may use, how long
//! a file is, and how comments begin.
//!
//! These tests read lines, not Rust's grammar. They rely on two habits: a `use` line names one path below `crate`, which they
//! assert, and the tests of a file are a module at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The longest file, without its tests.
const LONGEST_FILE: usize = 400;

/// Modules that compute and do nothing else.
const PURE: &[&str] = &["service", "tunnel", "render"];

/// Libraries for structs that go over the wire or into a file. Every pure module may use them.
const FORMATS: &[&str] = &["serde", "serde_json", "toml"];

/// Other things that pure modules use: pure functions and plain types, each for the reason beside it.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/tunnel/hash.rs", "ring"),                // SHA-256
    ("src/render/objects/mod.rs", "base64"),       // Kubernetes has the values of a Secret in base64
    ("src/render/objects/read.rs", "base64"),      // the same, read back
    ("src/render/machine/mod.rs", "base64"),       // Fly has the files of a Machine in base64
    ("src/render/machine/mod.rs", "humantime"),    // the metadata of a Machine has a time, in RFC 3339
    ("src/tunnel/ready.rs", "humantime"),          // a condition has times, in RFC 3339
    ("src/service/mod.rs", "kube_client_lite"),    // the metadata that every object of Kubernetes carries
    ("src/service/annotations.rs", "crate::text"), // a bad value is cut before it goes into a message
];

/// A file of Rust.
struct Source {
    /// The path in the repository.
    path: String,
    text: String,
}

impl Source {
    /// The files of the product and of the Kubernetes client.
    fn all() -> Vec<Source> {
        let mut sources = Vec::new();
        for folder in ["src", "crates/kube-client-lite/src"] {
            read(folder, &mut sources);
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(sources.len() > 50, "the sources are found");
        sources
    }

    /// The first folder or file below `src/` that this file is in. `None`: the file is another package's, or the root,
    /// which names every module.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/").filter(|inside| *inside != "main.rs")?;
        inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
    }

    /// The file is compiled for tests only.
    fn is_test(&self) -> bool {
        let test = ["tests.rs", "/tests/", "src/examples.rs", "src/architecture.rs", "src/model/", "/simulation/"];
        test.iter().any(|part| self.path.contains(part))
    }

    /// The lines before the module of tests at the end.
    fn without_tests(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        let end = lines.windows(2).position(begins).unwrap_or(lines.len());
        lines[..end].to_vec()
    }

    /// The code that is compiled outside of tests too, without comments. An item behind `#[cfg(test)]` is left out, to the
    /// end of its braces.
    fn code(&self) -> Vec<&str> {
        let mut code = Vec::new();
        let mut lines = self.without_tests().into_iter().map(str::trim).filter(|line| !line.starts_with("//"));
        while let Some(line) = lines.next() {
            if line == "#[cfg(test)]" {
                let mut open = 0;
                for line in lines.by_ref() {
                    open += line.matches('{').count();
                    open -= line.matches('}').count().min(open);
                    if open == 0 && line.ends_with([';', '}', ',']) {
                        break;
                    }
                }
            } else {
                code.push(line.split(" // ").next().unwrap_or_default());
            }
        }
        code
    }

    /// All paths in that code (`crate::service::port`, `humantime::parse_rfc3339`), from their root.
    fn paths(&self) -> BTreeSet<String> {
        let depth = self.path.split('/').count() - 2 + usize::from(!self.path.ends_with("/mod.rs"));
        let from_root = |path: &str| {
            let inner = path.trim_start_matches("super::");
            let climbed = (path.len() - inner.len()) / "super::".len();
            if climbed == depth { format!("crate::{inner}") } else { path.to_owned() }
        };
        let part_of_a_path = |c: char| c.is_ascii_alphanumeric() || "_:{*".contains(c);
        let code = self.code();
        let words = code.iter().flat_map(|line| line.split(|c| !part_of_a_path(c)));
        let paths = words.map(|word| word.trim_start_matches([':', '{', '*'])).filter(|word| word.contains("::"));
        paths.map(from_root).collect()
    }

    /// The other modules of the product that this file uses.
    fn uses(&self) -> BTreeSet<String> {
        let paths = self.paths();
        assert!(!paths.contains("crate::{"), "{}: name one path in a `use` line", self.path);
        let modules = paths.iter().filter_map(|path| path.strip_prefix("crate::")?.split("::").next());
        modules.filter(|module| Some(*module) != self.module()).map(str::to_owned).collect()
    }
}

fn read(folder: &str, sources: &mut Vec<Source>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join(folder)).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            read(&path, sources);
        } else if path.ends_with(".rs") {
            sources.push(Source { text: fs::read_to_string(entry.path()).expect("UTF-8"), path });
        }
    }
}

/// The modules that each module uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn graph(sources: &[Source]) -> Graph {
    let mut graph = Graph::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        if let Some(module) = source.module() {
            graph.entry(module.to_owned()).or_default().extend(source.uses());
        }
    }
    graph
}

/// The part of a graph that lies on cycles or between them. A module is taken off when it uses none of those that are left,
/// or none of them uses it.
fn cycles(mut graph: Graph) -> Graph {
    loop {
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        let modules: BTreeSet<String> = graph.keys().cloned().collect();
        graph.values_mut().for_each(|uses| uses.retain(|module| modules.contains(module)));
        graph.retain(|module, uses| used.contains(module) && !uses.is_empty());
        if graph.len() == modules.len() {
            return graph;
        }
    }
}

fn drawn(graph: &Graph) -> String {
    let arrows = graph.iter().map(|(module, uses)| {
        let uses: Vec<&str> = uses.iter().map(String::as_str).collect();
        format!("  {module} -> {}\n", uses.join(", "))
    });
    arrows.collect()
}

#[test]
fn arrows_between_modules_run_one_way() {
    let graph = graph(&Source::all());
    let whole = drawn(&graph);
    let cycles = cycles(graph);
    assert!(cycles.is_empty(), "these arrows run in a circle:\n{}\nall arrows:\n{whole}", drawn(&cycles));
}

#[test]
fn pure_modules_use_std_serde_and_one_another_only() {
    let manifest = include_str!("../Cargo.toml");
    let (_, rest) = manifest.split_once("[dependencies]\n").expect("a table");
    let table = rest.split("\n[").next().unwrap_or_default();
    let keys = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(" = ").next());
    let libraries: BTreeSet<String> = keys.map(|key| key.replace('-', "_")).collect();
    assert!(libraries.contains("humantime") && libraries.contains("kube_client_lite"), "{libraries:?}");

    let mut found = BTreeSet::new();
    for source in Source::all() {
        if source.is_test() || !source.module().is_some_and(|module| PURE.contains(&module)) {
            continue;
        }
        let modules = source.uses().into_iter().filter(|module| !PURE.contains(&module.as_str()));
        found.extend(modules.map(|module| (source.path.clone(), format!("crate::{module}"))));
        let roots = source.paths().into_iter().filter_map(|path| path.split("::").next().map(str::to_owned));
        let roots = roots.filter(|root| libraries.contains(root) && !FORMATS.contains(&root.as_str()));
        found.extend(roots.map(|root| (source.path.clone(), root)));
    }
    let expected = EXCEPTIONS.iter().map(|(path, used)| (path.to_string(), used.to_string())).collect();
    assert_eq!(found, expected, "left: found, right: allowed");
}

#[test]
fn no_file_is_long_without_its_tests() {
    for source in Source::all().iter().filter(|source| !source.is_test()) {
        let lines = source.without_tests().len();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", source.path);
    }
}

/// Asserts that no file has such a line.
fn assert_none(what: &str, is_one: impl Fn(&str) -> bool) {
    let mut wrong = String::new();
    for source in Source::all() {
        for (at, line) in source.text.lines().enumerate().filter(|(_, line)| is_one(line.trim())) {
            wrong.push_str(&format!("    {}:{}: {}\n", source.path, at + 1, line.trim()));
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{wrong}");
}

#[test]
fn no_comment_begins_without_a_subject() {
    assert_none("say who or what it is that does something", is_headless);
}

/// Whether a line is a comment that begins with a relative clause, as in "What it is made from". A question is none.
fn is_headless(line: &str) -> bool {
    let Some(comment) = line.strip_prefix("//") else { return false };
    let text = comment.trim_start_matches(['/', '!']).trim_start();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).take(2).collect();
    let is_question = text.split_inclusive(['.', '?', ':']).next().is_some_and(|sentence| sentence.ends_with('?'));
    matches!(words[..], ["What" | "Who" | "Whose" | "Of", ..] | ["Where", "not"]) && !is_question
}

#[test]
fn a_bool_is_asked_by_if() {
    assert_none("write if and else", |line| ["true =>", "false =>"].iter().any(|arm| line.starts_with(arm)));
}

/// The readers above find what they are to find.
#[test]
fn the_rules_are_read_off_the_lines() {
    let text = "\
//! See [`crate::world`].
use crate::service::port; // not crate::act
use super::super::text::shortened;
#[cfg(test)]
use crate::examples;

#[cfg(test)]
pub fn g() -> crate::run::Exit {
    if true { crate::run::one() }
    crate::run::two()
}

fn f() -> crate::tunnel::Id {
    super::hash(humantime::parse(\"x\"))
}

#[cfg(test)]
mod tests {
    use crate::events::Events;
}
";
    let source = Source { path: "src/fly/token.rs".into(), text: text.into() };
    assert_eq!(source.module(), Some("fly"));
    assert_eq!(source.uses().into_iter().collect::<Vec<_>>(), ["service", "text", "tunnel"]);
    assert!(source.paths().contains("humantime::parse") && source.paths().contains("super::hash"));
    assert_eq!(source.without_tests().len(), 16);

    let graph = |arrows: &[(&str, &[&str])]| -> Graph {
        let owned = |uses: &[&str]| uses.iter().map(|module| module.to_string()).collect();
        arrows.iter().map(|(module, uses)| (module.to_string(), owned(uses))).collect()
    };
    let house = graph(&[("a", &["b", "c"]), ("b", &["c", "d"]), ("c", &["d"]), ("d", &[])]);
    assert_eq!(cycles(house), Graph::new());
    let circle = graph(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &["b"]), ("d", &[])]);
    assert_eq!(drawn(&cycles(circle)), "  b -> c\n  c -> b\n");

    for line in ["/// What it is.", "//! Whose it is: ours", "// Of a lane.", "/// Where not, it ends", "// Who"] {
        assert!(is_headless(line), "{line}");
    }
    for line in ["/// Whoever reads it.", "/// Where it is.", "/// What is it? A lane.", "let what = 1; // What it is"]
    {
        assert!(!is_headless(line), "{line}");
    }
}
