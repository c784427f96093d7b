//! Where the lengths stand in each served request: Kafka's message schemas (the JSON files under
//! `clients/src/main/resources/common/message` of Apache Kafka 4.1), reduced to sizes.
//!
//! A test decodes and encodes every request at every served version and compares the walked
//! bytes with the encoded ones, so a wrong row here is found.

use kafka_protocol::messages::ApiKey;

use super::shape::Kind::{Array, Bytes, Fixed, Str, Struct, Tagged};
use super::shape::{Field, Kind, Shape, Tag};

const LAST: i16 = i16::MAX;
const I8: Kind = Fixed(1);
const I16: Kind = Fixed(2);
const I32: Kind = Fixed(4);
const I64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

const fn all(kind: Kind) -> Field {
    Field {
        min: 0,
        max: LAST,
        kind,
    }
}

const fn from(min: i16, kind: Kind) -> Field {
    Field {
        min,
        max: LAST,
        kind,
    }
}

const fn within(min: i16, max: i16, kind: Kind) -> Field {
    Field { min, max, kind }
}

const fn shape(flexible: i16, body: Kind) -> Shape {
    Shape { flexible, body }
}

const PRODUCE: Shape = shape(
    9,
    Struct(&[
        all(Str),
        all(I16),
        all(I32),
        all(Array(&Struct(&[
            within(0, 12, Str),
            from(13, UUID),
            all(Array(&Struct(&[all(I32), all(Bytes)]))),
        ]))),
    ]),
);

const FETCH_PARTITION: Kind = Tagged(
    &[
        all(I32),
        from(9, I32),
        all(I64),
        from(12, I32),
        from(5, I64),
        all(I32),
    ],
    &[
        Tag {
            tag: 0,
            min: 17,
            kind: UUID,
        },
        Tag {
            tag: 1,
            min: 18,
            kind: I64,
        },
    ],
);

const FETCH: Shape = shape(
    12,
    Tagged(
        &[
            within(0, 14, I32),
            all(I32),
            all(I32),
            all(I32),
            all(I8),
            from(7, I32),
            from(7, I32),
            all(Array(&Struct(&[
                within(0, 12, Str),
                from(13, UUID),
                all(Array(&FETCH_PARTITION)),
            ]))),
            from(
                7,
                Array(&Struct(&[
                    within(0, 12, Str),
                    from(13, UUID),
                    all(Array(&I32)),
                ])),
            ),
            from(11, Str),
        ],
        &[
            Tag {
                tag: 0,
                min: 12,
                kind: Str,
            },
            Tag {
                tag: 1,
                min: 15,
                kind: Struct(&[all(I32), all(I64)]),
            },
        ],
    ),
);

const LIST_OFFSETS: Shape = shape(
    6,
    Struct(&[
        all(I32),
        from(2, I8),
        all(Array(&Struct(&[
            all(Str),
            all(Array(&Struct(&[all(I32), from(4, I32), all(I64)]))),
        ]))),
        from(10, I32),
    ]),
);

const METADATA: Shape = shape(
    9,
    Struct(&[
        all(Array(&Struct(&[from(10, UUID), all(Str)]))),
        from(4, I8),
        within(8, 10, I8),
        from(8, I8),
    ]),
);

const OFFSET_COMMIT: Shape = shape(
    8,
    Struct(&[
        all(Str),
        all(I32),
        all(Str),
        from(7, Str),
        within(2, 4, I64),
        all(Array(&Struct(&[
            all(Str),
            all(Array(&Struct(&[
                all(I32),
                all(I64),
                from(6, I32),
                all(Str),
            ]))),
        ]))),
    ]),
);

const OFFSET_FETCH: Shape = shape(
    6,
    Struct(&[
        within(0, 7, Str),
        within(0, 7, Array(&Struct(&[all(Str), all(Array(&I32))]))),
        from(
            8,
            Array(&Struct(&[
                all(Str),
                from(9, Str),
                from(9, I32),
                all(Array(&Struct(&[all(Str), all(Array(&I32))]))),
            ])),
        ),
        from(7, I8),
    ]),
);

const FIND_COORDINATOR: Shape = shape(
    3,
    Struct(&[within(0, 3, Str), from(1, I8), from(4, Array(&Str))]),
);

const JOIN_GROUP: Shape = shape(
    6,
    Struct(&[
        all(Str),
        all(I32),
        from(1, I32),
        all(Str),
        from(5, Str),
        all(Str),
        all(Array(&Struct(&[all(Str), all(Bytes)]))),
        from(8, Str),
    ]),
);

const HEARTBEAT: Shape = shape(4, Struct(&[all(Str), all(I32), all(Str), from(3, Str)]));

