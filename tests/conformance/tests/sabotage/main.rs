//! That the suite sees what it is there to see: `edge-node` behind a man in the middle who breaks one
//! rule, and the cases that must turn red.

mod frames;
mod middle;

use std::time::Duration;

use conformance::known::KNOWN_FAILING;
use conformance::registry::{self, Case};
use conformance::run::{self, Target};
use e2e::nodes::Edge;

use frames::*;
use middle::{Direction, Middle, Rule};

/// How long a case waits for what the man in the middle has taken away.
const WAIT: Duration = Duration::from_secs(3);

/// What is broken, and cases that must see it.
struct Sabotage {
    what: &'static str,
    rule: Rule,
    seen_by: &'static [&'static str],
}

const fn broker(
    what: &'static str,
    change: fn(Vec<u8>) -> Vec<Vec<u8>>,
    seen_by: &'static [&'static str],
) -> Sabotage {
    let rule = Rule {
        direction: Direction::FromBroker,
        change,
        closes: true,
    };
    Sabotage {
        what,
        rule,
        seen_by,
    }
}

const fn client(
    what: &'static str,
    change: fn(Vec<u8>) -> Vec<Vec<u8>>,
    seen_by: &'static [&'static str],
) -> Sabotage {
    let rule = Rule {
        direction: Direction::FromClient,
        change,
        closes: true,
    };
    Sabotage {
        what,
        rule,
        seen_by,
    }
}

/// A reason string of 100 bytes, after its identifier and length.
const REASON: [u8; 103] = {
    let mut property = [b'x'; 103];
    property[0] = 0x1f;
    property[1] = 0;
    property[2] = 100;
    property
};

