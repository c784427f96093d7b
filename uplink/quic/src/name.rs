//! How a certificate carries an edge's name.

use headwater_proto::{EdgeName, EdgeNameError};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Every edge certificate carries its name as this URI, with the name at the end.
pub(crate) const EDGE_URI_PREFIX: &str = "headwater:edge:";

/// The URI that stands in this edge's certificate.
pub(crate) fn uri_of(edge: &EdgeName) -> String {
    format!("{EDGE_URI_PREFIX}{edge}")
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
    Name(#[from] EdgeNameError),
}

impl Subject {
    /// Reads the edge's name (SAN URI) and the serial number.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Subject, SubjectError> {
        let parsed = EndEntityCert::try_from(certificate)
            .map_err(|e| SubjectError::Unreadable(e.to_string()))?;
        let names: Vec<&str> = parsed
            .valid_uri_names()
            .filter_map(|uri| uri.strip_prefix(EDGE_URI_PREFIX))
            .collect();
        match names[..] {
            [name] => Ok(Subject {
                edge: EdgeName::new(name)?,
                serial: hex(parsed.serial()),
            }),
            _ => Err(SubjectError::EdgeCount(names.len())),
        }
    }
}

/// Lower-case hex without leading zero bytes, so that DER's sign byte does not matter.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let significant = bytes
        .iter()
        .position(|b| *b != 0)
        .map_or(&[][..], |at| &bytes[at..]);
    significant.iter().map(|b| format!("{b:02x}")).collect()
}
