//! On the real disk: what is written is read back, in one life and over restarts.

use std::sync::Arc;

use headwater_log::checkpoint::FileStore;
use headwater_log::durable::{CheckpointUse, Durable, DurableConfig, Position};
use headwater_log::{ErrorKind, RealDisk};

fn open(dir: &std::path::Path) -> (Durable, headwater_log::Recovered) {
    let store = FileStore::open(Arc::new(RealDisk), &dir.join("checkpoints")).unwrap();
    let cfg = DurableConfig {
        file_bytes: 2 << 20,
        ..DurableConfig::new(dir.join("journal"), 7)
    };
    Durable::open(Arc::new(RealDisk), Box::new(store), cfg).unwrap()
}

#[test]
fn frames_and_checkpoints_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, recovered) = open(dir.path());
    assert_eq!(recovered.report.checkpoint, CheckpointUse::None);
    assert!(recovered.report.is_whole());
    assert_eq!(recovered.frames.count(), 0);
    assert_eq!(log.stage(1, b"one").unwrap(), Position(0));
    assert_eq!(log.stage_parts(2, &[b"tw", b"o"]).unwrap(), Position(1));
    assert_eq!(
        log.read(Position(0)).unwrap_err().kind(),
        ErrorKind::Invalid,
        "not durable yet"
    );
    let job = log.begin_commit().unwrap().unwrap();
    assert_eq!(
        log.stage(1, &[b'x'; 100_000]).unwrap(),
        Position(2),
        "the next group gathers"
    );
    assert!(log.begin_commit().unwrap().is_none(), "one at a time");
    let done = std::thread::spawn(|| job.run()).join().unwrap();
    assert_eq!(log.finish_commit(done).unwrap(), Position(2));
    assert_eq!(log.commit().unwrap(), Position(3));
    assert_eq!(log.read(Position(1)).unwrap().payload, b"two");
    assert_eq!(
        log.reader().read(Position(2)).unwrap().payload.len(),
        100_000
    );
    drop(log);

    let (mut log, recovered) = open(dir.path());
    assert!(recovered.report.is_whole());
    let frames: Vec<_> = recovered.frames.map(|f| f.unwrap()).collect();
    assert_eq!(frames.len(), 3);
    assert_eq!((frames[1].kind, &frames[1].payload[..]), (2, &b"two"[..]));
    let changes = vec![(b"k".to_vec(), Some(b"v".to_vec()))];
    let done = log
        .checkpoint(Position(3), changes, b"header".to_vec(), &[Position(0)])
        .unwrap();
    assert_eq!(done.forwarded, [(Position(0), Position(3))]);
    log.stage(1, b"four").unwrap();
    log.commit().unwrap();
    assert_eq!(log.read(Position(3)).unwrap().payload, b"one");
    assert_eq!(log.read(Position(3)).unwrap().origin, Position(0));
    drop(log);

    let (log, recovered) = open(dir.path());
    assert_eq!(recovered.report.checkpoint, CheckpointUse::Newest(1));
    assert_eq!(recovered.checkpoint, [(b"k".to_vec(), b"v".to_vec())]);
    assert_eq!((recovered.from, recovered.end), (Position(3), Position(5)));
    assert_eq!(recovered.header, b"header");
    let frames: Vec<_> = recovered.frames.map(|f| f.unwrap()).collect();
    let seen: Vec<_> = frames
        .iter()
        .map(|f| (f.position.0, f.origin.0, &f.payload[..]))
        .collect();
    assert_eq!(seen, [(3, 0, &b"one"[..]), (4, 4, &b"four"[..])]);
    drop(log);
}

#[test]
fn settings_out_of_range_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(Arc::new(RealDisk), &dir.path().join("c")).unwrap();
    let cfg = DurableConfig {
        file_bytes: 5000,
        ..DurableConfig::new(dir.path().join("j"), 7)
    };
    let error = Durable::open(Arc::new(RealDisk), Box::new(store), cfg)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("file_bytes = 5000: a multiple of 4096"),
        "{error}"
    );
}