const SABOTAGE: &[Sabotage] = &[
    Sabotage {
        what: "connections are never closed",
        rule: Rule {
            direction: Direction::FromBroker,
            change: |frame| vec![frame],
            closes: false,
        },
        seen_by: &[
            "v3 MQTT-3.1.0-2",
            "v3 MQTT-2.2.2-2",
            "v5 MQTT-4.13.2-1",
            "v5 MQTT-3.3.1-4",
            "v5 MQTT-3.14.4-2",
            "v5 MQTT-1.5.4-1",
            "v5 3.14.4/server",
        ],
    },
    broker(
        "PINGRESP is not sent",
        |f| without(f, 13),
        &["v3 MQTT-3.12.4-1", "v5 MQTT-3.12.4-1"],
    ),
    broker(
        "DISCONNECT is not sent",
        |f| without(f, 14),
        &["v5 MQTT-3.1.4-3"],
    ),
    broker(
        "PUBREL is not sent",
        |f| without(f, 6),
        &["v3 MQTT-4.3.3-1", "v5 MQTT-4.3.3-4", "v5 MQTT-4.3.3-5"],
    ),
    broker(
        "DISCONNECT tells a session expiry",
        |f| telling(f, &[14], &[0x11, 0, 0, 0, 1]),
        &["v5 MQTT-3.14.2-2"],
    ),
    broker(
        "long reason strings everywhere",
        |f| telling(f, &[2, 4, 5, 6, 7, 9, 11, 14], &REASON),
        &[
            "v5 MQTT-3.1.2-29",
            "v5 MQTT-3.2.2-19",
            "v5 MQTT-3.4.2-2",
            "v5 MQTT-3.5.2-2",
            "v5 MQTT-3.6.2-2",
            "v5 MQTT-3.7.2-2",
            "v5 MQTT-3.9.2-1",
            "v5 MQTT-3.11.2-1",
            "v5 MQTT-3.14.2-3",
        ],
    ),
    broker(
        "CONNACK names a method",
        |f| telling(f, &[2], b"\x15\x00\x01x"),
        &["v5 MQTT-4.12.0-6"],
    ),
    broker(
        "CONNACK has response information",
        |f| telling(f, &[2], b"\x1a\x00\x01x"),
        &["v5 MQTT-3.1.2-28"],
    ),
    broker(
        "DUP on every delivery",
        |f| publish(f, |first| first | 8),
        &[
            "v3 MQTT-3.3.1-3",
            "v5 MQTT-4.3.2-2",
            "v5 MQTT-4.3.3-2",
            "v3 MQTT-3.3.1-2",
        ],
    ),
    broker(
        "DUP on no delivery",
        |f| publish(f, |first| first & !8),
        &["v3 MQTT-3.3.1-1", "v5 MQTT-3.3.1-1", "v5 MQTT-4.4.0-1"],
    ),
    broker(
        "RETAIN on every delivery",
        |f| publish(f, |first| first | 1),
        &["v3 MQTT-3.3.1-9", "v5 MQTT-3.3.1-12", "v5 MQTT-3.1.2-14"],
    ),
    broker(
        "RETAIN on no delivery",
        |f| publish(f, |first| first & !1),
        &["v3 MQTT-3.3.1-8", "v5 MQTT-3.3.1-13", "v5 MQTT-3.1.2-15"],
    ),
    broker(
        "every delivery twice",
        |f| twice(f, 3),
        &[
            "v3 MQTT-4.3.1-1",
            "v5 MQTT-4.3.3-10",
            "v5 MQTT-2.2.1-4",
            "v5 MQTT-4.9.0-2",
            "v5 MQTT-3.8.4-4",
        ],
    ),
    broker(
        "deliveries out of order",
        swapped,
        &[
            "v3 MQTT-4.6.0-5",
            "v3 MQTT-4.6.0-6",
            "v5 MQTT-4.6.0-5",
            "v5 MQTT-4.6.0-6",
        ],
    ),
    broker(
        "every delivery at QoS 0",
        at_qos_zero,
        &[
            "v3 MQTT-3.3.5-1",
            "v5 MQTT-3.3.4-2",
            "v3 MQTT-3.8.4-6",
            "v5 MQTT-3.8.4-7",
            "v3 MQTT-3.1.2-9",
        ],
    ),
    broker(
        "deliveries without properties",
        |f| properties(f, |_| Vec::new()),
        &[
            "v5 MQTT-3.3.2-4",
            "v5 MQTT-3.3.2-6",
            "v5 MQTT-3.3.2-15",
            "v5 MQTT-3.3.2-16",
            "v5 MQTT-3.3.2-17",
            "v5 MQTT-3.3.2-20",
            "v5 MQTT-3.3.4-3",
            "v5 MQTT-3.3.4-4",
            "v5 MQTT-3.1.3-10",
            "v5 3.3.1.3/properties",
        ],
    ),
    broker(
        "an alias on every delivery",
        |f| properties(f, |own| [&own, [0x23, 0, 9].as_slice()].concat()),
        &["v5 MQTT-3.1.2-26", "v5 MQTT-3.1.2-27", "v5 MQTT-3.3.2-11"],
    ),
    broker(
        "acknowledgements for another identifier",
        |f| edited(f, &[4, 5, 7, 9, 11], |body| body[1] ^= 1),
        &[
            "v3 MQTT-2.3.1-6",
            "v5 MQTT-2.2.1-6",
            "v5 MQTT-4.3.2-4",
            "v5 MQTT-3.10.4-5",
        ],
    ),
    broker(
        "SUBACK backwards",
        |f| edited(f, &[9], |body| body[3..].reverse()),
        &["v5 MQTT-3.9.3-1", "v5 MQTT-3.8.4-5"],
    ),
    broker(
        "UNSUBACK backwards",
        |f| edited(f, &[11], |body| body[3..].reverse()),
        &["v5 MQTT-3.11.3-1"],
    ),
    broker(
        "SUBACK with an unknown code",
        |f| last(f, 9, |_| 3),
        &["v3 MQTT-3.9.3-2", "v5 MQTT-3.9.3-2"],
    ),
    broker("CONNACK twice", |f| twice(f, 2), &["v5 MQTT-3.2.0-2"]),
    broker(
        "a session is always present",
        |f| edited(f, &[2], |body| body[0] = 1),
        &[
            "v3 MQTT-3.2.2-1",
            "v3 MQTT-3.2.2-3",
            "v3 MQTT-3.2.2-4",
            "v5 MQTT-3.2.2-6",
        ],
    ),
    broker(
        "a session is never present",
        |f| edited(f, &[2], |body| body[0] = 0),
        &["v3 MQTT-3.2.2-2", "v5 MQTT-3.2.2-3", "v5 MQTT-3.1.2-5"],
    ),
    broker(
        "reserved flags of CONNACK",
        |f| edited(f, &[2], |body| body[0] |= 2),
        &["v5 MQTT-3.2.2-1"],
    ),
    broker(
        "CONNACK without properties",
        bare_connack,
        &["v5 MQTT-3.1.3-7", "v5 MQTT-3.2.2-16"],
    ),
    client(
        "every client starts anew",
        |f| connect(f, |flags| flags | 2),
        &[
            "v3 MQTT-3.1.2-4",
            "v3 MQTT-3.1.2-5",
            "v5 MQTT-3.1.2-23",
            "v3 MQTT-4.4.0-1",
            "v5 MQTT-4.3.3-5",
            "v3 MQTT-4.5.0-1",
        ],
    ),
    client(
        "no client starts anew",
        |f| connect(f, |flags| flags & !2),
        &["v3 MQTT-3.1.2-6", "v5 MQTT-3.1.2-4", "v5 MQTT-3.2.2-2"],
    ),
    client(
        "wills at QoS 0",
        |f| connect(f, |flags| flags & !0x18),
        &["v3 MQTT-3.1.2-9", "v5 MQTT-3.1.2-9"],
    ),
    client(
        "no will is retained",
        |f| connect(f, |flags| flags & !0x20),
        &["v3 MQTT-3.1.2-17", "v5 MQTT-3.1.2-15"],
    ),
    client(
        "sessions never expire",
        |f| connect_property(f, 0x11, &[0xff; 4]),
        &["v5 MQTT-4.1.0-2", "v5 3.1.2.11.2/zero"],
    ),
    client(
        "sessions expire at once",
        |f| connect_property(f, 0x11, &[0; 4]),
        &[
            "v5 MQTT-3.1.2-6",
            "v5 MQTT-3.1.2-25",
            "v5 3.1.2.11.2/for-ever",
        ],
    ),
    client(
        "the client's window is not heard of",
        |f| connect_property(f, 0x21, &[0xff; 2]),
        &[
            "v5 MQTT-3.3.4-9",
            "v5 MQTT-4.9.0-1",
            "v5 MQTT-4.9.0-2",
            "v5 4.9.0/new-connection",
        ],
    ),
    client(
        "the client's packet size is not heard of",
        |f| connect_property(f, 0x27, &[0xff; 4]),
        &["v5 MQTT-3.1.2-24", "v5 MQTT-3.1.2-25"],
    ),
    client(
        "no message expires",
        |f| properties(f, |own| if own.first() == Some(&2) { vec![] } else { own }),
        &[
            "v5 MQTT-3.3.2-5",
            "v5 MQTT-3.3.2-6",
            "v5 3.3.2.3.3/retained",
        ],
    ),
    client(
        "keep alive is not heard of",
        |f| edited(f, &[1], |body| body[8..10].fill(0)),
        &["v3 MQTT-3.1.2-24", "v5 MQTT-3.1.2-22", "v5 MQTT-3.2.2-22"],
    ),
    client(
        "DISCONNECT is not heard of",
        |f| without(f, 14),
        &["v3 MQTT-3.14.4-3", "v5 MQTT-3.14.4-3", "v3 MQTT-3.1.2-10"],
    ),
    client(
        "RETAIN is not heard of",
        |f| publish(f, |first| first & !1),
        &["v3 MQTT-3.3.1-6", "v5 MQTT-3.3.1-9", "v3 MQTT-3.1.2-7"],
    ),
    client(
        "everything is retained",
        |f| publish(f, |first| first | 1),
        &["v3 MQTT-3.3.1-12", "v5 MQTT-3.3.1-8"],
    ),
    client(
        "PUBREL is not heard of",
        |f| without(f, 6),
        &["v3 MQTT-4.3.3-2", "v5 MQTT-4.3.3-11"],
    ),
    client(
        "PUBREC is not heard of",
        |f| without(f, 5),
        &["v5 MQTT-4.3.3-6", "v5 MQTT-4.4.0-2"],
    ),
    client(
        "PUBACK is not heard of",
        |f| without(f, 4),
        &["v5 MQTT-4.3.2-3", "v5 MQTT-4.4.0-2", "v5 MQTT-4.9.0-2"],
    ),
    client(
        "subscription options are not heard of",
        |f| last(f, 8, |options| options & 3),
        &[
            "v5 MQTT-3.8.3-3",
            "v5 MQTT-3.3.1-10",
            "v5 MQTT-3.3.1-11",
            "v5 MQTT-3.3.1-13",
            "v5 MQTT-3.8.3-5",
        ],
    ),
    client(
        "UNSUBSCRIBE is for another filter",
        |f| last(f, 10, |byte| byte ^ 1),
        &["v3 MQTT-3.10.4-1", "v5 MQTT-3.10.4-2"],
    ),
    client(
        "topics are made lower case",
        |f| edited(f, &[3, 8], |body| body.make_ascii_lowercase()),
        &["v3 MQTT-4.7.3-4", "v5 MQTT-4.7.3-4"],
    ),
];

