//! Every file that may change while the node runs: read at the start, and again when one changed or
//! somebody says so (SIGHUP).
//!
//! A change is seen by time, size and inode, [`LOOK_EVERY`], and taken once two looks find the same:
//! nobody is half-way through writing it then. Files that belong together, such as a certificate and
//! its key, are read together. What is broken is named in the log once, and what was in force stays.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::acl::{self, Acl};
use super::passwords::{self, Passwords};
use crate::config::{Config, Listener};
use crate::tls::Tls;

/// See the module's docs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {path:?}: {reason}")]
pub struct FileError {
    /// The setting that names the file.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a file, or several that belong together, came to.
#[derive(Debug, Clone)]
pub enum News {
    /// The handshakes of a listener.
    Tls {
        /// Its place in the settings.
        listener: u16,
        /// What its handshakes use.
        tls: Tls,
    },
    /// The password file.
    Passwords(Arc<Passwords>),
    /// The access rules.
    Acl(Arc<Acl>),
}

/// Files that are read together.
enum Source {
    Tls(u16, Box<Listener>),
    Passwords(String),
    Acl(String),
}

/// What tells that a file is another one: modified (s, ns), size, inode. `None`: it is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

struct Watched {
    source: Source,
    /// Of what was read last, in force or broken.
    read: Vec<Stamp>,
    /// As the last look found it.
    seen: Vec<Stamp>,
}

/// See the [module](self).
pub struct Files {
    all: Vec<Watched>,
}

impl Files {
    /// The files that the settings name, not read yet.
    pub fn of(config: &Config) -> Files {
        let listeners = config.listeners.iter().zip(0..).filter(|(l, _)| l.is_tls());
        let mut sources: Vec<Source> = listeners
            .map(|(listener, number)| Source::Tls(number, Box::new(listener.clone())))
            .collect();
        let access = &config.access;
        if !access.password_file.is_empty() {
            sources.push(Source::Passwords(access.password_file.clone()));
        }
        if !access.acl_file.is_empty() {
            sources.push(Source::Acl(access.acl_file.clone()));
        }
        let watched = |source: Source| Watched {
            read: source.stamps(),
            seen: Vec::new(),
            source,
        };
        Files {
            all: sources.into_iter().map(watched).collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Reads all of them.
    pub fn read(&self) -> Result<Vec<News>, FileError> {
        self.all
            .iter()
            .map(|watched| watched.source.read())
            .collect()
    }

    /// Sends what changes, until nobody listens or nobody can send `read_now` any more.
    pub fn watch(mut self, read_now: &Receiver<()>, news: &UnboundedSender<News>) {
        loop {
            let all = match read_now.recv_timeout(LOOK_EVERY) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for watched in &mut self.all {
                if let Some(changed) = watched.look(all) {
                    if news.send(changed).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl Watched {
    /// What the files say now, if they are to be read and are not broken.
    fn look(&mut self, now: bool) -> Option<News> {
        let stamps = self.source.stamps();
        let is_still = std::mem::replace(&mut self.seen, stamps.clone()) == stamps;
        if !now && (!is_still || stamps == self.read) {
            return None;
        }
        self.read = stamps;
        match self.source.read() {
            Ok(news) => {
                tracing::info!(files = ?self.source.paths(), "read again");
                Some(news)
            }
            Err(error) => {
                tracing::error!(%error, "a changed file is not taken; what was in force stays");
                None
            }
        }
    }
}

impl Source {
    fn paths(&self) -> Vec<&str> {
        match self {
            Source::Passwords(path) | Source::Acl(path) => vec![path],
            Source::Tls(_, listener) => [
                &listener.certificate,
                &listener.key,
                &listener.client_ca,
                &listener.client_crl,
            ]
            .into_iter()
            .map(String::as_str)
            .filter(|path| !path.is_empty())
            .collect(),
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &&str| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
        };
        self.paths().iter().map(stamp).collect()
    }

    fn read(&self) -> Result<News, FileError> {
        match self {
            Source::Tls(number, listener) => {
                let tls = Tls::load(usize::from(*number), listener)?;
                Ok(News::Tls {
                    listener: *number,
                    tls,
                })
            }
            Source::Passwords(path) => {
                let text = text("access.password_file", path, passwords::FILE_BYTES_MAX)?;
                let parsed = Passwords::parse(&text);
                let parsed = parsed.map_err(|e| failed("access.password_file", path, e))?;
                Ok(News::Passwords(Arc::new(parsed)))
            }
            Source::Acl(path) => {
                let text = text("access.acl_file", path, acl::FILE_BYTES_MAX)?;
                let parsed = Acl::parse(&text).map_err(|e| failed("access.acl_file", path, e))?;
                Ok(News::Acl(Arc::new(parsed)))
            }
        }
    }
}

fn failed(key: &str, path: &str, reason: String) -> FileError {
    FileError {
        key: key.to_owned(),
        path: path.into(),
        reason,
    }
}

fn text(key: &str, path: &str, max: u64) -> Result<String, FileError> {
    let bytes = read_bounded(Path::new(path), max).map_err(|e| failed(key, path, e))?;
    String::from_utf8(bytes).map_err(|_| failed(key, path, "it is not UTF-8".into()))
}

/// A whole file of at most `max` bytes; an error says what is wrong, without the file's name.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut bytes);
    read.map_err(|e| e.to_string())?;
    if bytes.len() as u64 > max {
        return Err(format!("it is larger than {max} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(news: Option<News>) -> Option<Arc<Acl>> {
        news.map(|news| match news {
            News::Acl(acl) => acl,
            other => panic!("{other:?}"),
        })
    }

    /// Whoever writes a file in pieces is not read half-way, even if the half is good by itself.
    #[test]
    fn a_change_is_taken_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acl");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("topic a\n");
        let mut config = Config::default();
        config.access.acl_file = path.display().to_string();
        let mut files = Files::of(&config);
        assert_eq!(files.read().unwrap().len(), 1);
        let watched = &mut files.all[0];
        let parsed = |text: &str| Some(Arc::new(Acl::parse(text).unwrap()));
        for _ in 0..3 {
            assert!(watched.look(false).is_none(), "nothing has changed");
        }
        write("topic a\ntopic b\n");
        assert!(watched.look(false).is_none());
        write("topic a\ntopic b\ntopic deny a/x\n");
        assert!(watched.look(false).is_none());
        let whole = parsed("topic a\ntopic b\ntopic deny a/x\n");
        assert_eq!(rules(watched.look(false)), whole);
        assert!(watched.look(false).is_none(), "it was read");
        write("nonsense\n");
        assert!(watched.look(false).is_none());
        assert!(watched.look(false).is_none(), "it is broken");
        // Asked for, it is read at once, changed or not.
        write("topic c\n");
        assert_eq!(rules(watched.look(true)), parsed("topic c\n"));
        assert_eq!(rules(watched.look(true)), parsed("topic c\n"));
        assert!(watched.look(false).is_none());
    }
}
