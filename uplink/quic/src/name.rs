//! Names of edges, and how a certificate carries them.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The longest edge name: it must fit a DNS label, since it also stands in the certificate as one.
pub const EDGE_NAME_BYTES_MAX: usize = 63;

/// Every edge certificate carries its name as this URI, with the name at the end.
pub(crate) const EDGE_URI_PREFIX: &str = "headwater:edge:";

/// A checked edge name: 1 to 63 of `[a-zA-Z0-9-_]`, not starting with `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeName(Arc<str>);

/// Why a text is no edge name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("edge name {0:?} is not valid: 1 to 63 of letters, digits, '-' and '_', not starting with '-'")]
pub struct NameError(pub String);

impl EdgeName {
    /// Checks the name.
    pub fn new(name: &str) -> Result<EdgeName, NameError> {
        let valid_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let valid = !name.is_empty()
            && name.len() <= EDGE_NAME_BYTES_MAX
            && !name.starts_with('-')
            && name.bytes().all(valid_byte);
        if valid { Ok(EdgeName(name.into())) } else { Err(NameError(shortened(name))) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that stands in this edge's certificate.
    pub fn uri(&self) -> String {
        format!("{EDGE_URI_PREFIX}{}", self.0)
    }
}

impl fmt::Debug for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for EdgeName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<EdgeName, NameError> {
        EdgeName::new(s)
    }
}

/// Who a certificate speaks for. It says nothing about whether the certificate is genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The edge named by the certificate's only `headwater:edge:` URI.
    pub edge: EdgeName,
    /// The serial number in lower-case hex, as the revocation list writes it.
    pub serial: String,
}

/// Why a certificate names no edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not an X.509 v3 certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// No `headwater:edge:` URI, or more than one.
    #[error("the certificate names {0} edges where it must name one (SAN URI headwater:edge:NAME)")]
    EdgeCount(usize),
    /// The URI's name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Subject {
    /// Reads the edge's name (SAN URI) and the serial number.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Subject, SubjectError> {
        let parsed = EndEntityCert::try_from(certificate)
            .map_err(|e| SubjectError::Unreadable(e.to_string()))?;
        let names: Vec<&str> =
            parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(EDGE_URI_PREFIX)).collect();
        match names[..] {
            [name] => Ok(Subject { edge: EdgeName::new(name)?, serial: hex(parsed.serial()) }),
            _ => Err(SubjectError::EdgeCount(names.len())),
        }
    }
}

/// Lower-case hex without leading zero bytes, so that DER's sign byte does not matter.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let significant = bytes.iter().position(|b| *b != 0).map_or(&[][..], |at| &bytes[at..]);
    significant.iter().map(|b| format!("{b:02x}")).collect()
}

/// A foreign text, cut so that a log line stays a line.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["gw-07", "a", "A_9", &"x".repeat(63)] {
            assert_eq!(EdgeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a.b", "a b", "ä", "a/b", "a\n", &"x".repeat(64)] {
            assert!(EdgeName::new(bad).is_err(), "{bad:?}");
        }
    }
}
