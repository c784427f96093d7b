//! The register of edges: a file beside the CA, so that it is lost with the CA or not at all.
//!
//! ```text
//! ca/edges.txt
//!   # headwater edges 1
//!   NAME ADDED_MS CRC32     one line for each bundle that was made, of everything before its CRC
//! ```
//! A line is durable before its bundle leaves the node. The shards' state has the edges too; the file
//! is for the day when that is lost with all its copies. Then it tells which edges had their bundles
//! before, and may have sent something that nobody remembers, from those that came since.
//!
//! Damage: a line that does not prove itself is passed over and named in the log, and the register is
//! not *whole* then, nor when the CA has a key and the file is gone.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use headwater_proto::EdgeName;

use crate::node::ca_of;

const FILE: &str = "edges.txt";
const HEAD: &str = "# headwater edges 1\n";
/// 100,000 edges take 8 MB.
const BYTES_MAX: u64 = 64 << 20;

/// What the register says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// Names and when their first bundle was made, in ms since 1970.
    pub edges: Vec<(String, i64)>,
    /// Nothing is missing: an edge that is not in it has no bundle.
    pub is_whole: bool,
}

/// Where the register lies in a data directory.
pub fn path_of(root: &Path) -> PathBuf {
    ca_of(root).join(FILE)
}

/// Begins the register of a data directory whose CA was never used. To be called before the CA is.
pub fn begin(root: &Path) -> io::Result<()> {
    let path = path_of(root);
    if path.exists() || ca_of(root).join("ca.key").exists() {
        return Ok(());
    }
    fs::create_dir_all(ca_of(root))?;
    append(&path, HEAD)
}

/// Enters an edge, durably, unless it is there. To be called before its bundle goes out.
pub fn enter(root: &Path, edge: &EdgeName, at_ms: i64) -> io::Result<()> {
    begin(root)?;
    let known = read(root)?.edges;
    if known.iter().any(|(name, _)| name == edge.as_str()) {
        return Ok(());
    }
    let said = format!("{edge} {at_ms}");
    let crc = crc32(said.as_bytes());
    let path = path_of(root);
    // Behind a line that was cut off.
    let cut = fs::read(&path).is_ok_and(|bytes| bytes.last().is_some_and(|last| *last != b'\n'));
    let line_break = if cut { "\n" } else { "" };
    append(&path, &format!("{line_break}{said} {crc:08x}\n"))
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads the register. Damage is in the log, and in [`Registered::is_whole`].
pub fn read(root: &Path) -> io::Result<Registered> {
    let path = path_of(root);
    let text = match fs::metadata(&path) {
        Ok(found) if !found.is_file() || found.len() > BYTES_MAX => {
            tracing::error!(path = %path.display(), "the register of edges is no file of ours");
            return Ok(Registered::default());
        }
        Ok(_) => String::from_utf8_lossy(&fs::read(&path)?).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let had_bundles = ca_of(root).join("ca.key").exists();
    let is_whole = text.starts_with(HEAD) || (text.is_empty() && !had_bundles);
    if !is_whole {
        tracing::error!(path = %path.display(), "the register of edges lost its beginning, or all");
    }
    let mut registered = Registered {
        is_whole,
        ..Registered::default()
    };
    for (number, line) in text.lines().enumerate() {
        match parse(line) {
            _ if line.starts_with('#') || line.is_empty() => {}
            Some(edge) => registered.edges.push(edge),
            None => {
                let line = number + 1;
                tracing::error!(path = %path.display(), line, "a damaged line is passed over");
                registered.is_whole = false;
            }
        }
    }
    Ok(registered)
}

fn parse(line: &str) -> Option<(String, i64)> {
    let (said, crc) = line.rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32(said.as_bytes()) {
        return None;
    }
    let (name, at_ms) = said.split_once(' ')?;
    let name = EdgeName::new(name).ok()?;
    Some((name.as_str().to_owned(), at_ms.parse().ok()?))
}

/// CRC-32 (IEEE). A register is short: eight shifts a byte are quick enough.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(registered: &Registered) -> Vec<&str> {
        registered.edges.iter().map(|(n, _)| n.as_str()).collect()
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path(), path_of(dir.path()));
        assert!(read(root).unwrap().is_whole, "no CA, hence no bundles");
        for (n, name) in ["gw-1", "gw-2", "gw-1"].iter().enumerate() {
            enter(root, &EdgeName::new(name).unwrap(), 1000 + n as i64).unwrap();
        }
        fs::write(ca_of(root).join("ca.key"), "a key").unwrap();
        let whole = read(root).unwrap();
        assert_eq!(whole.edges, [("gw-1".into(), 1000), ("gw-2".into(), 1001)]);
        assert!(whole.is_whole);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                fs::write(&path, damaged).unwrap();
                let found = read(root).unwrap();
                // Upper and lower case of a checksum are the same.
                assert!(!found.is_whole || found == whole, "byte {at} bit {bit}");
                assert!(found.edges.iter().all(|edge| whole.edges.contains(edge)));
            }
            fs::write(&path, &bytes[..at]).unwrap();
            let cut = read(root).unwrap();
            let ends = bytes[..at].ends_with(b"\n") || bytes[at] == b'\n';
            assert!(ends || !cut.is_whole, "cut at {at}");
        }
        // Behind a cut line the next one is whole.
        fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        enter(root, &EdgeName::new("gw-3").unwrap(), 7).unwrap();
        assert_eq!(names(&read(root).unwrap()), ["gw-1", "gw-3"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(root).unwrap(), Registered::default());
        fs::create_dir(&path).unwrap();
        assert_eq!(read(root).unwrap(), Registered::default());
    }
}
