//! Links between the pages lead somewhere. Those into the Internet are not followed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::outside;
use crate::support::documents::{PAGES, Page, ROOT, markdown_in};

/// The pages whose links are followed.
fn pages() -> Vec<Page> {
    let others = ["ARCHITECTURE.md", "CHANGELOG.md"];
    let paths = others.map(str::to_owned).into_iter().chain(["README.md".into()]);
    paths.chain(markdown_in("docs")).chain(markdown_in("tests/lab")).map(Page::read).collect()
}

/// The text without code, in which brackets mean something else.
fn prose(text: &str) -> String {
    Regex::new("`[^`\n]*`").expect("a pattern").replace_all(&outside(text), "code").into_owned()
}

/// The targets of the text's links, as they are written.
fn links(text: &str) -> Vec<String> {
    let pattern = Regex::new(r"\]\(([^) ]+)\)").expect("a pattern");
    pattern.captures_iter(&prose(text)).map(|link| link[1].to_owned()).collect()
}

/// The anchors of the text's headings, as GitHub makes them: lower case, without punctuation, a dash for each blank.
fn anchors(text: &str) -> BTreeSet<String> {
    let outside = outside(text);
    let headings = outside.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
    let anchor = |heading: &str| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
    headings.map(anchor).collect()
}

/// The reason why the link leads nowhere, if it does.
fn broken(page: &Page, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = Path::new(&page.path).parent().expect("a page has a folder");
    let target: PathBuf =
        if path.is_empty() { Path::new(ROOT).join(&page.path) } else { Path::new(ROOT).join(folder).join(path) };
    if !target.exists() {
        return Some(format!("{}: {link}: there is no such file", page.path));
    }
    let anchor = anchor?;
    let text = std::fs::read_to_string(&target).expect("a text");
    (!anchors(&text).contains(anchor)).then(|| format!("{}: {link}: there is no such heading", page.path))
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    let broken: Vec<String> =
        pages.iter().flat_map(|page| links(&page.text).into_iter().filter_map(|link| broken(page, &link))).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn the_readme_links_to_every_page() {
    let readme = &PAGES[0];
    let links = links(&readme.text);
    for page in &PAGES[1..] {
        assert!(links.contains(&page.path), "README.md does not link to {}", page.path);
    }
}

/// helm shows the notes after an install. A link to the repository itself leads to its README.
#[test]
fn the_links_in_the_charts_notes_lead_somewhere() {
    let text = include_str!("../../../charts/fly-tunnel-operator/templates/NOTES.txt");
    let notes = Page { path: "README.md".into(), text: String::new() };
    let links: Vec<&str> = text.split("{{ .Chart.Home }}").skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert!(!links.is_empty());
    for link in links {
        let link = link.replace("/blob/main/", "");
        let link = if link.starts_with('#') { format!("README.md{link}") } else { link };
        assert_eq!(broken(&notes, &link), None);
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = Page { path: "docs/page.md".into(), text: "# Its `code`, and more\n\n```\n# no heading\n```\n".into() };
    assert_eq!(anchors(&page.text), BTreeSet::from(["its-code-and-more".to_owned()]));
    assert_eq!(links("[a](b.md#c), `[d](e)`\n```\n[f](g)\n```\n[`h`](i)"), ["b.md#c", "i"]);
    for link in ["missing.md", "../README.md#missing", "README.md"] {
        assert!(broken(&page, link).is_some(), "{link}");
    }
    for link in ["../README.md", "../README.md#uninstall", "https://fly.io/missing"] {
        assert_eq!(broken(&page, link), None, "{link}");
    }
}
