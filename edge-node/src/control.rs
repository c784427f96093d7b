//! Who may do more on the status page than look at it.
//!
//! Some requests change the node or show what clients send. They are for whoever could do the same
//! with the data directory: the node writes a random token there at each start, in a file that only
//! its own user and root can read, and wants it back in the header [`TOKEN`]. So neither another user of
//! the machine, nor a page in somebody's browser, nor whoever reaches the listener through a proxy
//! may ask. From another machine they are refused even with the token: HTTP would show it to the way.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::random;

/// The header that carries the token.
pub const TOKEN: &str = "x-headwater-token";
/// Its file in the data directory.
pub const TOKEN_FILE: &str = "control-token";
/// Its length, in hexadecimal digits.
pub const TOKEN_LEN: usize = 32;

/// The token of this start.
pub struct Control {
    token: Option<String>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// See the module's docs.
    #[error("only from this machine")]
    Remote,
    /// See the module's docs.
    #[error("only with the token of the data directory's file control-token")]
    Token,
}

impl Control {
    /// Writes a new token. Without room for it nobody is admitted, and the node runs all the same.
    pub fn create(dir: &Path) -> Control {
        let made = random::number::<u128>().and_then(|number| {
            let token = format!("{number:0TOKEN_LEN$x}");
            write(&dir.join(TOKEN_FILE), &token)?;
            Ok(token)
        });
        let failed = made.as_ref().err();
        failed.inspect(|error| {
            tracing::warn!(%error, "no control token: `tail` and `log-level` are not served");
        });
        Control { token: made.ok() }
    }

    /// Whether a request from `remote` with this token is to be answered.
    pub fn admits(&self, remote: IpAddr, token: Option<&[u8]>) -> Result<(), Refused> {
        if !remote.to_canonical().is_loopback() {
            return Err(Refused::Remote);
        }
        match (&self.token, token) {
            (Some(ours), Some(theirs)) if is_same(ours.as_bytes(), theirs) => Ok(()),
            _ => Err(Refused::Token),
        }
    }
}

/// Takes as long wherever they differ.
fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    let differing = ours.iter().zip(theirs).fold(0, |d, (a, b)| d | (a ^ b));
    ours.len() == theirs.len() && differing == 0
}

/// Over the token of the last start, in place: that needs no room.
fn write(path: &Path, token: &str) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all_at(token.as_bytes(), 0)?;
    file.set_len(token.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_of_this_start_and_only_from_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let before = Control::create(dir.path());
        let old = std::fs::read(&path).unwrap();
        assert_eq!(before.admits(here, Some(&old)), Ok(()));
        // Whoever may read the old one is not to read the new one.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let control = Control::create(dir.path());
        let token = std::fs::read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, token.len()), (0o600, TOKEN_LEN));
        for (remote, sent, answer) in [
            ("127.0.0.1", Some(&token[..]), Ok(())),
            ("::1", Some(&token), Ok(())),
            ("::ffff:127.0.0.1", Some(&token), Ok(())),
            ("10.0.0.1", Some(&token), Err(Refused::Remote)),
            ("::ffff:10.0.0.1", Some(&token), Err(Refused::Remote)),
            ("127.0.0.1", None, Err(Refused::Token)),
            ("127.0.0.1", Some(b""), Err(Refused::Token)),
            ("127.0.0.1", Some(&token[1..]), Err(Refused::Token)),
            ("127.0.0.1", Some(&old), Err(Refused::Token)),
        ] {
            let asked = control.admits(remote.parse().unwrap(), sent);
            assert_eq!(asked, answer, "{remote} {sent:?}");
        }
    }

    #[test]
    fn where_no_token_can_be_written_nobody_gets_in() {
        let control = Control::create(Path::new("/nowhere/at/all"));
        let here = "127.0.0.1".parse().unwrap();
        for token in [None, Some(&b""[..]), Some(b"0")] {
            assert_eq!(control.admits(here, token), Err(Refused::Token));
        }
    }
}
