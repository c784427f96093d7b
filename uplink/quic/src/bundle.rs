//! The bundle: the one file an edge needs to reach its cloud.
//!
//! ```text
//! # comment
//! headwater-bundle = 1
//! name = gw-07
//! addresses = cloud-a.example:4433, 203.0.113.7:4433
//!
//! [certificate]
//! -----BEGIN CERTIFICATE-----  ...
//! [key]
//! -----BEGIN PRIVATE KEY-----  ...
//! [ca]
//! -----BEGIN CERTIFICATE-----  ...
//! ```
//!
//! Fields come first, then the three sections, each exactly once. Anything else is an error that
//! names the field: a bundle is copied by hand and a half-copied one must not half work.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use headwater_proto::EdgeName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::ca::{CaError, Identity, write_durably};
use crate::name::Subject;

/// A bundle is a few kilobytes; more is not one.
pub const BUNDLE_BYTES_MAX: u64 = 64 * 1024;
/// More uplink addresses than this are a mistake.
pub const ADDRESSES_MAX: usize = 16;

const VERSION: &str = "1";

/// Everything an edge needs: see the module's docs for the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The edge's name, the same as in the certificate.
    pub name: EdgeName,
    /// `host:port` of the cloud's uplink listeners, in the order to try them.
    pub addresses: Vec<String>,
    /// The edge's certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM. Secret.
    pub key_pem: String,
    /// The cloud's CA, PEM.
    pub ca_pem: String,
}

/// Why a bundle was refused; the text names the field.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file could not be read.
    #[error("bundle {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A field is missing, doubled, unknown or wrong.
    #[error("bundle field {field}: {reason}")]
    Field {
        /// The field or section.
        field: String,
        /// What is wrong, and what would be valid.
        reason: String,
    },
    /// A line that is neither field, section nor comment.
    #[error("bundle line {line}: {reason}")]
    Line {
        /// 1 for the first line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Bundle {
    /// Reads and checks a bundle file.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let io = |source| BundleError::Io {
            path: path.into(),
            source,
        };
        let length = fs::metadata(path).map_err(io)?.len();
        if length > BUNDLE_BYTES_MAX {
            let reason = format!("is {length} bytes, a bundle has {BUNDLE_BYTES_MAX} at most");
            return Err(io(std::io::Error::other(reason)));
        }
        Bundle::parse(&fs::read_to_string(path).map_err(io)?)
    }

    /// Writes the bundle with mode 0600: it holds a private key.
    pub fn write(&self, path: &Path) -> Result<(), CaError> {
        write_durably(path, self.to_text().as_bytes(), 0o600)
    }

    /// Parses and checks the text of a bundle, its certificate included.
    pub fn parse(text: &str) -> Result<Bundle, BundleError> {
        let mut raw = Raw::split(text)?;
        let version = raw.take("headwater-bundle")?;
        if version != VERSION {
            return Err(field(
                "headwater-bundle",
                format!("{version:?} is not known; valid: 1"),
            ));
        }
        let name = EdgeName::new(&raw.take("name")?).map_err(|e| field("name", e.to_string()))?;
        let bundle = Bundle {
            name,
            addresses: parse_addresses(&raw.take("addresses")?)?,
            certificate_pem: raw.take("[certificate]")?,
            key_pem: raw.take("[key]")?,
            ca_pem: raw.take("[ca]")?,
        };
        if let Some((unknown, _)) = raw.fields.first() {
            let valid = "headwater-bundle, name, addresses, [certificate], [key], [ca]";
            return Err(field(unknown, format!("is not known; valid: {valid}")));
        }
        bundle.identity()?;
        Ok(bundle)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        format!(
            "# Headwater edge bundle. Keep it secret: it holds this edge's private key.\n\
             headwater-bundle = {VERSION}\nname = {}\naddresses = {}\n\n\
             [certificate]\n{}\n[key]\n{}\n[ca]\n{}",
            self.name,
            self.addresses.join(", "),
            self.certificate_pem,
            self.key_pem,
            self.ca_pem
        )
    }

    /// The decoded certificate, key and CA; checks that the certificate is this edge's.
    pub fn identity(&self) -> Result<Identity, BundleError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| field("[certificate]", e.to_string()))?;
        let Some(leaf) = chain.first() else {
            return Err(field("[certificate]", "holds no PEM certificate".into()));
        };
        let subject = Subject::of(leaf).map_err(|e| field("[certificate]", e.to_string()))?;
        if subject.edge != self.name {
            let reason = format!("is of edge {}, the bundle says {}", subject.edge, self.name);
            return Err(field("[certificate]", reason));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|e| field("[key]", e.to_string()))?;
        let ca = CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
            .map_err(|e| field("[ca]", e.to_string()))?;
        Ok(Identity {
            chain,
            key,
            ca,
            reset_key: None,
        })
    }
}

