//! The revocation list: a text file that the operator edits, read again when it changes.
//!
//! One entry a line: an edge's name (every certificate of that name) or a certificate's serial
//! number as `serial:HEX`. `#` starts a comment. A line that is neither refuses the whole file: half a
//! list would let somebody in.
//!
//! Beside it lies a copy, which nobody edits:
//! ```text
//! revoked.txt
//! revoked.copy.txt     # headwater revoked copy 1 SHA256 MTIME_NS
//!                      then the list as it was read last, byte for byte
//! revoked.damaged.txt  a damaged list, moved aside when somebody is revoked
//! ```
//! What differs from the copy was edited, unless the file's time of change is still the one that the
//! copy names: then it rotted. A list that rotted, that does not parse or that is gone is passed over
//! for the copy, under an error that names it. With neither there is no list, and without a list
//! nobody gets in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use headwater_proto::EdgeName;

use crate::ca::{CaError, write_durably};
use crate::name::{Subject, hex};

/// Starts the copy; the number is the format's version.
const COPY_HEAD: &str = "# headwater revoked copy 1 ";

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
    /// Neither the list nor its copy counts. The text is for the operator.
    #[error(
        "no revocation list, so no edge gets in: {path}: {what}. Write {path} anew, one revoked edge \
         a line, or a comment if there is none; or restore it or {copy} from a backup"
    )]
    Damaged {
        /// The list.
        path: PathBuf,
        /// Its copy.
        copy: PathBuf,
        /// What is wrong with both.
        what: String,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] CaError),
}

impl Revoked {
    /// The list that counts: the file's, or the copy's where the file is damaged, which is said in
    /// the log. Neither was ever there: an empty list.
    pub fn read(path: &Path) -> Result<Revoked, RevokedError> {
        load(path).map(|list| list.revoked)
    }

    /// Puts an edge on the list, durably, unless it is there.
    pub fn add(path: &Path, edge: &EdgeName) -> Result<(), RevokedError> {
        let List {
            mut text,
            revoked,
            is_damaged,
        } = load(path)?;
        if revoked.edges.contains(edge.as_str()) && !is_damaged {
            return Ok(());
        }
        if !revoked.edges.contains(edge.as_str()) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(edge.as_str());
            text.push('\n');
        }
        let io = |source| RevokedError::Io {
            path: path.into(),
            source,
        };
        if is_damaged && path.exists() {
            std::fs::rename(path, path.with_extension("damaged.txt")).map_err(io)?;
        }
        write_durably(path, text.as_bytes(), 0o644)?;
        keep_copy(path, &text)
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

/// A list with the text that it was made from.
struct List {
    revoked: Revoked,
    text: String,
    /// It is the copy's, or the copy is no good.
    is_damaged: bool,
}

/// One of the two files.
struct Half {
    text: String,
    revoked: Revoked,
    /// Of the list, in ns since 1970.
    changed_ns: u128,
}

fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("copy.txt")
}

/// The list that counts; see the [module](self).
fn load(path: &Path) -> Result<List, RevokedError> {
    let (listed, copied) = (read_list(path), read_copy(path));
    let whole = |half: Half| List {
        revoked: half.revoked,
        text: half.text,
        is_damaged: false,
    };
    let damaged = |half: Half, what: &str| {
        tracing::error!(
            path = %path.display(), what, entries = half.revoked.len(),
            "the revocation list is damaged; its copy counts"
        );
        List {
            is_damaged: true,
            ..whole(half)
        }
    };
    let none = |what: String| RevokedError::Damaged {
        path: path.into(),
        copy: copy_of(path),
        what,
    };
    let list = match (listed, copied) {
        (Ok(None), Ok(None)) => {
            return Ok(List {
                revoked: Revoked::default(),
                text: String::new(),
                is_damaged: false,
            });
        }
        (Ok(Some(list)), Ok(Some(copy))) if list.text == copy.text => {
            if list.changed_ns == copy.changed_ns {
                return Ok(whole(list));
            }
            whole(list)
        }
        (Ok(Some(list)), Ok(Some(copy))) if list.changed_ns == copy.changed_ns => {
            return Ok(damaged(copy, "it is not what was written"));
        }
        (Ok(Some(list)), Ok(_)) => whole(list),
        // Cut to nothing it would look whole.
        (Ok(Some(list)), Err(copy)) if list.text.trim().is_empty() => {
            return Err(none(format!("it is empty, and: {copy}")));
        }
        (Ok(Some(list)), Err(copy)) => {
            tracing::error!(path = %copy_of(path).display(), what = copy, "damaged; made anew");
            whole(list)
        }
        (Ok(None), Ok(Some(copy))) if copy.revoked.is_empty() => whole(copy),
        (Ok(None), Ok(Some(copy))) => return Ok(damaged(copy, "it is gone")),
        (Err(error), Ok(Some(copy))) => return Ok(damaged(copy, &error.to_string())),
        (Ok(None), Err(copy)) => return Err(none(format!("it is gone, and: {copy}"))),
        (Err(error), Ok(None)) => return Err(error),
        (Err(error), Err(copy)) => return Err(none(format!("{error}, and: {copy}"))),
    };
    if path.exists() {
        // The list counts without it.
        if let Err(error) = keep_copy(path, &list.text) {
            tracing::warn!(%error, "no copy of the revocation list");
        }
    }
    Ok(list)
}

