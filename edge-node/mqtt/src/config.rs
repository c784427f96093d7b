//! Settings of the machine. The shell reads them from its TOML and checks them there.

use crate::limits;

/// What an operator may set. Every bound has a default from [`limits`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Mixed into hash tables so that nobody can choose colliding topics; random in production,
    /// the seed in a simulation. Nothing observable depends on it.
    pub hash_seed: u64,
    /// Prefix of client ids that the broker assigns [MQTT-3.1.3-6]; `assigned_id_seed` makes them
    /// unlike those of the last run.
    pub assigned_id_prefix: String,
    pub assigned_id_seed: u64,
    /// Ask the shell ([`crate::Effect::Authenticate`]) before a CONNECT is accepted.
    pub authenticate: bool,
    /// Connections at most; the next one gets reason 0x97 (v5) or 0x03.
    pub connections_max: usize,
    /// Longest session expiry granted, seconds. Also what a v3.1.1 session without
    /// clean-session gets. `u32::MAX`: for ever.
    pub session_expiry_max_s: u32,
    /// Longest keep-alive granted, seconds; a client that asks for more, or for none, is told this
    /// one on v5 (server keep alive). 0: whatever the client asks.
    pub keep_alive_max_s: u16,
    /// Unacknowledged QoS 1 and 2 publishes that a client may have under way.
    pub receive_maximum: u16,
    /// Publishes under way to one client at most, whatever its own receive maximum.
    pub inflight_max: u16,
    /// Messages waiting for one session or connection; beyond it the oldest is dropped and counted.
    pub queue_messages_max: usize,
    /// The same in bytes.
    pub queue_bytes_max: usize,
    /// Bytes waiting for all sessions that outlive their connections; beyond it the longest queue drops
    /// its oldest.
    pub queues_bytes_max: usize,
    /// Bytes of retained messages in all; a publish beyond it is not retained, and counted.
    pub retained_bytes_max: usize,
    /// Subscriptions of one session at most; then SUBACK 0x97.
    pub subscriptions_max: usize,
    /// `$SYS` topics say what has changed this often, seconds; 0: there are none.
    pub sys_interval_s: u16,
    /// Sessions without a connection that are kept at most; the one that expires first makes room.
    pub sessions_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hash_seed: 0,
            assigned_id_prefix: "auto-".into(),
            assigned_id_seed: 0,
            authenticate: false,
            connections_max: limits::CONNECTIONS_MAX,
            session_expiry_max_s: u32::MAX,
            keep_alive_max_s: 0,
            receive_maximum: limits::RECEIVE_MAXIMUM,
            inflight_max: limits::INFLIGHT_MAX,
            queue_messages_max: limits::QUEUE_MESSAGES_MAX,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            queues_bytes_max: limits::QUEUES_BYTES_MAX,
            retained_bytes_max: limits::RETAINED_BYTES_MAX,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            sys_interval_s: limits::SYS_INTERVAL_S,
            sessions_max: limits::SESSIONS_MAX,
        }
    }
}