/// The key must not reach a log through `{:?}`.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Bundle");
        shown
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The fields and sections of a text, not yet judged.
struct Raw {
    fields: Vec<(String, String)>,
}

impl Raw {
    fn split(text: &str) -> Result<Raw, BundleError> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut in_section = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') && line.ends_with(']') {
                in_section = true;
                fields.push((line.to_owned(), String::new()));
            } else if in_section {
                let (_, body) = fields.last_mut().expect("a section was just pushed");
                if !line.is_empty() {
                    body.push_str(line);
                    body.push('\n');
                }
            } else if let Some((key, value)) = line.split_once('=') {
                fields.push((key.trim().to_owned(), value.trim().to_owned()));
            } else if !line.is_empty() && !line.starts_with('#') {
                let reason = "expected `field = value`, `[section]` or `# comment`".into();
                return Err(BundleError::Line {
                    line: index + 1,
                    reason,
                });
            }
        }
        Ok(Raw { fields })
    }

    fn take(&mut self, name: &str) -> Result<String, BundleError> {
        let found: Vec<usize> = (0..self.fields.len())
            .filter(|at| self.fields[*at].0 == name)
            .collect();
        match found[..] {
            [] => Err(field(name, "is missing".into())),
            [at] => match self.fields.remove(at).1 {
                value if value.is_empty() => Err(field(name, "is empty".into())),
                value => Ok(value),
            },
            _ => Err(field(name, format!("stands {} times", found.len()))),
        }
    }
}

fn parse_addresses(text: &str) -> Result<Vec<String>, BundleError> {
    let addresses: Vec<String> = text.split(',').map(|a| a.trim().to_owned()).collect();
    if addresses.len() > ADDRESSES_MAX {
        return Err(field("addresses", format!("more than {ADDRESSES_MAX}")));
    }
    match addresses.iter().find(|a| !is_address(a)) {
        Some(bad) => Err(field("addresses", format!("{bad:?} is not host:port"))),
        None => Ok(addresses),
    }
}

/// `host:port` with a port above 0; IPv6 in brackets.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let plain = !host.is_empty() && !host.contains([':', '[', ']', ' ', '/']);
    (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn field(name: &str, reason: String) -> BundleError {
    BundleError::Field {
        field: name.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ca;

    fn sample() -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path()).unwrap();
        let addresses = ["cloud.example:4433".to_owned(), "[::1]:4433".to_owned()];
        ca.issue_edge(&EdgeName::new("gw-07").unwrap(), &addresses)
            .unwrap()
    }

    #[test]
    fn text_and_back() {
        let bundle = sample();
        assert_eq!(Bundle::parse(&bundle.to_text()).unwrap(), bundle);
        assert!(!format!("{bundle:?}").contains("PRIVATE"));
    }

    /// Each damage must be refused with a text that names the damaged field.
    #[test]
    fn errors_name_the_field() {
        let good = sample();
        let other = sample();
        let text = good.to_text();
        let cases = [
            (
                text.replace("headwater-bundle = 1", "headwater-bundle = 2"),
                "headwater-bundle",
            ),
            (text.replace("name = gw-07\n", ""), "name"),
            (
                text.replace("name = gw-07", "name = gw-08"),
                "[certificate]",
            ),
            (text.replace("name = gw-07", "name = gw 07"), "name"),
            (
                text.replace("name = gw-07", "name = gw-07\nname = gw-07"),
                "name",
            ),
            (
                text.replace("cloud.example:4433", "cloud.example"),
                "addresses",
            ),
            (text.replace("[key]", "[kei]"), "[key]"),
            (
                text.replace("name = gw-07", "name = gw-07\ncolour = red"),
                "colour",
            ),
            (text.replace(&good.key_pem, "nonsense"), "[key]"),
            (text.replace(&good.ca_pem, "nonsense"), "[ca]"),
            (text.replace("name = gw-07", "name gw-07"), "line 3"),
        ];
        for (damaged, names) in cases {
            let error = Bundle::parse(&damaged).unwrap_err().to_string();
            assert!(error.contains(names), "{names}: {error}");
        }
        assert_ne!(good.key_pem, other.key_pem);
    }

    #[test]
    fn addresses() {
        for good in ["a:1", "a.b:65535", "1.2.3.4:5", "[::1]:9"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["a", "a:", "a:0", "a:65536", ":1", "::1:9", "[]:1", "a b:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