fn changed_ns(path: &Path) -> std::io::Result<u128> {
    let changed = std::fs::metadata(path)?.modified()?;
    let since = changed.duration_since(SystemTime::UNIX_EPOCH);
    Ok(since.map_or(0, |since| since.as_nanos()))
}

/// `None`: there is none.
fn read_list(path: &Path) -> Result<Option<Half>, RevokedError> {
    let read = std::fs::read_to_string(path).and_then(|text| Ok((text, changed_ns(path)?)));
    match read {
        Ok((text, changed_ns)) => Ok(Some(Half {
            revoked: Revoked::parse(&text, path)?,
            text,
            changed_ns,
        })),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RevokedError::Io {
            path: path.into(),
            source,
        }),
    }
}

/// `None`: there is none. An error says why it does not count.
fn read_copy(path: &Path) -> Result<Option<Half>, String> {
    let copy = copy_of(path);
    let said = |what: &dyn std::fmt::Display| format!("{}: {what}", copy.display());
    let whole = match std::fs::read_to_string(&copy) {
        Ok(whole) => whole,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(said(&e)),
    };
    let parsed = || {
        let (head, text) = whole.split_once('\n')?;
        let (digest, changed) = head.strip_prefix(COPY_HEAD)?.split_once(' ')?;
        let changed_ns = changed.parse().ok()?;
        (digest == digest_of(changed_ns, text)).then_some((changed_ns, text))
    };
    let (changed_ns, text) = parsed().ok_or_else(|| said(&"its checksum is wrong"))?;
    Ok(Some(Half {
        revoked: Revoked::parse(text, &copy).map_err(|e| said(&e))?,
        text: text.to_owned(),
        changed_ns,
    }))
}

fn keep_copy(path: &Path, text: &str) -> Result<(), RevokedError> {
    let copy = copy_of(path);
    let changed = changed_ns(path).map_err(|source| RevokedError::Io {
        path: path.into(),
        source,
    })?;
    let digest = digest_of(changed, text);
    let whole = format!("{COPY_HEAD}{digest} {changed}\n{text}");
    write_durably(&copy, whole.as_bytes(), 0o644)?;
    Ok(())
}

fn digest_of(changed_ns: u128, text: &str) -> String {
    let said = format!("{changed_ns}\n{text}");
    let digest = ring::digest::digest(&ring::digest::SHA256, said.as_bytes());
    hex(digest.as_ref())
}

/// Notices that the list's file or its copy changed.
pub(crate) struct RevokedFile {
    path: PathBuf,
    seen: [Option<(SystemTime, u64)>; 2],
}

impl RevokedFile {
    /// The list as it is, and who notices when it changes.
    pub(crate) fn open(path: PathBuf) -> (RevokedFile, Result<Revoked, RevokedError>) {
        let mut file = RevokedFile {
            path,
            seen: [None; 2],
        };
        let read = file.read();
        (file, read)
    }

    /// The new list when one of the files changed since the last call.
    pub(crate) fn changed(&mut self) -> Option<Result<Revoked, RevokedError>> {
        (self.stamps() != self.seen).then(|| self.read())
    }

    fn read(&mut self) -> Result<Revoked, RevokedError> {
        let before = self.stamps();
        let read = Revoked::read(&self.path);
        // A copy that was written now is not news; an edit meanwhile is.
        self.seen = [before[0], self.stamps()[1]];
        read
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [self.path.clone(), copy_of(&self.path)].map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
    }
}

#[cfg(test)]
mod tests;
