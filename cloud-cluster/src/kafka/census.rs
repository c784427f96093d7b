//! Who uses which API: `headwater_kafka_requests_total{api,version,client}`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use headwater_kafka::wire::asked;
use metrics::Counter;

/// Client names that get a label of their own; later ones are counted as `other`.
const CLIENTS_MAX: usize = 32;
/// A client that has not named itself (before ApiVersions v3).
const UNNAMED: &str = "unnamed";

static CLIENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The count of one connection's requests.
pub(super) struct Census {
    client: String,
    counters: HashMap<(i16, i16), Counter>,
}

impl Census {
    pub(super) fn new() -> Census {
        Census {
            client: UNNAMED.to_owned(),
            counters: HashMap::new(),
        }
    }

    /// Counts the request in `frame`. The client's name is known from its first request on.
    pub(super) fn count(&mut self, frame: &Bytes) {
        let Some(asked) = asked(frame) else { return };
        if let Some(software) = asked.software {
            self.client = label(&software);
            self.counters.clear();
        }
        let key = (asked.api as i16, asked.version);
        let client = &self.client;
        let counter = self.counters.entry(key).or_insert_with(|| {
            metrics::counter!(
                "headwater_kafka_requests_total",
                "api" => format!("{:?}", asked.api),
                "version" => asked.version.to_string(),
                "client" => client.clone()
            )
        });
        counter.increment(1);
    }
}

/// A name from outside as a label: few, short, and of harmless letters.
fn label(software: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if software.is_empty() || software.len() > 40 || !software.chars().all(plain) {
        return "other".to_owned();
    }
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if !clients.contains(software) && clients.len() >= CLIENTS_MAX {
        return "other".to_owned();
    }
    clients.insert(software.to_owned());
    software.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_make_few_and_harmless_labels() {
        assert_eq!(label("librdkafka"), "librdkafka");
        assert_eq!(label("quote\"}"), "other");
        assert_eq!(label(&"x".repeat(41)), "other");
        let distinct: BTreeSet<String> = (0..100).map(|n| label(&format!("client-{n}"))).collect();
        assert!(distinct.len() <= CLIENTS_MAX + 1);
        assert_eq!(label("librdkafka"), "librdkafka");
    }
}
