//! Each crate that the product links is a decision, so `dependencies.txt` lists them, one a line.

use std::process::Command;

#[test]
fn the_product_links_what_the_list_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dependencies.txt");
    let linked = linked_crates();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &linked).expect("dependencies.txt can be written");
    }
    let listed = std::fs::read_to_string(path).expect("dependencies.txt");
    assert_eq!(linked, listed, "UPDATE=1 cargo test dependencies writes the list; say why in Cargo.toml");
}

/// The names of all crates that are linked. A name is there twice if two versions are linked. Macros that only run at
/// build time are left out.
fn linked_crates() -> String {
    let arguments = [
        "tree",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        "fly-tunnel-operator",
    ];
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .args(["--target", "x86_64-unknown-linux-musl", "--locked", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut crates: Vec<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    crates.iter().filter_map(|line| line.split(' ').next()).map(|name| format!("{name}\n")).collect()
}
