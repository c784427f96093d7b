//! A data directory as bytes, so that recovery can be fuzzed: sections that are laid over files of a
//! simulated disk, and checksums made to fit, since random damage hardly ever passes a CRC.
//!
//! ```text
//! section: | file u8 | at u16, in steps of 8 | length u16 | bytes |     file 0xff: the end
//! ```
//! Files are preallocated and mostly zeros; sections keep inputs small. `fit` bits: 1 journal
//! headers, 2 journal groups, 4 checkpoint files, 8 batches in segments, 16 lineages.

use std::path::{Path, PathBuf};

use headwater_log::disk::Open;
use headwater_log::{Disk, SimDisk};

use super::batch;
use crate::input::{Input, Script};

/// What a file of the directory may be long.
const FILE_BYTES_MAX: usize = 1 << 18;
const STEP: usize = 8;
const END: u8 = 0xff;

/// Lays the input's sections over the `names`d files, until its end mark. Gives the `fit` bits: with
/// any of them the files may say what no medium's damage makes them say.
pub fn lay(disk: &SimDisk, names: &[PathBuf], input: &mut Input<'_>) -> u8 {
    let mut files: Vec<Option<Vec<u8>>> = vec![None; names.len()];
    while !input.is_empty() {
        let file = input.byte();
        if file == END {
            break;
        }
        let (at, bytes) = (usize::from(input.short()) * STEP, input.bytes());
        let file = files[usize::from(file) % names.len()].get_or_insert_default();
        let end = (at + bytes.len()).min(FILE_BYTES_MAX);
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at.min(end)..end].copy_from_slice(&bytes[..end - at.min(end)]);
    }
    let fits = input.byte();
    for (path, bytes) in names.iter().zip(files) {
        if let Some(mut bytes) = bytes {
            fit(path, &mut bytes, fits);
            write(disk, path, &bytes);
        }
    }
    fits
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let dir = path.parent().expect("a file lies in a folder");
    disk.create_dir(dir)
        .expect("a simulated folder can be made");
    let file = disk
        .open(path, Open::Create)
        .expect("a simulated file can be made");
    file.write_at(bytes, 0)
        .expect("a simulated file takes bytes");
    file.sync_data().expect("a simulated disk syncs");
    // The names as well: what is laid is what a medium has.
    for dir in dir.ancestors() {
        disk.sync_dir(dir).expect("a simulated disk syncs");
    }
}

/// The sections of what is on the disk: for seeds.
pub fn sections(disk: &SimDisk, names: &[PathBuf], fits: u8) -> Vec<u8> {
    let mut out = Script::default();
    for (n, path) in names.iter().enumerate() {
        let Ok(file) = disk.open(path, Open::Read) else {
            continue;
        };
        let mut bytes = vec![0; file.len().expect("a simulated length") as usize];
        file.read_exact_at(&mut bytes, 0)
            .expect("a simulated file reads");
        let length = bytes.len().min(FILE_BYTES_MAX) & !(STEP - 1);
        for (at, run) in runs(&bytes) {
            out.byte(n as u8).short((at / STEP) as u16).bytes(run);
        }
        if length > 0 && bytes[length - STEP..length] == [0; STEP] {
            // The length, which recovery looks at.
            out.byte(n as u8)
                .short(((length - STEP) / STEP) as u16)
                .bytes(&[0; STEP]);
        }
    }
    out.byte(END).byte(fits);
    out.0
}

/// Stretches without 64 zeros in a row.
fn runs(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (n, chunk) in bytes.chunks(64).enumerate() {
        if chunk.iter().any(|b| *b != 0) {
            match found.last_mut() {
                Some((_, end)) if *end == n * 64 => *end += chunk.len(),
                _ => found.push((n * 64, n * 64 + chunk.len())),
            }
        }
    }
    found
        .into_iter()
        .map(|(from, to)| (from, &bytes[from..to]))
        .collect()
}

fn fit(path: &Path, bytes: &mut [u8], fits: u8) {
    match path.extension().and_then(|e| e.to_str()) {
        Some("journal") => {
            if fits & 1 != 0 {
                fit_headers(bytes);
            }
            if fits & 2 != 0 {
                fit_groups(bytes);
            }
        }
        Some("checkpoint") if fits & 4 != 0 && bytes.len() > 48 => {
            fit_digest(bytes);
            let crc = crc32fast::hash(&bytes[12..]);
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        Some("log") if fits & 8 != 0 => fit_batches(bytes),
        Some("copy") | None if fits & 16 != 0 && bytes.len() > 16 => fit_lineage(bytes),
        _ => {}
    }
}

/// Magic, CRC-32 of what follows it, length of the body.
fn fit_lineage(bytes: &mut [u8]) {
    let length = (bytes.len() - 16) as u32;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes
        .get(at..at + 4)
        .map_or([0; 4], |b| b.try_into().expect("four bytes"));
    u32::from_le_bytes(word) as usize
}

/// FORMAT.md, "Journal": magic, CRC-32 of what follows it, owner's length, fields, owner's bytes.
fn fit_headers(bytes: &mut [u8]) {
    let owner = word(bytes, 12);
    let block = (96 + owner).next_multiple_of(4096);
    for at in [0, block] {
        let end = at + 96 + word(bytes, at + 12).min(FILE_BYTES_MAX);
        if end <= bytes.len() {
            let crc = crc32fast::hash(&bytes[at + 12..end]);
            bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// Magic, CRC-32 of what follows it, ..., stored length at 44, body at 48.
fn fit_groups(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 48 <= bytes.len() {
        let end = at + 48 + word(bytes, at + 44).min(FILE_BYTES_MAX);
        if bytes[at..at + 4] == *b"HWGR" && end <= bytes.len() {
            let crc = crc32fast::hash(&bytes[at + 8..end]);
            bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        }
        at += STEP;
    }
}

/// The digest and count of a checkpoint file's entries.
fn fit_digest(bytes: &mut [u8]) {
    use headwater_log::checkpoint::Digest;
    let (mut at, mut digest, mut count) = (48, Digest::default(), 0u64);
    while at < bytes.len() {
        let key = at + 4..at + 4 + word(bytes, at);
        let value = key.end + 4..key.end + 4 + word(bytes, key.end);
        let (Some(k), Some(v)) = (bytes.get(key), bytes.get(value.clone())) else {
            return;
        };
        digest.add(k, v);
        count += 1;
        at = value.end;
    }
    bytes[32..40].copy_from_slice(&digest.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&count.to_le_bytes());
}

fn fit_batches(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at.saturating_add(12).saturating_add(length);
        if end > bytes.len() || length < 49 {
            return;
        }
        batch::fit(&mut bytes[at..end]);
        at = end;
    }
}
