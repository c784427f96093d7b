//! What the documents name exists.

use tidy::root;

/// Words in backticks of the README's code map (the fenced block that starts with `Cargo.toml`).
#[test]
fn the_code_map_of_the_readme_is_true() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README is there");
    let map = readme
        .split("```")
        .find(|block| {
            block
                .trim_start_matches("text")
                .trim_start()
                .starts_with("Cargo.toml")
        })
        .expect("the README has a code map that starts with Cargo.toml");
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut named = 0;
    for line in map.lines().filter(|line| {
        line.trim_start()
            .starts_with(|c: char| c.is_ascii_alphabetic())
            && *line != "text"
    }) {
        let depth = line.len() - line.trim_start().len();
        let name = line
            .split_whitespace()
            .next()
            .expect("the line is not empty");
        parents.retain(|(d, _)| *d < depth);
        let path = parents.iter().map(|(_, p)| p.as_str()).collect::<String>() + name;
        assert!(
            root().join(&path).exists(),
            "the README's code map names {path}, which does not exist"
        );
        if name.ends_with('/') {
            parents.push((depth, name.to_owned()));
        }
        named += 1;
    }
    assert!(named > 20, "the code map names {named} places only");
}