const LEAVE_GROUP: Shape = shape(
    4,
    Struct(&[
        all(Str),
        within(0, 2, Str),
        from(3, Array(&Struct(&[all(Str), all(Str), from(5, Str)]))),
    ]),
);

const SYNC_GROUP: Shape = shape(
    4,
    Struct(&[
        all(Str),
        all(I32),
        all(Str),
        from(3, Str),
        from(5, Str),
        from(5, Str),
        all(Array(&Struct(&[all(Str), all(Bytes)]))),
    ]),
);

const DESCRIBE_GROUPS: Shape = shape(5, Struct(&[all(Array(&Str)), from(3, I8)]));

const LIST_GROUPS: Shape = shape(3, Struct(&[from(4, Array(&Str)), from(5, Array(&Str))]));

const API_VERSIONS: Shape = shape(3, Struct(&[from(3, Str), from(3, Str)]));

const CREATE_TOPICS: Shape = shape(
    5,
    Struct(&[
        all(Array(&Struct(&[
            all(Str),
            all(I32),
            all(I16),
            all(Array(&Struct(&[all(I32), all(Array(&I32))]))),
            all(Array(&Struct(&[all(Str), all(Str)]))),
        ]))),
        all(I32),
        all(I8),
    ]),
);

const DELETE_TOPICS: Shape = shape(
    4,
    Struct(&[
        from(6, Array(&Struct(&[all(Str), all(UUID)]))),
        within(0, 5, Array(&Str)),
        all(I32),
    ]),
);

const INIT_PRODUCER_ID: Shape = shape(2, Struct(&[all(Str), all(I32), from(3, I64), from(3, I16)]));

const OFFSET_FOR_LEADER_EPOCH: Shape = shape(
    4,
    Struct(&[
        from(3, I32),
        all(Array(&Struct(&[
            all(Str),
            all(Array(&Struct(&[all(I32), all(I32), all(I32)]))),
        ]))),
    ]),
);

const DESCRIBE_CONFIGS: Shape = shape(
    4,
    Struct(&[
        all(Array(&Struct(&[all(I8), all(Str), all(Array(&Str))]))),
        from(1, I8),
        from(3, I8),
    ]),
);

const INCREMENTAL_ALTER_CONFIGS: Shape = shape(
    1,
    Struct(&[
        all(Array(&Struct(&[
            all(I8),
            all(Str),
            all(Array(&Struct(&[all(Str), all(I8), all(Str)]))),
        ]))),
        all(I8),
    ]),
);

const CREATE_PARTITIONS: Shape = shape(
    2,
    Struct(&[
        all(Array(&Struct(&[
            all(Str),
            all(I32),
            all(Array(&Struct(&[all(Array(&I32))]))),
        ]))),
        all(I32),
        all(I8),
    ]),
);

const DELETE_GROUPS: Shape = shape(2, Struct(&[all(Array(&Str))]));

const DESCRIBE_CLUSTER: Shape = shape(0, Struct(&[all(I8), from(1, I8), from(2, I8)]));

/// The shape of an API's requests; None for what is not served.
pub fn of(api: ApiKey) -> Option<&'static Shape> {
    Some(match api {
        ApiKey::Produce => &PRODUCE,
        ApiKey::Fetch => &FETCH,
        ApiKey::ListOffsets => &LIST_OFFSETS,
        ApiKey::Metadata => &METADATA,
        ApiKey::OffsetCommit => &OFFSET_COMMIT,
        ApiKey::OffsetFetch => &OFFSET_FETCH,
        ApiKey::FindCoordinator => &FIND_COORDINATOR,
        ApiKey::JoinGroup => &JOIN_GROUP,
        ApiKey::Heartbeat => &HEARTBEAT,
        ApiKey::LeaveGroup => &LEAVE_GROUP,
        ApiKey::SyncGroup => &SYNC_GROUP,
        ApiKey::DescribeGroups => &DESCRIBE_GROUPS,
        ApiKey::ListGroups => &LIST_GROUPS,
        ApiKey::ApiVersions => &API_VERSIONS,
        ApiKey::CreateTopics => &CREATE_TOPICS,
        ApiKey::DeleteTopics => &DELETE_TOPICS,
        ApiKey::InitProducerId => &INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DescribeConfigs => &DESCRIBE_CONFIGS,
        ApiKey::IncrementalAlterConfigs => &INCREMENTAL_ALTER_CONFIGS,
        ApiKey::CreatePartitions => &CREATE_PARTITIONS,
        ApiKey::DeleteGroups => &DELETE_GROUPS,
        ApiKey::DescribeCluster => &DESCRIBE_CLUSTER,
        _ => return None,
    })
}
