//! The borders between crates, and the habits that every file keeps.

use tidy::{dependencies, root, texts};

const CORES: [&str; 6] = [
    "uplink/batch",
    "uplink/log",
    "uplink/proto",
    "edge-node/mqtt",
    "cloud-cluster/kafka",
    "cloud-cluster/shard",
];

const MEMBERS: [&str; 9] = [
    "uplink/batch",
    "uplink/log",
    "uplink/proto",
    "uplink/quic",
    "edge-node",
    "edge-node/mqtt",
    "cloud-cluster",
    "cloud-cluster/kafka",
    "cloud-cluster/shard",
];

/// Files that a Rust file may not grow past: one subject fits.
const LINES_MAX: usize = 700;

#[test]
fn the_two_binaries_share_only_what_stands_under_uplink() {
    for (mine, theirs) in [
        ("edge-node", "cloud-cluster"),
        ("cloud-cluster", "edge-node"),
    ] {
        let other = [
            "edge-node",
            "headwater-mqtt",
            "cloud-cluster",
            "headwater-kafka",
            "headwater-shard",
        ];
        for member in MEMBERS.iter().filter(|m| m.split('/').next() == Some(mine)) {
            for name in dependencies(member)
                .iter()
                .filter(|n| other.contains(&n.as_str()))
            {
                let home = if name.contains("mqtt") || name == "edge-node" {
                    "edge-node"
                } else {
                    "cloud-cluster"
                };
                assert_ne!(home, theirs, "{member} depends on {name}");
            }
        }
    }
    for member in MEMBERS.iter().filter(|m| m.starts_with("uplink/")) {
        for name in dependencies(member) {
            assert!(
                ![
                    "edge-node",
                    "cloud-cluster",
                    "headwater-mqtt",
                    "headwater-kafka",
                    "headwater-shard"
                ]
                .contains(&name.as_str()),
                "{member} is shared and depends on {name}"
            );
        }
    }
}

#[test]
fn cores_do_no_io() {
    for core in CORES {
        for name in dependencies(core) {
            assert!(
                !["tokio", "quinn", "axum", "mio"].contains(&name.as_str()),
                "{core} is sans-IO and depends on {name}"
            );
        }
        assert!(
            root().join(core).join("clippy.toml").exists(),
            "{core} bans no real clock or disk"
        );
    }
}

#[test]
fn every_member_inherits_the_lints() {
    let manifests = texts(".")
        .into_iter()
        .filter(|(name, _)| name.ends_with("/Cargo.toml"));
    for (name, text) in manifests {
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{name} does not inherit the workspace's lints"
        );
    }
}

#[test]
fn every_rust_file_says_what_it_is_and_has_one_subject() {
    for (name, text) in texts(".")
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
    {
        assert!(
            text.starts_with("//!"),
            "{name} does not open with what it is"
        );
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{name} has {lines} lines, more than {LINES_MAX}: does it still have one subject?"
        );
    }
}

#[test]
fn unsafe_code_stands_only_where_the_file_says_why() {
    for (name, text) in texts(".")
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs") && !name.starts_with("tests/tidy"))
    {
        if text.contains("allow(unsafe_code") {
            assert!(
                text.contains("Safety:") || text.contains("SAFETY:"),
                "{name} allows unsafe code and does not say why"
            );
        }
    }
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    for (name, text) in texts(".") {
        for (number, line) in text.lines().enumerate() {
            for place in places {
                assert!(!line.contains(place), "{name}:{}: {line}", number + 1);
            }
        }
    }
}
