//! Settings of both binaries: TOML in, an error or checked values out, and back to TOML. The same
//! bytes as the edge's access rules and its password file.
//!
//! Host names are not looked up: an address that is not numeric ends the run before the checks.
//!
//! Memory: toml's tree of a small file.

use std::net::SocketAddr;
use std::path::Path;

use edge_node::access::acl::{Acl, Act, Who};
use edge_node::access::passwords::Passwords;
use headwater_mqtt::topic::check_name;

use super::named;
use crate::Target;

const INPUT_BYTES_MAX: usize = 8 << 10;

pub const TARGET: Target = Target {
    name: "config",
    run,
    seeds,
    input_bytes_max: INPUT_BYTES_MAX,
    memory_bytes_max: (1 << 20) + 1_024 * INPUT_BYTES_MAX,
};

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    edge(&text);
    cloud(&text);
    rules(&text);
    if let Ok(passwords) = Passwords::parse(&text) {
        assert!(passwords.of("no:user").is_none());
    }
}

/// What is asked stands in the file itself, so that it meets the rules.
fn rules(text: &str) {
    let Ok(acl) = Acl::parse(text) else {
        return;
    };
    let words: Vec<&str> = text.split_whitespace().take(8).collect();
    for word in &words {
        for who in &words {
            for user in [None, Some(*word)] {
                let who = Who { client: who, user };
                // A topic that may be read is one that a filter brings.
                let is_topic = check_name(word).is_ok() && !word.starts_with("$share/");
                if is_topic && acl.allows(who, Act::Read, word) {
                    assert!(acl.allows_filter(who, word), "{who:?} {word}");
                }
                acl.allows(who, Act::Write, word);
                acl.allows_filter(who, word);
            }
        }
    }
}

fn numeric(address: &str) -> bool {
    address.is_empty() || address.parse::<SocketAddr>().is_ok()
}

fn edge(text: &str) {
    let Ok(config) = edge_node::Config::parse(text, Path::new("edge.toml")) else {
        return;
    };
    if !config.listeners.iter().all(|l| numeric(&l.address)) || !numeric(&config.status.listen) {
        return;
    }
    if config.check().is_ok() {
        let again = edge_node::Config::parse(&config.to_toml(), Path::new("again.toml"));
        assert_eq!(again.expect("what was written parses"), config);
    }
}

fn cloud(text: &str) {
    let Ok(config) = toml::from_str::<cloud_cluster::Config>(text) else {
        return;
    };
    if config.check().is_ok() {
        let written = config.to_toml();
        let again: cloud_cluster::Config = toml::from_str(&written).expect("it parses");
        assert_eq!(again.to_toml(), written);
        config.kafka_advertised();
        config.uplink_advertised();
    }
}

/// The reference files without their comments.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let bare = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.trim_start_matches("# ").trim_start_matches('#'));
        let is_setting = |line: &&str| line.contains(" = ") || line.starts_with('[');
        lines.filter(is_setting).collect::<Vec<_>>().join("\n")
    };
    vec![
        named(
            "edge",
            bare(include_str!("../../../../config/edge-node.toml")),
        ),
        named(
            "cloud",
            bare(include_str!("../../../../config/cloud-cluster.toml")),
        ),
        named(
            "huge",
            "[log]\nbatch_bytes = 99999999999999999999\nlinger_ms = -1\n",
        ),
        named(
            "acl",
            "topic read a/#\nuser u\ntopic deny a/b\npattern readwrite %c/x-%u/+\n",
        ),
        named(
            "passwords",
            "# users\nu:$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$d2VsY29tZXdlbGNvbWV3ZWxjb21ld2VsYw\n",
        ),
        named(
            "route",
            "[[routes]]\nfilter = \"a/+/#\"\ntopic = \"t\"\nkey = \"{level:9}{x\"\n",
        ),
    ]
}
