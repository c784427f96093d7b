//! The device by itself: a client of a few bytes, a disk that is cut, no cloud.

use headwater_log::SimDisk;
use headwater_log::disk::Crash;

use super::*;
use crate::now::{Ms, Now};

struct Bench {
    disk: SimDisk,
    edge: SimEdge,
    now: Ms,
    sent: Vec<(MqttConn, Bytes)>,
    trace: Vec<String>,
}

const WALL_MS: i64 = 1_790_000_000_000;

fn setup(seed: u128) -> Setup {
    Setup {
        name: EdgeName::new("gw-1").unwrap(),
        dir: "/data".into(),
        settings: Settings {
            routes: vec![("#".into(), "mqtt".into(), 2)],
            budget_bytes: 1 << 20,
            full: Full::Refuse,
            journal_file_bytes: 64 << 10,
            segment_bytes: 4096,
            batch_bytes: 1024,
            linger_ms: 20,
            interval: false,
            interval_ms: 1_000,
            retention_bytes: None,
            retention_ms: None,
            window_bytes: 4096,
            read_bytes: 1024,
            zstd_level: 1,
        },
        rules: Rules::default(),
        seed,
    }
}

impl Bench {
    fn new(seed: u64) -> Bench {
        Bench::on(SimDisk::new(seed), seed, 1_000)
    }

    fn on(disk: SimDisk, seed: u64, ms: Ms) -> Bench {
        let now = Now {
            ms,
            wall_ms: WALL_MS,
        };
        let edge = SimEdge::start(setup(seed.into()), disk.clone(), now).unwrap();
        Bench {
            disk,
            edge,
            now: ms,
            sent: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            ms: self.now,
            wall_ms: WALL_MS + self.now as i64,
        }
    }

    /// Does what the device asks for, and all that is due until `until`.
    fn run(&mut self, until: Ms) {
        loop {
            while let Some(output) = self.edge.output() {
                self.trace.push(format!("{} {output:?}", self.now));
                match output {
                    Output::Work { id, .. } => self.edge.work(self.now(), id),
                    Output::Mqtt { conn, bytes } => {
                        self.edge.mqtt_written(self.now(), conn, bytes.len());
                        self.sent.push((conn, bytes));
                    }
                    Output::Dial => self.edge.link_down(self.now()),
                    Output::Failed(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
            match self.edge.deadline() {
                Some(at) if at <= until => self.now = at.max(self.now),
                _ => break,
            }
            self.edge.timer(self.now());
        }
        self.now = until;
    }

    fn connect(&mut self, conn: MqttConn) {
        let name = [b'a' + conn as u8];
        let mut connect = vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1];
        connect.extend(name);
        self.edge.mqtt_open(self.now(), conn);
        self.edge.mqtt_bytes(self.now(), conn, connect.into());
    }

    fn publish(&mut self, conn: MqttConn, id: u8) {
        let publish = vec![0x32, 6, 0, 1, b't', 0, id, b'v'];
        self.edge.mqtt_bytes(self.now(), conn, publish.into());
    }

    fn pubacks(&self) -> usize {
        let acks = self.sent.iter().flat_map(|(_, bytes)| bytes.chunks(4));
        acks.filter(|packet| packet[0] == 0x40).count()
    }

    fn records(&self) -> i64 {
        self.edge.partitions().iter().map(|p| p.next.0).sum()
    }
}

fn story(seed: u64) -> Vec<String> {
    let mut bench = Bench::new(seed);
    bench.connect(1);
    for id in 1..=50 {
        bench.publish(1, id);
        bench.run(bench.now + u64::from(id) % 3);
    }
    bench.run(bench.now + 2_000);
    assert_eq!((bench.pubacks(), bench.records()), (50, 50));
    bench.trace
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_and_nothing_is_before_its_sync() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        bench.connect(1);
        bench.run(1_100);
        bench.publish(1, 1);
        bench.run(1_200);
        bench.publish(1, 2);
        // The commit that covers it is announced, and the power goes before it runs.
        bench.edge.timer(Now {
            ms: 1_210,
            ..bench.now()
        });
        assert_eq!(bench.pubacks(), 1);
        let disk = bench.disk.clone();
        disk.crash(Crash::Power);
        drop(bench);
        disk.restart();
        let bench = Bench::on(disk, seed + 100, 1_300);
        assert_eq!(bench.records(), 1, "seed {seed}");
    }
}

#[test]
fn an_orderly_stop_ends_and_a_failed_sync_fails() {
    let mut bench = Bench::new(3);
    bench.connect(1);
    bench.publish(1, 1);
    bench.run(1_500);
    bench.edge.stop(bench.now());
    bench.run(1_600);
    assert!(bench.edge.is_stopped());
    let mut bench = Bench::on(bench.disk.clone(), 4, 2_000);
    bench.connect(1);
    bench.run(2_100);
    bench.disk.fail_sync(0);
    bench.publish(1, 1);
    let mut failed = None;
    for ms in 2_100..2_200 {
        bench.now = ms;
        bench.edge.timer(bench.now());
        while let Some(output) = bench.edge.output() {
            match output {
                Output::Work { id, .. } => bench.edge.work(bench.now(), id),
                Output::Failed(reason) => failed = Some(reason),
                Output::Mqtt { .. } => panic!("acknowledged after a failed sync"),
                _ => {}
            }
        }
    }
    assert!(failed.is_some());
    assert_eq!(bench.edge.deadline(), None);
}

#[test]
fn a_copied_card_holds_what_the_card_held_and_they_go_apart() {
    let mut first = Bench::new(11);
    first.connect(1);
    first.publish(1, 1);
    first.run(1_500);
    let card = first.disk.copy(12);
    let mut second = Bench::on(card, 13, 1_500);
    assert_eq!((first.records(), second.records()), (1, 1));
    second.connect(1);
    second.publish(1, 2);
    second.run(2_000);
    assert_eq!((first.records(), second.records()), (1, 2));
}
