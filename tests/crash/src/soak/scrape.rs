//! Pages of the nodes, read as a Prometheus server and an operator's script would.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use e2e::http;
use serde_json::Value;

use super::stage::TOPIC;

/// What names of the edge's metrics begin with.
pub const EDGE: &str = "headwater_edge_";

/// `/metrics`: name with labels, without the prefix, and value.
#[derive(Debug, Clone, Default)]
pub struct Page(BTreeMap<String, f64>);

impl Page {
    pub fn read(prefix: &str, node: SocketAddr) -> io::Result<Page> {
        Ok(Page::parse(prefix, &http::body(node, "/metrics")?))
    }

    fn parse(prefix: &str, text: &str) -> Page {
        let lines = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix(prefix)?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Page(lines.collect())
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// A whole number; a metric that is not there is none.
    pub fn whole(&self, name: &str) -> Option<i64> {
        self.value(name).map(|value| value as i64)
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> i64 {
        let of = |key: &&String| key.split('{').next() == Some(name);
        let all = self.0.iter().filter(|(key, _)| of(key));
        all.map(|(_, value)| *value as i64).sum()
    }

    /// Of one partition of the edge's topic.
    pub fn of_partition(&self, name: &str, partition: usize) -> Option<i64> {
        self.whole(&format!("{name}{{partition=\"{TOPIC}-{partition}\"}}"))
    }
}

/// What waits for a client, and what its queue had no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queue {
    pub bytes: u64,
    pub dropped: u64,
}

/// `/clients` of the edge.
pub fn edge_queues(status: SocketAddr) -> BTreeMap<String, Queue> {
    let body = http::body(status, "/clients").unwrap_or_default();
    let page: Value = serde_json::from_str(&body).unwrap_or_default();
    let clients = page["clients"].as_array().map_or(&[][..], Vec::as_slice);
    let queues = clients.iter().filter_map(|client| {
        let queue = Queue {
            bytes: client["queued_bytes"].as_u64()?,
            dropped: client["dropped"].as_u64()?,
        };
        Some((client["client_id"].as_str()?.to_owned(), queue))
    });
    queues.collect()
}

/// The rows of the cloud's ledger.
pub fn ledger(admin: SocketAddr) -> Result<Vec<Value>, String> {
    let body = http::body(admin, "/ledger").map_err(|error| error.to_string())?;
    serde_json::from_str(&body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_values_with_labels_and_sums_over_them() {
        let text = "# HELP headwater_edge_a x\nheadwater_edge_a{q=\"0\"} 3\n\
                    headwater_edge_a{q=\"1\"} 4\nheadwater_edge_ab 5\nother 7\n";
        let page = Page::parse(EDGE, text);
        assert_eq!(page.whole("a{q=\"1\"}"), Some(4));
        assert_eq!((page.sum("a"), page.sum("ab")), (7, 5));
        assert_eq!(page.value("other"), None);
    }
}