#[test]
fn each_broken_rule_turns_its_cases_red() {
    let dir = tempfile::tempdir().unwrap();
    let edge = Edge::new(dir.path(), None);
    let process = edge.start();
    let all = registry::cases();
    let missed: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = SABOTAGE
            .iter()
            .map(|sabotage| scope.spawn(|| missed(sabotage, &edge, &all)))
            .collect();
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    process.stop();
}

/// The cases that should have seen it and did not.
fn missed(sabotage: &Sabotage, edge: &Edge, all: &[Case]) -> Vec<String> {
    let middle = Middle::start(edge.mqtt, sabotage.rule);
    let named = |name: &&'static str| {
        let known = KNOWN_FAILING.iter().any(|(known, _)| known == name);
        assert!(!known, "{name} fails without sabotage");
        let case = all.iter().find(|case| case.name() == **name);
        *case.unwrap_or_else(|| panic!("{name} is no case"))
    };
    let cases: Vec<Case> = sabotage.seen_by.iter().map(named).collect();
    let target = Target {
        wait: WAIT,
        ..Target::new(middle.address())
    };
    let verdicts = run::run(target, &cases);
    let green = verdicts.iter().filter(|verdict| !verdict.failed());
    green
        .map(|v| format!("{}: not seen by {}", sabotage.what, v.case.name()))
        .collect()
}
