//! The README accounts for every statement of both specifications, and the registry agrees with it.

use std::collections::BTreeMap;

use conformance::known::KNOWN_FAILING;
use conformance::registry;
use conformance::statements;
use conformance::wire::Version;

const README: &str = include_str!("../README.md");

/// Cells of the rows of the table under this heading, without its two head lines.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let start = README.find(&format!("## {heading}\n"));
    let text = &README[start.unwrap_or_else(|| panic!("the README has no {heading:?}"))..];
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with("## "));
    let rows = lines.filter(|line| line.starts_with('|')).skip(2);
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(str::trim).collect();
    rows.map(cells).collect()
}

fn ids(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split(", ").filter(|id| !id.is_empty())
}

#[test]
fn every_statement_is_covered_or_explained_exactly_once() {
    for (version, heading) in [(Version::V3, "MQTT 3.1.1"), (Version::V5, "MQTT 5.0")] {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        for row in table(&format!("Covered: {heading}")) {
            for id in ids(row[1]) {
                *count.entry(id).or_default() += 1;
                let case = registry::cases()
                    .into_iter()
                    .find(|case| case.version == version && case.id == id);
                let case = case.unwrap_or_else(|| panic!("{version} {id} has no case"));
                assert_eq!(format!("`{}`", case.file), row[0], "{version} {id}");
            }
        }
        let covered = count.len();
        for row in table(&format!("Not covered: {heading}")) {
            assert!(
                row[1].len() > 10,
                "{version} {}: no reason is given",
                row[0]
            );
            for id in ids(row[0]) {
                *count.entry(id).or_default() += 1;
            }
        }
        let all = statements::all(version);
        for id in &all {
            assert_eq!(
                count.remove(id.as_str()),
                Some(1),
                "{version} {id} in the README"
            );
        }
        assert!(count.is_empty(), "{version} has no {count:?}");
        let cases = registry::cases();
        let cases = cases
            .iter()
            .filter(|case| case.version == version && case.numbered());
        assert_eq!(
            cases.count(),
            covered,
            "cases of {version} that the README does not name"
        );
    }
}

#[test]
fn rules_without_a_number_are_named_once() {
    let mut named: Vec<_> = table("Covered: rules without a number")
        .iter()
        .flat_map(|row| ids(row[1]))
        .collect();
    named.sort_unstable();
    let cases = registry::cases();
    let mut own: Vec<_> = cases
        .iter()
        .filter(|case| !case.numbered())
        .map(|case| case.id)
        .collect();
    own.sort_unstable();
    // Some hold for both versions.
    own.dedup();
    assert_eq!(named, own);
}

#[test]
fn no_case_stands_twice_and_each_says_what_it_holds() {
    let mut seen = BTreeMap::new();
    for case in registry::cases() {
        assert!(
            case.says.ends_with('.') && case.says.len() > 10,
            "{}",
            case.name()
        );
        assert!(
            seen.insert(case.name(), ()).is_none(),
            "{} stands twice",
            case.name()
        );
    }
    for (name, reason) in KNOWN_FAILING {
        assert!(
            seen.contains_key(*name),
            "KNOWN_FAILING names {name}, which is no case"
        );
        assert!(reason.len() > 10, "{name}: no reason is given");
    }
}
