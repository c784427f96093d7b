//! Who may do what. The machine asks; passwords and files are the shell's.

use bytes::Bytes;

use crate::ConnInfo;

/// User name and password of a CONNECT. The password is binary data (section 3.1.3.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Bytes>,
}

/// A connected client as access rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub info: &'a ConnInfo,
    pub client_id: &'a str,
    pub username: Option<&'a str>,
}

/// Access rules, asked for each CONNECT's will, PUBLISH and SUBSCRIBE; must be quick.
pub trait Access: Send {
    fn may_publish(&self, who: Identity<'_>, topic: &str) -> bool;
    fn may_subscribe(&self, who: Identity<'_>, filter: &str) -> bool;
    /// Asked for each delivery, if [`Access::checks_delivery`]: a filter that may be subscribed to can
    /// match topics that may not be read, and rules change after a SUBSCRIBE.
    fn may_receive(&self, _: Identity<'_>, _topic: &str) -> bool {
        true
    }
    /// Whether deliveries are asked for; looked at when the rules are set.
    fn checks_delivery(&self) -> bool {
        false
    }
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn may_publish(&self, _: Identity<'_>, _: &str) -> bool {
        true
    }
    fn may_subscribe(&self, _: Identity<'_>, _: &str) -> bool {
        true
    }
}
