//! Which APIs are served, at which versions. Advertise only what works.

use kafka_protocol::messages::ApiKey;

/// One row of ApiVersions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub api: ApiKey,
    /// The first version in ApiVersions.
    pub advertised_min: i16,
    /// The first version that is decoded. Above `advertised_min` for Produce alone: older
    /// librdkafka takes a missing Produce v0 for "no gzip, snappy or lz4" (KAFKA-18659).
    pub min: i16,
    pub max: i16,
}

const fn row(api: ApiKey, min: i16, max: i16) -> Served {
    Served {
        api,
        advertised_min: min,
        min,
        max,
    }
}

/// Every API that is served, by key.
///
/// FindCoordinator, JoinGroup, SyncGroup, Heartbeat and LeaveGroup start at 0 because older
/// librdkafka tests for exact ranges.
pub const SERVED: &[Served] = &[
    Served {
        api: ApiKey::Produce,
        advertised_min: 0,
        min: 3,
        max: 11,
    },
    row(ApiKey::Fetch, 4, 17),
    row(ApiKey::ListOffsets, 1, 10),
    row(ApiKey::Metadata, 0, 13),
    row(ApiKey::OffsetCommit, 2, 9),
    row(ApiKey::OffsetFetch, 1, 9),
    row(ApiKey::FindCoordinator, 0, 6),
    row(ApiKey::JoinGroup, 0, 9),
    row(ApiKey::Heartbeat, 0, 4),
    row(ApiKey::LeaveGroup, 0, 5),
    row(ApiKey::SyncGroup, 0, 5),
    row(ApiKey::DescribeGroups, 0, 6),
    row(ApiKey::ListGroups, 0, 5),
    row(ApiKey::ApiVersions, 0, 4),
    row(ApiKey::CreateTopics, 2, 7),
    row(ApiKey::DeleteTopics, 1, 6),
    row(ApiKey::InitProducerId, 0, 5),
    row(ApiKey::OffsetForLeaderEpoch, 2, 4),
    row(ApiKey::DescribeConfigs, 1, 4),
    row(ApiKey::CreatePartitions, 0, 3),
    row(ApiKey::DeleteGroups, 0, 2),
    row(ApiKey::IncrementalAlterConfigs, 0, 1),
    row(ApiKey::DescribeCluster, 0, 2),
];

/// The row of `key`, if it is served at all.
pub fn served(key: i16) -> Option<&'static Served> {
    SERVED.iter().find(|row| row.api as i16 == key)
}

impl Served {
    pub fn accepts(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}
