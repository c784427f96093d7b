//! `[[listeners]]` and `[access]`: where MQTT clients come in, and which files say who they are and
//! what they may do.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::check::{positive, socket, value};
use super::{Config, ConfigError};

/// `[[listeners]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// host:port.
    pub address: String,
    /// MQTT in a WebSocket instead of bare.
    pub websocket: bool,
    /// Web pages that may connect, by origin; empty: all. Programs send no origin, and may.
    pub websocket_origins: Vec<String>,
    /// PEM file with the server's certificate chain; empty: no TLS.
    pub certificate: String,
    /// PEM file with its key.
    pub key: String,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file with the CAs of client certificates.
    pub client_ca: String,
    /// PEM file with the revocation lists of those CAs; empty: nothing is revoked.
    pub client_crl: String,
    /// The part of the client's certificate that is its user name.
    pub certificate_user: CertificateUser,
    /// Whether clients without a login are let in.
    pub anonymous: Anonymous,
    /// Connections at most; 0: `mqtt.connections_max`.
    pub connections_max: usize,
    /// New connections a second at most; 0: no limit.
    pub connects_per_second: u32,
    /// Publishes a second of one client; 0: no limit.
    pub messages_per_second: u32,
    /// A packet of a client at most.
    pub packet_bytes_max: usize,
    /// Instead of `mqtt.receive_maximum` if lower; 0: that.
    pub receive_maximum: u16,
    /// Instead of `mqtt.inflight_max` if lower; 0: that.
    pub inflight_max: u16,
    /// Instead of `mqtt.queue_bytes_max` if lower; 0: that. Holds for sessions whose clients came by this
    /// listener last, until they come by another.
    pub queue_bytes_max: usize,
}

/// `listeners.client_certificates`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// They are not asked for.
    None,
    /// They are asked for; one that is shown must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// `listeners.certificate_user`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateUser {
    /// Certificates name no user.
    None,
    /// The subject's common name.
    Cn,
    /// The only DNS name, or else URI, among the alternative names.
    San,
}

/// `listeners.anonymous`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anonymous {
    /// Only if the listener's address is a loopback address.
    Loopback,
    /// Whatever the address.
    Always,
    /// Not even there.
    Never,
}

/// `[access]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// User names and hashed passwords; empty: no user has a password.
    pub password_file: String,
    /// Who may publish and read what; empty: everybody everything.
    pub acl_file: String,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            address: "127.0.0.1:1883".into(),
            websocket: false,
            websocket_origins: Vec::new(),
            certificate: String::new(),
            key: String::new(),
            client_certificates: ClientCertificates::None,
            client_ca: String::new(),
            client_crl: String::new(),
            certificate_user: CertificateUser::None,
            anonymous: Anonymous::Loopback,
            connections_max: 0,
            connects_per_second: 0,
            messages_per_second: 0,
            packet_bytes_max: headwater_mqtt::limits::PACKET_BYTES_MAX,
            receive_maximum: 0,
            inflight_max: 0,
            queue_bytes_max: 0,
        }
    }
}

impl Listener {
    /// A plain one.
    pub fn at(address: impl Into<String>) -> Listener {
        Listener {
            address: address.into(),
            ..Listener::default()
        }
    }

    /// Whether clients speak TLS to it.
    pub fn is_tls(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// Whether somebody without a login is let in.
    pub fn lets_anybody_in(&self, address: SocketAddr) -> bool {
        match self.anonymous {
            Anonymous::Loopback => address.ip().is_loopback(),
            Anonymous::Always => true,
            Anonymous::Never => false,
        }
    }

    fn check(&self, index: usize, passwords: bool) -> Result<(), ConfigError> {
        let key = |name: &str| format!("listeners[{index}].{name}");
        let address = socket(&key("address"), &self.address)?;
        self.check_tls(&key)?;
        self.check_origins(&key)?;
        positive(&key("packet_bytes_max"), self.packet_bytes_max as u64)?;
        if self.packet_bytes_max > headwater_mqtt::limits::PACKET_BYTES_MAX {
            let valid = format!("at most {}", headwater_mqtt::limits::PACKET_BYTES_MAX);
            return Err(value(
                &key("packet_bytes_max"),
                self.packet_bytes_max,
                valid,
            ));
        }
        let by_certificate = self.certificate_user != CertificateUser::None;
        if !self.lets_anybody_in(address) && !passwords && !by_certificate {
            let valid = format!(
                "nobody could log in at {}: set access.password_file, or certificate_user, or \
                 anonymous = \"always\" to let everybody in",
                self.address
            );
            let shown = match self.anonymous {
                Anonymous::Never => "never",
                _ => "loopback",
            };
            return Err(value(&key("anonymous"), shown, valid));
        }
        Ok(())
    }

    fn check_origins(&self, key: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
        let partial = |origin: &&String| match origin.split_once("://") {
            Some((scheme, host)) => scheme.is_empty() || host.is_empty() || host.contains('/'),
            None => true,
        };
        let key = key("websocket_origins");
        match self.websocket_origins.first() {
            Some(origin) if !self.websocket => {
                Err(value(&key, origin, "only with websocket = true".into()))
            }
            _ => match self.websocket_origins.iter().find(partial) {
                Some(origin) => {
                    let valid = "scheme, host and perhaps port: https://panel.example".into();
                    Err(value(&key, origin, valid))
                }
                None => Ok(()),
            },
        }
    }

    fn check_tls(&self, key: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
        let needs =
            |name: &str, shown: &str, valid: &str| Err(value(&key(name), shown, valid.into()));
        let wants_clients = self.client_certificates != ClientCertificates::None;
        match (self.is_tls(), self.key.is_empty()) {
            (true, true) => return needs("key", "", "the key of certificate, a PEM file"),
            (false, false) => return needs("certificate", "", "needed with key, a PEM file"),
            _ => {}
        }
        if wants_clients && !self.is_tls() {
            return needs(
                "certificate",
                "",
                "needed with client_certificates, a PEM file",
            );
        }
        if wants_clients && self.client_ca.is_empty() {
            let valid = "needed with client_certificates: the CAs that sign them, a PEM file";
            return needs("client_ca", "", valid);
        }
        let judges_clients = !self.client_ca.is_empty() || !self.client_crl.is_empty();
        if !wants_clients && judges_clients {
            let valid =
                "\"optional\" or \"required\" with client_ca and client_crl, or nobody is asked";
            return needs("client_certificates", "none", valid);
        }
        if !wants_clients && self.certificate_user != CertificateUser::None {
            let valid = "\"optional\" or \"required\" with certificate_user";
            return needs("client_certificates", "none", valid);
        }
        Ok(())
    }
}

impl Config {
    pub(super) fn check_listeners(&self) -> Result<(), ConfigError> {
        if self.listeners.is_empty() {
            let valid = "at least one table [[listeners]]".into();
            return Err(value("listeners", "[]", valid));
        }
        let passwords = !self.access.password_file.is_empty();
        let mut all = self.listeners.iter().enumerate();
        all.try_for_each(|(index, listener)| listener.check(index, passwords))
    }
}
