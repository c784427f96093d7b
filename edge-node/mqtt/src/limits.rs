//! Every bound of the machine, and what happens at it.

/// One MQTT packet, fixed header included. CONNACK says so on v5; a larger one is answered with
/// DISCONNECT 0x95 and the connection closed before its body is read. Equal to the largest batch,
/// so that nothing is accepted that could not travel (rule U5).
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Connections; beyond: CONNACK 0x97 (v5), 0x03 (v3.1.1).
pub const CONNECTIONS_MAX: usize = 10_000;

/// Connections that have not sent their CONNECT, also at most half of all connections (but 16 in
/// any case); one more ends the oldest of them. So nobody who opens many and says nothing keeps an
/// honest client out.
pub const NEWCOMERS_MAX: usize = 1024;

/// So many bytes of a packet that is not whole yet count as a sign of life, as far as the keep-alive goes.
pub const SIGN_OF_LIFE_BYTES: usize = 1024;

/// Time from accept to a complete CONNECT; then the connection is closed without an answer.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// QoS 1 and 2 publishes of one client that are not acknowledged yet. v5: told in CONNACK, one
/// more is DISCONNECT 0x93. v3.1.1 has no such number: reading pauses.
pub const RECEIVE_MAXIMUM: u16 = 1024;

/// Publishes under way to one client; the rest waits in its queue.
pub const INFLIGHT_MAX: u16 = 1024;

/// Bytes of one client's publishes handed to the log and not durable yet. Above it reading pauses
/// until half is durable.
pub const APPEND_BYTES_MAX: usize = 4 << 20;
/// The same in messages.
pub const APPEND_MESSAGES_MAX: usize = 2048;

/// Bytes handed to the shell for one connection and not reported written. Above it nothing more
/// than replies is sent, and reading pauses so that replies are bounded too.
pub const UNWRITTEN_BYTES_MAX: usize = 256 << 10;

/// Messages that wait for one session (QoS 0: for one connection); beyond: the oldest is dropped
/// and counted.
pub const QUEUE_MESSAGES_MAX: usize = 10_000;
/// The same in bytes.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// The same of all sessions that outlive their connections, together; beyond: the longest queue drops
/// its oldest, counted. Nobody may ever come for some of them.
pub const QUEUES_BYTES_MAX: usize = 32 << 20;

/// Payload and topic bytes of all retained messages; beyond: not retained, counted.
pub const RETAINED_BYTES_MAX: usize = 64 << 20;

/// Subscriptions of one session; beyond: SUBACK 0x97.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Sessions kept without a connection; beyond: the one that expires first is ended.
pub const SESSIONS_MAX: usize = 100_000;

/// Topic aliases that a v5 client may use; CONNACK says so, beyond: DISCONNECT 0x94. And those that
/// we use towards it, if it takes as many.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 64;

/// Levels of a topic or filter; deeper ones are refused (the tree is walked level by level).
pub const TOPIC_LEVELS_MAX: usize = 128;

/// Payloads up to this size are copied out of the read buffer before they are kept for longer
/// than a commit, so that a small message does not pin a large buffer.
pub const COPY_BYTES_MAX: usize = 16 << 10;

/// Payloads from this size on are sent as a shared slice; smaller ones are copied into one write.
pub const SHARE_BYTES_MIN: usize = 8 << 10;

/// A v3.1.1 publish that the log refused is offered again after this time.
pub const REFUSED_RETRY_MS: u64 = 1_000;

/// `$SYS` topics are looked at this often, while anybody subscribes to them (Mosquitto's default).
pub const SYS_INTERVAL_S: u16 = 10;
