//! Texts that people see, compared with files in `snapshots/`. A word in angle brackets stands for each part that
//! differs from run to run.

use std::path::PathBuf;

use lab::homelab::Homelab;
use regex::Regex;

/// Compares the text with `snapshots/<name>.txt`, or writes that file if `UPDATE=1` is in the environment.
#[track_caller]
pub fn assert_shows(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/operator/snapshots/{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, text).expect("the snapshot can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} has another text; UPDATE=1 accepts this one", path.display());
}

/// The text with words in angle brackets for all that differs from run to run.
pub fn steady(lab: &Homelab, text: &str) -> String {
    let words = [
        (r"lb-lab-[0-9]+-apps-web-[0-9a-f]{12}", "<app>"),
        (r"127\.66\.[0-9]+\.[0-9]+", "<address>"),
        (r"127\.96\.[0-9]+\.[0-9]+", "<cluster IP>"),
        // The backends may have become ready by then or not.
        (r"(?m)^Endpoints: .*$", "Endpoints:                <endpoints>"),
        (r"127\.0\.0\.1:[0-9]+", "127.0.0.1:<port>"),
        (r"[0-9-]{10}T[0-9:.]{8,12}Z", "<time>"),
        (r"frps-[0-9a-f]{10}-", "frps-<generation>-"),
        (r"-keys-[0-9a-f]{8}", "-keys-<keys>"),
        (r"(?-u:\b)[0-9a-f]{14}(?-u:\b)", "<machine>"),
    ];
    let replace = |text: String, (pattern, word): (&str, &str)| {
        Regex::new(pattern).expect("a regular expression").replace_all(&text, word).into_owned()
    };
    let text = words.into_iter().fold(text.to_owned(), replace);
    text.replace(lab.namespace(), "<namespace>").replace(&lab.class(), "<class>")
}
