//! U6: which cloud partition an edge partition lands in.

use crate::EdgeName;
use crate::rules::{self, Rule};

/// Maps one edge partition to one cloud partition. The caller pins the answer per (edge, edge
/// partition) at first use, so that a later change of a count moves nothing.
///
/// Equal counts above one: the same number, so that keyed topics keep their partitioning.
/// Otherwise murmur2 (Kafka's, seed 0x9747b28c) over the edge's name, one 0 byte and the edge
/// partition as 4 bytes big-endian, made positive, modulo `cloud_count`. The topic has no part in it:
/// one edge's records meet in the same partition number of every topic.
///
/// # Panics
/// When `cloud_count` is 0.
pub fn map_partition(
    edge: &EdgeName,
    edge_partition: u32,
    edge_count: u32,
    cloud_count: u32,
) -> u32 {
    assert!(cloud_count > 0, "a cloud topic has at least one partition");
    let equal = edge_count == cloud_count && edge_count > 1 && edge_partition < cloud_count;
    if equal && rules::on(Rule::EqualCounts) {
        return edge_partition;
    }
    let mut key = Vec::with_capacity(edge.as_str().len() + 5);
    key.extend_from_slice(edge.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&edge_partition.to_be_bytes());
    (headwater_batch::murmur2(&key) & 0x7fff_ffff) % cloud_count
}

/// What an edge partition stays pinned to when `wished` comes: the first wish. Two sessions may wish
/// at once, and by other counts.
pub fn keep_pin(pinned: Option<u32>, wished: u32) -> u32 {
    pinned.filter(|_| rules::on(Rule::Pinned)).unwrap_or(wished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(name: &str) -> EdgeName {
        EdgeName::new(name).unwrap()
    }

    #[test]
    fn equal_counts_keep_the_number() {
        for p in 0..8 {
            assert_eq!(map_partition(&edge("gw-1"), p, 8, 8), p);
        }
    }

    /// Pinned numbers: changing the hash would move every edge that has not yet been pinned.
    #[test]
    fn the_hash_never_changes() {
        let got: Vec<u32> = (0..4)
            .map(|p| map_partition(&edge("gw-1"), p, 1, 8))
            .collect();
        assert_eq!(got, PINNED);
        assert_eq!(map_partition(&edge("gw-1"), 0, 1, 1), 0);
    }
    const PINNED: [u32; 4] = [5, 4, 6, 7];

    #[test]
    fn edges_spread_evenly() {
        let mut counts = [0u32; 8];
        for n in 0..8000 {
            counts[map_partition(&edge(&format!("edge-{n}")), 0, 1, 8) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }
}
