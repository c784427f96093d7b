//! The subscription tree: one node per filter level, so that matching costs a topic's levels and
//! not the number of subscriptions.
//!
//! ```text
//! root -- "plant" -- "+" -- "temp"  subscribers of plant/+/temp
//!      \-- "#"                      subscribers of #
//! ```
//! Nodes sit in one vector and are reused; a node costs about 100 bytes, a subscriber 16.

use std::sync::Arc;

use crate::QoS;
use crate::codec::Filter;
use crate::seeded::{Seeded, Table};

/// Subscription options and identifier in four bytes, so that matching needs nothing else:
/// `identifier << 4 | retain_as_published << 3 | no_local << 2 | qos` (an identifier has 28 bits).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Options(u32);

impl Options {
    pub fn new(filter: &Filter, identifier: Option<u32>) -> Options {
        let flags = u32::from(filter.retain_as_published) << 3 | u32::from(filter.no_local) << 2;
        Options(identifier.unwrap_or(0) << 4 | flags | filter.qos as u32)
    }

    pub fn qos(self) -> QoS {
        QoS::from_bits((self.0 & 3) as u8).unwrap_or(QoS::AtMostOnce)
    }

    pub fn no_local(self) -> bool {
        self.0 & 4 != 0
    }

    pub fn retain_as_published(self) -> bool {
        self.0 & 8 != 0
    }

    /// None: the subscription has no identifier.
    pub fn identifier(self) -> Option<u32> {
        Some(self.0 >> 4).filter(|id| *id != 0)
    }
}

/// A subscriber found: its key and its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match<K> {
    pub key: K,

    pub options: Options,
}

#[derive(Debug)]
struct Node<K> {
    /// Named levels, `+` and `#` among them.
    children: Table<Arc<str>, u32>,
    /// The `+` and `#` children again, since every walk asks for them. 0: none.
    plus: u32,
    hash: u32,
    parent: u32,
    name: Arc<str>,
    /// Sorted by key.
    subscribers: Vec<Match<K>>,
}

/// Subscriptions by filter. `K` names a subscriber, or a group that shares a subscription.
#[derive(Debug)]
pub struct Tree<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    hasher: Seeded,
    len: usize,
}

const ROOT: u32 = 0;

impl<K: Copy + Ord> Tree<K> {
    pub fn new(hash_seed: u64) -> Tree<K> {
        let hasher = Seeded(hash_seed);
        let root = Node {
            children: Table::with_hasher(hasher),
            plus: 0,
            hash: 0,
            parent: 0,
            name: "".into(),
            subscribers: Vec::new(),
        };
        Tree {
            nodes: vec![root],
            free: Vec::new(),
            hasher,
            len: 0,
        }
    }

    /// Subscriptions in it.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds or replaces a subscription; the filter is valid. True if it was not there.
    pub fn insert(&mut self, filter: &str, key: K, options: Options) -> bool {
        let mut at = ROOT;
        for level in filter.split('/') {
            at = self.child(at, level);
        }
        let subscribers = &mut self.nodes[at as usize].subscribers;
        match subscribers.binary_search_by(|m| m.key.cmp(&key)) {
            Ok(i) => {
                subscribers[i].options = options;
                false
            }
            Err(i) => {
                subscribers.insert(i, Match { key, options });
                self.len += 1;
                true
            }
        }
    }

    /// Whether any subscription's first level is this.
    pub fn begins(&self, level: &str) -> bool {
        self.nodes[ROOT as usize].children.contains_key(level)
    }

