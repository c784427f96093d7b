//! Hash tables whose order nobody outside can choose, and that a simulation can repeat.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, Hasher};

/// SipHash over a secret prefix. Invariant: nothing observable depends on a table's order.
#[derive(Debug, Clone, Copy)]
pub struct Seeded(pub u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;
    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

pub type Table<K, V> = std::collections::HashMap<K, V, Seeded>;
