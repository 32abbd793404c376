//! README.md and the pages in docs/. Every block of commands in them has a name, and some test runs it under that name:
//! `release::reader` runs those of its story, and other tests get theirs from [`commands`].

mod links;
mod verification;

use crate::support::documents::{Block, PAGES, Page, STORY, blocks, commands};

/// The names of all blocks of commands.
fn names() -> Vec<&'static str> {
    blocks().iter().filter_map(|block| block.info.strip_prefix("sh ")).collect()
}

/// The page without its fenced blocks.
fn outside(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// A block of an unknown kind, or an indented one, could hold commands that no test runs.
#[test]
fn every_block_of_commands_has_a_name() {
    for Block { page, info, text } in blocks() {
        let is_picture = info.is_empty() && text.contains('┌');
        let is_named = info.strip_prefix("sh ").is_some_and(|name| !name.trim().is_empty());
        assert!(is_picture || is_named || info == "console", "{page}: `{info}` {text}");
    }
    for Page { path, text } in PAGES.iter() {
        let hidden = outside(text)
            .lines()
            .find(|l| l.starts_with("    ") || l.contains("```") || l.contains("~~~"))
            .map(str::to_owned);
        assert_eq!(hidden, None, "{path}");
    }
}

/// Each block is run either by the story that a reader follows, or by a test that asks for it by its name.
#[test]
fn every_block_of_commands_is_run() {
    let tests = [
        include_str!("../release/reader.rs"),
        include_str!("../release/uninstall.rs"),
        include_str!("../strangers.rs"),
        include_str!("verification.rs"),
        include_str!("mod.rs"),
    ];
    let mut unused = names();
    unused.retain(|name| {
        let asked = [format!("commands(\"{name}\")"), format!("follow(\"{name}\")")];
        let in_the_story = STORY.contains(name);
        !in_the_story && !tests.iter().any(|test| asked.iter().any(|call| test.contains(call)))
    });
    assert_eq!(unused, [""; 0], "no test runs these");
}

/// CI runs the two commands for developers as they are, without arguments that would leave something out.
#[test]
fn the_scripts_are_run_in_ci() {
    let ci = include_str!("../../../.ci/run");
    let scripts: Vec<&str> = commands("scripts").lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(scripts, ["scripts/demo", "scripts/test"]);
    for script in scripts {
        assert!(ci.lines().any(|line| line.trim() == script), "{script}");
    }
}
