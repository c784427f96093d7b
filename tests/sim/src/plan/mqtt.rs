//! What MQTT clients do beyond publishing and subscribing.

use crate::rng::Rng;

/// Drawn beside the rest of the plan, so that a world without any of it is what it was before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MqttPlan {
    /// Some messages are retained, and some delete what is.
    pub retains: bool,
    /// Subscribers that come for what is retained.
    pub watchers: usize,
    /// Publishers leave wills.
    pub wills: bool,
    /// Some share a subscription.
    pub shares: bool,
    /// Subscribers trust a session that was there with their subscription, and some sessions end.
    pub sessions: bool,
}

impl MqttPlan {
    /// `tame`: nothing hurts the uplink so that it takes broker state back.
    pub fn of(seed: u64, tame: bool) -> MqttPlan {
        let mut rng = Rng::new(seed ^ 0x6d71_7474_706c_616e);
        let retains = rng.one_in(2);
        let watchers = 1 + rng.index(2);
        let sessions = rng.one_in(2);
        let shares = rng.one_in(2);
        let wills = rng.one_in(2);
        if !tame {
            return MqttPlan::default();
        }
        MqttPlan {
            retains,
            watchers: if retains { watchers } else { 0 },
            sessions,
            shares,
            wills,
        }
    }
}
