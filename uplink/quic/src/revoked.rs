//! The revocation list: a text file that the operator edits, read again when it changes.
//!
//! One entry a line: an edge's name (every certificate of that name) or a certificate's serial
//! number as `serial:HEX`. `#` starts a comment. A line that is neither refuses the whole file and
//! the list in force stays: half a list would let somebody in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use headwater_proto::EdgeName;

use crate::name::Subject;

/// Who may no longer connect.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Revoked {
    edges: HashSet<String>,
    serials: HashSet<String>,
}

/// Why a list was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file exists but could not be read.
    #[error("revocation list {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that is no entry.
    #[error("revocation list {path} line {line}: {text:?} is neither an edge name nor serial:HEX")]
    Line {
        /// The file.
        path: PathBuf,
        /// 1 for the first line.
        line: usize,
        /// The line.
        text: String,
    },
}

impl Revoked {
    /// Reads the file; a missing file is an empty list.
    pub fn read(path: &Path) -> Result<Revoked, RevokedError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Revoked::parse(&text, path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Revoked::default()),
            Err(source) => Err(RevokedError::Io {
                path: path.into(),
                source,
            }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Revoked, RevokedError> {
        let mut revoked = Revoked::default();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let serial = entry
                .strip_prefix("serial:")
                .map(|hex| hex.trim_start_matches('0'));
            match serial {
                Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    let even = if hex.len() % 2 == 1 {
                        format!("0{hex}")
                    } else {
                        hex.to_owned()
                    };
                    revoked.serials.insert(even.to_ascii_lowercase());
                }
                None if EdgeName::new(entry).is_ok() => {
                    revoked.edges.insert(entry.to_owned());
                }
                _ => {
                    let (path, text) = (path.into(), entry.to_owned());
                    return Err(RevokedError::Line {
                        path,
                        line: index + 1,
                        text,
                    });
                }
            }
        }
        Ok(revoked)
    }

    /// Whether this certificate is on the list.
    pub fn holds(&self, subject: &Subject) -> bool {
        self.edges.contains(subject.edge.as_str()) || self.serials.contains(&subject.serial)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.edges.len() + self.serials.len()
    }

    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Notices that the list's file changed.
pub(crate) struct RevokedFile {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl RevokedFile {
    pub(crate) fn new(path: PathBuf) -> RevokedFile {
        RevokedFile { path, seen: None }
    }

    /// The new list when the file changed since the last call.
    pub(crate) fn changed(&mut self) -> Option<Result<Revoked, RevokedError>> {
        let stamp = std::fs::metadata(&self.path)
            .and_then(|meta| Ok((meta.modified()?, meta.len())))
            .ok();
        if stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        Some(Revoked::read(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let path = Path::new("revoked.txt");
        let list = Revoked::parse("# old\ngw-1\nserial:00AbC # lost\n\n", path).unwrap();
        let subject = |edge: &str, serial: &str| Subject {
            edge: EdgeName::new(edge).unwrap(),
            serial: serial.into(),
        };
        assert_eq!(list.len(), 2);
        assert!(list.holds(&subject("gw-1", "11")));
        assert!(list.holds(&subject("gw-2", "0abc")));
        assert!(!list.holds(&subject("gw-2", "11")));
        for bad in ["gw 1", "serial:", "serial:xyz", "serial:00"] {
            assert!(Revoked::parse(bad, path).is_err(), "{bad}");
        }
    }
}
