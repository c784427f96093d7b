//! The store thread on a disk that fails.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk, create_dirs};
use headwater_log::store::{CommitJob, GapReason, StoreConfig};
use headwater_mqtt::{Append, ConnId, Publish, QoS, Token};
use tokio::sync::mpsc;

use super::*;
use crate::clock::{ClockFile, TimeSource};
use crate::config::Route;
use crate::routes::Routes;

struct Thread {
    handle: StoreHandle,
    reports: FromStoreReceiver,
    thread: JoinHandle<Result<(), String>>,
    kv: Vec<(Vec<u8>, Vec<u8>)>,
    ops: Vec<Vec<u8>>,
}

fn opened(
    disk: &SimDisk,
    dir: &Path,
    change: impl FnOnce(&mut StoreConfig),
    handle: &StoreHandle,
) -> Opened {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    create_dirs(&*disk, dir).unwrap();
    let (clock_file, clock) = ClockFile::open(disk.clone(), dir, TimeSource::system()).unwrap();
    let mut store = StoreConfig::new(dir);
    store.journal_file_bytes = 64 << 10;
    change(&mut store);
    let routes = Routes::new(&[Route::default()], "edge").unwrap();
    let settings = Settings {
        store,
        routes,
        checkpoints: sled_checkpoints(dir, 0).unwrap(),
        disk,
        clock,
        clock_file,
        boot: 1,
        incarnation_if_new: 2,
    };
    open(settings, handle.clone()).unwrap()
}

fn start(disk: &SimDisk, dir: &Path, change: impl FnOnce(&mut StoreConfig)) -> Thread {
    let (handle, messages) = StoreHandle::channel();
    let opened = opened(disk, dir, change, &handle);
    let (to_broker, reports) = mpsc::unbounded_channel();
    let (kv, ops, worker) = (opened.kv, opened.ops, opened.worker);
    let thread = std::thread::spawn(move || worker.run(&messages, to_broker));
    Thread {
        handle,
        reports,
        thread,
        kv,
        ops,
    }
}

fn append(token: u64, value: &str) -> Append {
    Append {
        token: Token(token),
        publish: Some(Publish {
            topic: "t".into(),
            payload: Bytes::from(value.to_owned()),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            properties: None,
            client_id: "c".into(),
        }),
        op: format!("op {token}").into_bytes(),
        held_for: None,
        frees_room: false,
    }
}

/// Commits that are begun and that nobody has run yet.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Option<CommitJob>>>);

impl Held {
    fn take(&self) -> Option<CommitJob> {
        self.0.lock().unwrap().take()
    }
}

impl CommitRunner for Held {
    fn run(&mut self, job: CommitJob) {
        assert!(self.0.lock().unwrap().replace(job).is_none());
    }
}

/// A gap or a fork comes from the uplink at any time, also while the broker gathers its changes.
#[test]
fn what_the_uplink_wants_before_a_checkpoint_is_answered_is_committed_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, _messages) = StoreHandle::channel();
    let worker = opened(&SimDisk::new(4), dir.path(), |_| {}, &handle).worker;
    let (to_broker, mut reports) = mpsc::unbounded_channel();
    let held = Held::default();
    let mut store = Running::start(worker, Box::new(held.clone()), to_broker);
    let mut token = 0;
    loop {
        match reports.try_recv() {
            Ok(FromStore::WantCheckpoint) => break,
            Ok(_) => continue,
            Err(_) => {}
        }
        token += 1;
        store
            .take(ToStore::Append {
                appends: vec![append(token, &"x".repeat(300))],
                arrived_ms: 0,
                refusals_seen: 0,
            })
            .unwrap();
        store.step().unwrap();
        if let Some(job) = held.take() {
            store.take(ToStore::Committed(job.run())).unwrap();
        }
    }
    let gap = Gap {
        from: Offset(0),
        to: Offset(1),
        reason: GapReason::Rejected,
    };
    let tp = store.log().partitions()[0].clone();
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    store.take(ToStore::Gap(tp, gap, answer)).unwrap();
    assert!(
        store.log().commit_due().is_some(),
        "a commit is due at once"
    );
    store.step().unwrap();
    assert!(held.take().is_none(), "a commit in the way");
    store.take(ToStore::Checkpoint(Vec::new())).unwrap();
    assert_eq!(answered.try_recv().unwrap(), Ok(()));
}

impl Thread {
    fn append(&self, tokens: std::ops::RangeInclusive<u64>) {
        let appends = tokens.map(|n| append(n, &format!("value {n}"))).collect();
        self.handle.send(ToStore::Append {
            appends,
            arrived_ms: 1,
            refusals_seen: 0,
        });
    }

    fn report(&mut self) -> FromStore {
        self.reports
            .blocking_recv()
            .expect("the thread reports before it ends")
    }

