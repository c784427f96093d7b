//! Every case by the statement that it holds a broker to.
//!
//! A statement has a number, `MQTT-3.1.0-2`. Some rules have none, most of them in MQTT 5.0: "it is a
//! Protocol Error to ..." in the text of a section. Those are named by section and a word,
//! `3.1.2.11.3/zero`, and are kept apart from the numbered ones everywhere.

use crate::broker::Broker;
use crate::cases;
use crate::wire::Version;

/// What a case has to say when nothing is broken.
#[derive(Debug, Clone)]
pub enum Seen {
    /// The statement holds; what was seen of it.
    Held(String),
    /// The broker does not offer what the statement is about, and says so.
    NotOffered(String),
}

/// What was demanded and did not come, or came and was not allowed.
#[derive(Debug, Clone)]
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(what: String) -> Failure {
        Failure(what)
    }
}

pub type Outcome = Result<Seen, Failure>;

/// A case that was passed, with what it saw.
pub fn held(what: impl Into<String>) -> Outcome {
    Ok(Seen::Held(what.into()))
}

/// A case that has no object at this broker.
pub fn not_offered(what: impl Into<String>) -> Outcome {
    Ok(Seen::NotOffered(what.into()))
}

/// Ends a case as failed when the condition does not hold.
#[macro_export]
macro_rules! demand {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::registry::Failure(format!($($what)+)));
        }
    };
}

/// One rule, as it is numbered in either specification, and the case that checks it.
pub struct Rule {
    pub v3: Option<&'static str>,
    pub v5: Option<&'static str>,
    /// The statement in short.
    pub says: &'static str,
    pub case: fn(&Broker) -> Outcome,
}

/// A rule of both specifications.
pub const fn both(
    v3: &'static str,
    v5: &'static str,
    says: &'static str,
    case: fn(&Broker) -> Outcome,
) -> Rule {
    Rule {
        v3: Some(v3),
        v5: Some(v5),
        says,
        case,
    }
}

/// A rule of MQTT 3.1.1 only.
pub const fn v3(id: &'static str, says: &'static str, case: fn(&Broker) -> Outcome) -> Rule {
    Rule {
        v3: Some(id),
        v5: None,
        says,
        case,
    }
}

/// A rule of MQTT 5.0 only.
pub const fn v5(id: &'static str, says: &'static str, case: fn(&Broker) -> Outcome) -> Rule {
    Rule {
        v3: None,
        v5: Some(id),
        says,
        case,
    }
}

/// A case under one name.
#[derive(Clone, Copy)]
pub struct Case {
    pub version: Version,
    /// `3.1.0-2`.
    pub id: &'static str,
    /// The file that it is in, without its ending.
    pub file: &'static str,
    pub says: &'static str,
    pub run: fn(&Broker) -> Outcome,
}

impl Case {
    /// `v5 MQTT-3.1.0-2`, or `v5 3.1.2.11.3/zero` for a rule without a number.
    pub fn name(&self) -> String {
        let prefix = if self.numbered() { "MQTT-" } else { "" };
        format!("{} {prefix}{}", self.version, self.id)
    }

    /// Whether it is one of the statements of Appendix B.
    pub fn numbered(&self) -> bool {
        !self.id.contains('/')
    }
}

/// All cases, 3.1.1 first, in the order of the specifications.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (file, rules) in cases::ALL {
        for rule in *rules {
            let ids = [(Version::V3, rule.v3), (Version::V5, rule.v5)];
            for (version, id) in ids {
                let Some(id) = id else { continue };
                let (says, run) = (rule.says, rule.case);
                all.push(Case {
                    version,
                    id,
                    file,
                    says,
                    run,
                });
            }
        }
    }
    all.sort_by_key(|case| {
        (
            case.version == Version::V5,
            !case.numbered(),
            order(case.id),
        )
    });
    all
}

/// `3.10.1-2` as numbers, so that 10 comes after 9.
fn order(id: &str) -> (Vec<u32>, &str) {
    let (numbers, word) = id.split_once('/').unwrap_or((id, ""));
    let numbers = numbers.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.collect(), word)
}
