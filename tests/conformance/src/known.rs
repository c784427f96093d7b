//! What `edge-node` is known to break. A test fails when one of these holds after all, so the list
//! cannot grow old.

const RETAINED_LATE: &str = "a retained message at QoS 0 replaces the old one only once the log has it: a \
    SUBSCRIBE behind it on the same connection is given the old one";
const TOO_LARGE: &str = "only PUBLISH is held against the client's maximum packet size";

/// Name of the case, and what is missing.
pub const KNOWN_FAILING: &[(&str, &str)] = &[
    ("v3 MQTT-3.3.1-5", RETAINED_LATE),
    ("v3 MQTT-3.3.1-7", RETAINED_LATE),
    ("v5 MQTT-3.3.1-5", RETAINED_LATE),
    (
        "v5 3.1.2.10/half-a-packet",
        "any byte counts as a sign of life, not only a whole packet",
    ),
    ("v5 3.1.2.11.4/connack", TOO_LARGE),
    ("v5 3.1.2.11.4/suback", TOO_LARGE),
    ("v5 3.1.2.11.4/unsuback", TOO_LARGE),
];
