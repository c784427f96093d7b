//! Who clients are and what they may do: passwords, access rules, and the files that say so.
//!
//! | module | what it is |
//! |---|---|
//! | [`passwords`] | the password file |
//! | [`logins`] | checking passwords beside the event loop |
//! | [`acl`] | access rules |
//! | [`files`] | every file that may change while the node runs: read at the start, watched since |

pub mod acl;
pub mod files;
pub mod logins;
pub mod passwords;

use std::sync::Arc;

use headwater_mqtt::Identity;

use acl::{Acl, Act, Who};

/// The access rules as the MQTT machine asks for them.
pub struct ByAcl {
    acl: Arc<Acl>,
    passwords: bool,
}

impl ByAcl {
    /// `passwords`: whether a user name in CONNECT was checked; if not, it counts for nothing.
    pub fn new(acl: Arc<Acl>, passwords: bool) -> ByAcl {
        ByAcl { acl, passwords }
    }

    fn who<'a>(&self, of: Identity<'a>) -> Who<'a> {
        let certificate = of.info.certificate_user.as_deref();
        Who {
            client: of.client_id,
            user: certificate.or(of.username.filter(|_| self.passwords)),
        }
    }
}

impl headwater_mqtt::Access for ByAcl {
    fn may_publish(&self, who: Identity<'_>, topic: &str) -> bool {
        self.acl.allows(self.who(who), Act::Write, topic)
    }

    fn may_subscribe(&self, who: Identity<'_>, filter: &str) -> bool {
        self.acl.allows_filter(self.who(who), filter)
    }

    fn may_receive(&self, who: Identity<'_>, topic: &str) -> bool {
        self.acl.allows(self.who(who), Act::Read, topic)
    }

    fn checks_delivery(&self) -> bool {
        true
    }
}