    fn child(&mut self, at: u32, level: &str) -> u32 {
        if let Some(&child) = self.nodes[at as usize].children.get(level) {
            return child;
        }
        let name: Arc<str> = level.into();
        let node = Node {
            children: Table::with_hasher(self.hasher),
            plus: 0,
            hash: 0,
            parent: at,
            name: name.clone(),
            subscribers: Vec::new(),
        };
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free as usize] = node;
                free
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("sessions and filters are bounded")
            }
        };
        let parent = &mut self.nodes[at as usize];
        match level {
            "+" => parent.plus = child,
            "#" => parent.hash = child,
            _ => {}
        }
        parent.children.insert(name, child);
        child
    }

    /// Takes a subscription out, and every node that nobody needs any more. True if it was there.
    pub fn remove(&mut self, filter: &str, key: K) -> bool {
        let mut at = ROOT;
        for level in filter.split('/') {
            match self.nodes[at as usize].children.get(level) {
                Some(&child) => at = child,
                None => return false,
            }
        }
        let subscribers = &mut self.nodes[at as usize].subscribers;
        let Ok(i) = subscribers.binary_search_by(|m| m.key.cmp(&key)) else {
            return false;
        };
        subscribers.remove(i);
        self.len -= 1;
        self.prune(at);
        true
    }

    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let node = &mut self.nodes[at as usize];
            if !node.subscribers.is_empty() || !node.children.is_empty() {
                return;
            }
            node.subscribers = Vec::new();
            node.children = Table::with_hasher(self.hasher);
            let (parent, name) = (node.parent, node.name.clone());
            let above = &mut self.nodes[parent as usize];
            above.children.remove(&name);
            if above.plus == at {
                above.plus = 0;
            }
            if above.hash == at {
                above.hash = 0;
            }
            self.free.push(at);
            at = parent;
        }
    }

    /// Pushes every subscription that matches a valid topic: a key once per matching filter.
    pub fn matches(&self, topic: &str, found: &mut Vec<Match<K>>) {
        self.walk(ROOT, Some(topic), topic.starts_with('$'), found);
    }

    /// `rest` is what is left of the topic below this node; None at its end. The depth is bounded
    /// by `limits::TOPIC_LEVELS_MAX`.
    fn walk(&self, at: u32, rest: Option<&str>, no_wildcard: bool, found: &mut Vec<Match<K>>) {
        let node = &self.nodes[at as usize];
        if node.hash != 0 && !no_wildcard {
            found.extend_from_slice(&self.nodes[node.hash as usize].subscribers);
        }
        let Some(rest) = rest else {
            found.extend_from_slice(&node.subscribers);
            return;
        };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        if node.plus != 0 && !no_wildcard {
            self.walk(node.plus, below, false, found);
        }
        if let Some(&child) = node.children.get(level) {
            self.walk(child, below, false, found);
        }
    }

    #[cfg(test)]
    fn nodes_in_use(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$x", "é"])
    }

    fn filter() -> impl Strategy<Value = String> {
        let wild = prop_oneof![4 => level(), 1 => Just("+")];
        (prop::collection::vec(wild, 1..4), any::<bool>()).prop_map(|(levels, hash)| {
            let mut f = levels.join("/");
            if hash {
                f.push_str("/#");
            }
            if f.is_empty() { "#".into() } else { f }
        })
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_matching_each_filter_finds(
            filters in prop::collection::vec((filter(), 0u64..5), 0..30),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..5), 1..10),
        ) {
            let mut tree = Tree::new(7);
            let mut model = std::collections::BTreeSet::new();
            for (f, k) in &filters {
                prop_assert_eq!(tree.insert(f, *k, Options::default()), model.insert((f.clone(), *k)));
            }
            for i in gone {
                if filters.is_empty() { break; }
                let (f, k) = i.get(&filters);
                prop_assert_eq!(tree.remove(f, *k), model.remove(&(f.clone(), *k)));
            }
            prop_assert_eq!(tree.len(), model.len());
            for t in topics {
                let t = t.join("/");
                let mut found = Vec::new();
                tree.matches(&t, &mut found);
                let mut found: Vec<u64> = found.into_iter().map(|m| m.key).collect();
                found.sort_unstable();
                let mut wanted: Vec<u64> = model.iter()
                    .filter(|(f, _)| topic::matches(f, &t)).map(|(_, k)| *k).collect();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted, "topic {}", t);
            }
            for (f, k) in model {
                tree.remove(&f, k);
            }
            prop_assert_eq!(tree.nodes_in_use(), 1);
        }
    }
}
