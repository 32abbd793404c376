//! README.md and the pages in docs/, and their fenced blocks, which readers follow.

use std::path::Path;
use std::sync::LazyLock;

/// The folder of the repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A text in Markdown.
pub struct Page {
    /// The path of the page from the repository's root.
    pub path: String,
    pub text: String,
}

/// A fenced block of a page.
#[derive(Debug)]
pub struct Block {
    pub page: &'static str,
    /// The words behind the fence: `sh` and a name for commands, `console` for the screen of a terminal, nothing for a
    /// picture.
    pub info: &'static str,
    pub text: &'static str,
}

/// README.md, then the pages in docs/.
pub static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let mut paths = markdown_in("docs");
    paths.insert(0, "README.md".into());
    paths.into_iter().map(Page::read).collect()
});

impl Page {
    /// Reads a page, by its path from the repository's root.
    pub fn read(path: String) -> Page {
        let text =
            std::fs::read_to_string(Path::new(ROOT).join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Page { path, text }
    }
}

/// The pages in a folder, in order.
pub fn markdown_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut paths: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")).collect();
    paths.sort();
    paths
}

/// All blocks of all pages, in order.
pub fn blocks() -> Vec<Block> {
    let of_page = |page: &'static Page| {
        let parts: Vec<&str> = page.text.split("\n```").collect();
        assert!(parts.len() % 2 == 1, "{}: a block is not closed", page.path);
        let fenced = parts.into_iter().skip(1).step_by(2);
        fenced.map(|block| {
            let (info, text) = block.split_once('\n').expect("a block has lines");
            Block { page: &page.path, info, text }
        })
    };
    PAGES.iter().flat_map(of_page).collect()
}

/// The text of the block of commands with this name.
pub fn commands(name: &str) -> &'static str {
    let info = format!("sh {name}");
    let named: Vec<Block> = blocks().into_iter().filter(|block| block.info == info).collect();
    match named[..] {
        [Block { text, .. }] => text,
        _ => panic!("one block is named `{info}`: {named:#?}"),
    }
}

/// The chart as the release workflow pushes it.
pub const PUBLISHED_CHART: &str = "oci://ghcr.io/zhming0/charts/fly-tunnel-operator";

/// The blocks of commands that `release::reader` runs, in the order in which a reader comes to them.
pub const STORY: [&str; 13] = [
    "install",
    "try",
    "look",
    "frpc",
    "secret",
    "upgrade",
    "annotate",
    "lanes",
    "lanes-look",
    "backend",
    "dry-run",
    "uninstall",
    "drain",
];
