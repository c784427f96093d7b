//! FORMAT.md and the code agree, and bytes of this version are read for ever.

use std::sync::Arc;

use headwater_log::checkpoint::{
    FILE_STORE_HEADER_BYTES, FILE_STORE_MAGIC, FileStore, MANIFEST_HEADER_BYTES, MANIFEST_MAGIC,
};
use headwater_log::disk::{Disk, DiskFile, Open};
use headwater_log::durable::{Durable, DurableConfig, Position};
use headwater_log::journal::{FRAME_BYTES_MAX, HEADER_BYTES_MAX, ROTTEN_MAX, SPARES, format};
use headwater_log::{RealDisk, SimDisk};

const FORMAT: &str = include_str!("../../FORMAT.md");

#[test]
fn the_document_has_the_codes_constants() {
    let text = |magic: &[u8]| String::from_utf8(magic.to_vec()).unwrap();
    let said = [
        format!("magic `{}`", text(&format::FILE_MAGIC)),
        format!("magic `{}`", text(&format::GROUP_MAGIC)),
        format!("magic `{}`", text(&MANIFEST_MAGIC)),
        format!("magic `{}`", text(&FILE_STORE_MAGIC)),
        format!(
            "{} bytes, then the owner's bytes, at most {HEADER_BYTES_MAX}.",
            format::FILE_HEADER_BYTES
        ),
        format!("{} bytes, then one entry per file", MANIFEST_HEADER_BYTES),
        format!("{} bytes, then key and value", FILE_STORE_HEADER_BYTES),
        format!("rounded up to {}", format::BLOCK_BYTES),
        format!("Starts at a multiple of {}", format::ALIGN_BYTES),
        format!("| {} | | body |", format::GROUP_HEADER_BYTES),
        format!(
            "flags: {} body is one zstd frame; {} frames carry",
            format::FLAG_ZSTD,
            format::FLAG_FORWARDED
        ),
        format!("| frame payload | {FRAME_BYTES_MAX} |"),
        format!("payload: at most {FRAME_BYTES_MAX} bytes"),
        format!("| owner's header | {HEADER_BYTES_MAX} |"),
        format!("| body of a group | {} |", format::BODY_BYTES_MAX),
        format!(
            "at most {} for each {} bytes",
            format::GROUP_FRAMES_MAX,
            format::GROUP_HEADER_BYTES
        ),
        format!("| spares kept | {SPARES} |"),
        format!("| rotten files kept | {ROTTEN_MAX} |"),
    ];
    for said in said {
        assert!(FORMAT.contains(&said), "FORMAT.md does not say: {said}");
    }
}

fn durable(disk: Arc<dyn Disk>) -> (Durable, headwater_log::Recovered) {
    let store = FileStore::open(disk.clone(), "d/checkpoints".as_ref()).unwrap();
    let cfg = DurableConfig {
        file_bytes: 32 << 10,
        group_bytes_max: 4096,
        // zstd's output may change with its version, the format may not.
        compress_above_bytes: 4096,
        ..DurableConfig::new("d/journal", 0x5a17)
    };
    Durable::open(disk, Box::new(store), cfg).unwrap()
}

fn written() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut log, _) = durable(Arc::new(disk.clone()));
    log.stage(1, b"kept").unwrap();
    log.stage(2, &[b'z'; 300]).unwrap();
    log.commit().unwrap();
    let change = (b"key".to_vec(), Some(b"value".to_vec()));
    log.checkpoint(
        Position(1),
        vec![change],
        b"header".to_vec(),
        &[Position(0)],
    )
    .unwrap();
    log.stage(3, b"after").unwrap();
    log.commit().unwrap();
    disk
}

/// The written part of each file, as one text: path, then the bytes in hex without trailing zeros.
fn image(disk: &SimDisk) -> String {
    let mut text = String::new();
    for path in disk.files() {
        let file = disk.open(&path, Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        text += &format!("{} {}\n", path.display(), bytes.len());
        for line in bytes[..end]
            .chunks(64)
            .enumerate()
            .filter(|(_, l)| l.iter().any(|b| *b != 0))
        {
            let hex: String = line.1.iter().map(|b| format!("{b:02x}")).collect();
            text += &format!("  {:05x} {hex}\n", line.0 * 64);
        }
    }
    text
}

const GOLDEN: &str = include_str!("golden-01.txt");

#[test]
fn bytes_are_those_of_version_01() {
    let now = image(&written());
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durable/golden-01.txt");
        let file = RealDisk.open(path.as_ref(), Open::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_at(now.as_bytes(), 0).unwrap();
        return;
    }
    assert!(
        now == GOLDEN,
        "the format changed: a new version is needed\n{now}"
    );
}

#[test]
fn version_01_is_read() {
    let disk = SimDisk::new(2);
    disk.create_dir("d/journal".as_ref()).unwrap();
    disk.create_dir("d/checkpoints".as_ref()).unwrap();
    let mut file: Option<Arc<dyn DiskFile>> = None;
    for line in GOLDEN.lines() {
        let (left, right) = line.trim().split_once(' ').unwrap();
        if line.starts_with(' ') {
            let bytes: Vec<u8> = (0..right.len() / 2)
                .map(|i| u8::from_str_radix(&right[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            let at = u64::from_str_radix(left, 16).unwrap();
            file.as_ref().unwrap().write_at(&bytes, at).unwrap();
        } else {
            let opened = disk.open(left.as_ref(), Open::New).unwrap();
            opened.set_len(right.parse().unwrap()).unwrap();
            file = Some(opened);
        }
    }
    let (_, recovered) = durable(Arc::new(disk));
    assert!(recovered.report.is_whole());
    assert_eq!(recovered.checkpoint, [(b"key".to_vec(), b"value".to_vec())]);
    assert_eq!(recovered.header, b"header");
    let frames: Vec<_> = recovered.frames.map(|f| f.unwrap()).collect();
    let seen: Vec<_> = frames
        .iter()
        .map(|f| (f.position.0, f.origin.0, f.kind, f.payload.len()))
        .collect();
    assert_eq!(seen, [(1, 1, 2, 300), (2, 0, 1, 4), (3, 3, 3, 5)]);
}
