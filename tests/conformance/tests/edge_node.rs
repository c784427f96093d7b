//! The whole suite against a fresh `edge-node`.

use std::collections::BTreeSet;

use conformance::known::KNOWN_FAILING;
use conformance::registry;
use conformance::run::{self, Target};
use e2e::nodes::Edge;

#[test]
fn every_statement_holds_but_those_known() {
    holds(false);
}

#[test]
fn every_statement_holds_in_a_websocket_too() {
    holds(true);
}

fn holds(over_websocket: bool) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let edge = Edge::new(dir.path(), None).with_websocket();
    let mut process = edge.start();
    let target = Target {
        websocket: edge.websocket,
        over_websocket,
        ..Target::new(edge.mqtt)
    };
    let verdicts = run::run(target, &registry::cases());
    assert!(
        process.alive(),
        "edge-node ended: {}",
        edge.dir.join("log").display()
    );

    let known: BTreeSet<_> = KNOWN_FAILING
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let mut unexpected = String::new();
    let mut failed = BTreeSet::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.failed()) {
        let name = verdict.case.name();
        if !known.contains(&name) {
            let (_, seen) = verdict.words();
            let trace = verdict.trace.join("\n    ");
            unexpected += &format!("{name}: {}\n  {seen}\n    {trace}\n", verdict.case.says);
        }
        failed.insert(name);
    }
    assert!(unexpected.is_empty(), "{unexpected}");
    let mended: Vec<_> = known.difference(&failed).collect();
    assert!(
        mended.is_empty(),
        "these hold now, and are to leave KNOWN_FAILING: {mended:?}"
    );
    process.stop();
}
