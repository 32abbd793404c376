//! The subjects here stay independent: each can be read, moved or deleted by itself, because it imports no other.

use std::fs;
use std::path::{Path, PathBuf};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operator");

/// A path in a source file that may not stand there, and why.
#[derive(Debug, PartialEq)]
struct Forbidden {
    path: String,
    why: &'static str,
}

/// The names that follow `prefix` in a source: one in `prefix::name`, several in `prefix::{one, two::{three}}`.
fn names<'a>(source: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in source.match_indices(prefix) {
        let joined = source[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
        let rest = &source[at + prefix.len()..];
        if joined || !rest.starts_with("::") {
            continue;
        }
        match rest[2..].strip_prefix('{') {
            None => names.push(first_word(&rest[2..])),
            Some(list) => names.extend(of_list(list)),
        }
    }
    names
}

/// The first word of each entry of a list in braces, of which `list` is all that follows the opening brace.
fn of_list(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut words) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                words.push(first_word(list[begin..at].trim_start()));
                begin = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn first_word(text: &str) -> &str {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or_default()
}

/// The imports of a file that are not allowed. `siblings` are the other files of its folder that have tests.
fn forbidden(source: &str, is_support: bool, siblings: &[String]) -> Vec<Forbidden> {
    let found = |path: String, why| Forbidden { path, why };
    let from_root = names(source, "crate").into_iter().filter(|name| *name != "support");
    let from_root = from_root.map(|name| found(format!("crate::{name}"), "a subject imports crate::support alone"));
    let beside = names(source, "super").into_iter().filter(|name| siblings.iter().any(|sibling| sibling == name));
    let beside = beside.map(|name| found(format!("super::{name}"), "this file has tests of its own"));
    let above = names(source, "super").into_iter().filter(|name| *name == "super" && !is_support);
    let above = above.map(|_| found("super::super".into(), "a folder is a subject, and looks at no other"));
    from_root.chain(beside).chain(above).collect()
}

/// All source files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a source file")
}

fn has_tests(file: &Path) -> bool {
    read(file).lines().any(|line| line == "#[test]")
}

#[test]
fn no_subject_imports_another() {
    let all = sources(Path::new(HERE));
    assert!(all.len() > 40, "{all:#?}");
    for file in all.iter().filter(|file| !file.ends_with("imports.rs")) {
        let folder = file.parent().expect("a folder");
        let beside = all.iter().filter(|other| *other != file && other.parent() == Some(folder) && has_tests(other));
        let siblings: Vec<String> =
            beside.filter_map(|sibling| Some(sibling.file_stem()?.to_str()?.to_owned())).collect();
        let is_support = folder.ends_with("support");
        assert!(!is_support || !has_tests(file), "{}: a test belongs to a subject", file.display());
        assert_eq!(forbidden(&read(file), is_support, &siblings), [], "{}", file.display());
    }
}

/// The root holds nothing but the names of the subjects, so there is nothing in it to import.
#[test]
fn the_root_is_an_index() {
    let root = read(&Path::new(HERE).join("main.rs"));
    let is_index = |line: &str| line.is_empty() || line.starts_with("//!") || line.starts_with("mod ");
    let others: Vec<&str> = root.lines().filter(|line| !is_index(line)).collect();
    assert_eq!(others, [""; 0]);
}

#[test]
fn an_import_of_a_subject_is_found_however_it_is_written() {
    let paths = |source: &str| {
        let siblings = ["install".to_owned()];
        forbidden(source, false, &siblings).into_iter().map(|found| found.path).collect::<Vec<_>>()
    };
    for (source, expected) in [
        ("use crate::support::{DEADLINE, lease::{holder, lease}};\nuse super::Row;", &[][..]),
        ("use crate::drain::ended;", &["crate::drain"]),
        ("use crate::{\n    support::{binary, start},\n    election::candidate,\n};", &["crate::election"]),
        ("    let metrics = crate::metrics::metrics(&operator);", &["crate::metrics"]),
        ("use super::{files::Files, install::installed};", &["super::install"]),
        ("use super::super::drain::ended;", &["super::super"]),
        ("use kube_client_crate::drain; // crate and super", &[]),
    ] {
        assert_eq!(paths(source), expected, "{source}");
    }
}
