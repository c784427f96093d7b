//! QUIC transport settings of both roles. The figures and their reasons: `QUIC.md` of the design.

use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// What an operator may change about the uplink's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// A ping is sent after this much silence, so that NAT bindings live. Zero: never.
    pub keep_alive: Duration,
    /// A connection that hears nothing for this long is dead. At least 3 x `keep_alive`.
    pub idle_timeout: Duration,
    /// Bytes the peer may have under way on one stream.
    pub stream_window_bytes: u32,
    /// Bytes the peer may have under way on one connection: bounds the memory of the receiver.
    pub connection_window_bytes: u32,
    /// Bytes this end keeps until the peer has acknowledged them.
    pub send_window_bytes: u64,
    /// Data streams a peer may open: one per partition.
    pub uni_streams_max: u32,
    /// Hand the kernel several packets per call. Some virtual network cards break on it.
    pub segmentation_offload: bool,
}

impl Default for Transport {
    /// 10,000 edges fit one node: 2 MiB each at worst, next to nothing when idle.
    fn default() -> Transport {
        Transport {
            keep_alive: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(90),
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 2 << 20,
            send_window_bytes: 2 << 20,
            uni_streams_max: 256,
            segmentation_offload: true,
        }
    }
}

impl Transport {
    fn common(&self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let idle = u64::try_from(self.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        config
            .max_idle_timeout(VarInt::from_u64(idle).ok().map(IdleTimeout::from))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_window_bytes))
            .send_window(self.send_window_bytes)
            .datagram_receive_buffer_size(None)
            .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
            .enable_segmentation_offload(self.segmentation_offload);
        config
    }

    /// The cloud's side: the edge opens one control stream and its data streams.
    pub(crate) fn server(&self) -> TransportConfig {
        let mut config = self.common();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams_max));
        config
    }

    /// The edge's side: it keeps the connection alive and accepts no streams.
    pub(crate) fn client(&self) -> TransportConfig {
        let mut config = self.common();
        let keep_alive = (!self.keep_alive.is_zero()).then_some(self.keep_alive);
        config
            .keep_alive_interval(keep_alive)
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        config
    }
}
