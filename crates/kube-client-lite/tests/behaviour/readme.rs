//! The program in the README is the example that the operator's tests run against a real API server.

#[test]
fn the_program_of_the_readme_is_an_example() {
    let readme = include_str!("../../README.md");
    let program = include_str!("../../examples/unfinalize.rs");
    assert!(readme.contains(&format!("```rust,no_run\n{program}```\n")), "copy examples/unfinalize.rs into README.md");
}
