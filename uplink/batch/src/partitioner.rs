//! Which partition a key belongs to, as Kafka's own producers decide it.

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), as unsigned.
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java lengths are 32 bits; the hash is defined on them.
    let mut h = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let k = u32::from_le_bytes(word.try_into().expect("chunks of four")).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> R)).wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of `key` among `partitions`; 0 when there is none to choose from.
pub fn partition_for(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff)
        .checked_rem(partitions)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `org.apache.kafka.common.utils.Utils.murmur2` of kafka-clients 4.1.1 answers
    /// (`BatchCheck --murmur2`): every length modulo 4, and bytes above 127.
    #[test]
    fn agrees_with_kafka() {
        let cases = [
            ("", 275646681),
            ("a", -1563381124),
            ("21", -973932308),
            ("abc", 479470107),
            ("abcd", -1323649548),
            ("abcde", 461995741),
            ("foobar", -790332482),
            ("schlüssel", 331429656),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn a_partition_is_always_in_range() {
        assert_eq!(partition_for(b"x", 0), 0);
        assert_eq!(partition_for(b"x", 1), 0);
        assert_eq!(
            partition_for(b"21", 8),
            (-973932308_i32 as u32 & 0x7fff_ffff) % 8
        );
    }
}