    fn durable_up_to(&mut self, wanted: u64) {
        loop {
            match self.report() {
                FromStore::Durable(Token(token)) if token >= wanted => return,
                FromStore::Durable(_) => {}
                FromStore::WantCheckpoint => self.handle.send(ToStore::Checkpoint(Vec::new())),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Rule J6: after a failed fsync nothing more is acknowledged and the thread ends with the reason.
#[test]
fn a_failed_fsync_acknowledges_nothing_and_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(7);
    let mut store = start(&disk, dir.path(), |_| {});
    store.append(1..=10);
    store.durable_up_to(10);
    disk.fail_sync(0);
    store.append(11..=20);
    let report = store.report();
    assert!(matches!(report, FromStore::Failed(_)), "{report:?}");
    // Whatever comes later is not acknowledged either.
    store.append(21..=30);
    assert!(store.thread.join().unwrap().is_err());
    assert!(store.reports.blocking_recv().is_none());
}

/// U1: a partition whose birth a power cut would take back is not offered to the cloud, which would
/// keep one of its 16 places for a name that no card has.
#[test]
fn a_partition_is_shown_once_its_lineage_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(11);
    let (handle, _messages) = StoreHandle::channel();
    let opened = opened(
        &disk,
        dir.path(),
        |store| store.commit_gather_ms = 0,
        &handle,
    );
    let (view, held) = (opened.worker.view(), Held::default());
    let (to_broker, _reports) = mpsc::unbounded_channel();
    let mut running = Running::start(opened.worker, Box::new(held.clone()), to_broker);
    let message = ToStore::Append {
        appends: vec![append(1, "value")],
        arrived_ms: 1,
        refusals_seen: 0,
    };
    running.take(message).unwrap();
    running.step().unwrap();
    let job = held.take().expect("it is committed at once");
    assert_eq!(running.log().partitions().len(), 1);
    assert!(view.partitions().is_empty());
    let done = job.run();
    running.step().unwrap();
    assert!(view.partitions().is_empty());
    running.take(ToStore::Committed(done)).unwrap();
    running.step().unwrap();
    assert_eq!(view.partitions().len(), 1);
}

/// What was reported durable comes back after the power is cut, ops with it.
#[test]
fn durable_means_after_a_power_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(8);
    let mut store = start(&disk, dir.path(), |_| {});
    store.append(1..=50);
    store.durable_up_to(50);
    disk.crash(Crash::Power);
    store.append(51..=60);
    assert!(store.thread.join().unwrap().is_err());
    disk.restart();
    let store = start(&disk, dir.path(), |_| {});
    let ops: Vec<String> = store
        .ops
        .iter()
        .map(|op| String::from_utf8(op.clone()).unwrap())
        .collect();
    let expected: Vec<String> = (1..=50).map(|n| format!("op {n}")).collect();
    assert_eq!(ops[..50], expected[..]);
    store.handle.send(ToStore::Stop(Vec::new()));
    store.thread.join().unwrap().unwrap();
}

/// A checkpoint holds the broker's state after exactly what was reported durable: nothing is
/// staged between the question and the answer.
#[test]
fn a_checkpoint_is_taken_at_what_the_broker_knows_as_durable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(9);
    let mut store = start(&disk, dir.path(), |_| {});
    let (mut sent, mut durable, mut checkpoints) = (0, 0, 0);
    while checkpoints < 3 {
        store.append(sent + 1..=sent + 200);
        sent += 200;
        while durable < sent {
            match store.report() {
                FromStore::Durable(Token(token)) => durable = token,
                FromStore::WantCheckpoint => {
                    // These arrive before the answer and must not be covered by it.
                    store.append(sent + 1..=sent + 5);
                    sent += 5;
                    let state = durable.to_string().into_bytes();
                    store
                        .handle
                        .send(ToStore::Checkpoint(vec![(b"n".to_vec(), Some(state))]));
                    checkpoints += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // No orderly stop: the process dies here, which the thread notices when it writes.
    disk.crash(Crash::Power);
    store.append(sent + 1..=sent + 1);
    assert!(store.thread.join().unwrap().is_err());
    disk.restart();
    let store = start(&disk, dir.path(), |_| {});
    let (key, value) = &store.kv[0];
    assert_eq!((store.kv.len(), key.as_slice()), (1, &b"n"[..]));
    let covered: u64 = String::from_utf8(value.clone()).unwrap().parse().unwrap();
    let first = String::from_utf8(store.ops[0].clone()).unwrap();
    let first: u64 = first.trim_start_matches("op ").parse().unwrap();
    let last = String::from_utf8(store.ops[store.ops.len() - 1].clone()).unwrap();
    assert_eq!(last, format!("op {sent}"));
    assert_eq!(store.ops.len() as u64, sent - first + 1, "no hole");
    assert!(
        first <= covered + 1,
        "{first} is the first op after a state of {covered}"
    );
    store.handle.send(ToStore::Stop(Vec::new()));
    store.thread.join().unwrap().unwrap();
}

/// Rule J6: a PUBREL on a full log is answered, or its client's next message would never come.
#[test]
fn what_only_ends_something_is_taken_when_the_log_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(10);
    let mut store = start(&disk, dir.path(), |_| {});
    store.append(1..=10);
    store.durable_up_to(10);
    disk.set_capacity(0);
    let mut token = 10;
    loop {
        token += 1;
        store.append(token..=token);
        match store.report() {
            FromStore::Refused(..) => break,
            FromStore::WantCheckpoint => store.handle.send(ToStore::Checkpoint(Vec::new())),
            FromStore::Durable(_) | FromStore::Probe(_) => {}
            FromStore::Failed(why) => panic!("the node stopped: {why}"),
        }
    }
    let release = Append {
        publish: None,
        held_for: None,
        frees_room: true,
        ..append(token + 1, "")
    };
    let appends = vec![release];
    store.handle.send(ToStore::Append {
        appends,
        arrived_ms: 1,
        refusals_seen: 0,
    });
    loop {
        match store.report() {
            FromStore::Durable(Token(durable)) if durable == token + 1 => break,
            FromStore::Refused(Token(refused), _) => assert_ne!(refused, token + 1),
            FromStore::Failed(why) => panic!("the node stopped: {why}"),
            _ => {}
        }
    }
    store.handle.send(ToStore::Stop(Vec::new()));
    store.thread.join().unwrap().unwrap();
}

/// Rule J6: a medium that others have filled refuses records; it neither stops the node nor costs
/// what the broker had put into the checkpoint that found no room.
#[test]
fn a_checkpoint_without_room_is_put_off_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(9);
    let mut store = start(&disk, dir.path(), |_| {});
    let asked = |store: &mut Thread| {
        for first in (1..).step_by(500) {
            store.append(first..=first + 499);
            loop {
                match store.report() {
                    FromStore::WantCheckpoint => return,
                    FromStore::Durable(Token(token)) if token >= first + 499 => break,
                    _ => {}
                }
            }
        }
    };
    asked(&mut store);
    disk.set_capacity(0);
    let met = disk.counters().enospc;
    let change = (b"session".to_vec(), Some(b"kept".to_vec()));
    store.handle.send(ToStore::Checkpoint(vec![change]));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while disk.counters().enospc == met {
        assert!(std::time::Instant::now() < deadline, "it looks for room");
        std::thread::yield_now();
    }
    // The next question comes after the log has looked at the medium again.
    disk.set_capacity(u64::MAX);
    loop {
        match store.report() {
            FromStore::WantCheckpoint => break,
            FromStore::Failed(why) => panic!("the node stopped: {why}"),
            _ => {}
        }
    }
    store.handle.send(ToStore::Checkpoint(Vec::new()));
    store.handle.send(ToStore::Stop(Vec::new()));
    while store.reports.blocking_recv().is_some() {}
    store.thread.join().unwrap().unwrap();
    let store = start(&disk, dir.path(), |_| {});
    assert_eq!(store.kv, [(b"session".to_vec(), b"kept".to_vec())]);
}

/// Promise 3, from the publisher's side: what a 3.1.1 client sent first is not overtaken by what fits.
#[test]
fn nothing_of_a_connection_overtakes_what_is_held_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(9);
    let mut store = start(&disk, dir.path(), |store| {
        store.budget_bytes = 640 << 10;
        store.reserve_bytes = 64 << 10;
    });
    let of = |token, conn, bytes: usize| Append {
        held_for: Some(ConnId(conn)),
        ..append(token, &"v".repeat(bytes))
    };
    let send = |store: &Thread, appends, refusals_seen| {
        store.handle.send(ToStore::Append {
            appends,
            arrived_ms: 1,
            refusals_seen,
        });
    };
    let large = 400 << 10;
    let first = vec![of(1, 7, 10), of(2, 7, large), of(3, 7, 10), of(4, 8, 10)];
    send(&store, first, 0);
    // Made before the broker knew of the second of the two refusals.
    send(&store, vec![of(5, 7, 10)], 1);
    let mut refused = Vec::new();
    while refused.len() < 3 {
        match store.report() {
            FromStore::Refused(Token(token), _) => refused.push(token),
            FromStore::Durable(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, [2, 3, 5], "the other connection is not held");
    // Offered again by a broker that knows, without the one that has no room.
    send(&store, vec![of(6, 7, 10), of(7, 7, 10)], 3);
    store.durable_up_to(7);
}
