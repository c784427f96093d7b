//! What a node writes to the medium for each byte it takes, and what its publishers wait.
//!
//! `cargo run --release -p edge-node --example wear -- DIR [DEVICE]`, where `DIR` must not exist.
//! With the name of the block device below `DIR` (`vda`, `loop0`) its own counter is printed beside
//! the kernel's for this process: it knows the file system's journal, and everybody else's writes.
//!
//! Open loop: 20 sensors that publish whether or not they were answered. Closed: publishers that keep
//! so many in flight. Without an uplink; batches are sealed as if there were one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use edge_node::config::Listener;
use edge_node::{Config, Node};

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let device = args.next();
    std::fs::create_dir(&dir).expect("the directory must not exist");
    println!("fdatasync of one page: {}", probe(&dir));
    for (rate, seconds) in [(1_000, 20), (100, 20), (20, 20)] {
        let title = format!("open loop, {rate} readings/s");
        measure(&dir, device.as_deref(), &title, |address| {
            open_loop(address, rate, seconds)
        });
    }
    for (publishers, in_flight) in [(1, 1), (10, 1), (10, 50)] {
        let title = format!("{publishers} publishers, {in_flight} in flight");
        measure(&dir, device.as_deref(), &title, |address| {
            let threads: Vec<_> = (0..publishers)
                .map(|n| std::thread::spawn(move || closed_loop(address, n, in_flight, 10)))
                .collect();
            let each = threads.into_iter().map(|t| t.join().unwrap());
            each.fold(Taken::default(), Taken::and)
        });
    }
}

/// What publishers had answered.
#[derive(Default)]
struct Taken {
    bytes: u64,
    waits: Vec<Duration>,
}

impl Taken {
    fn and(mut self, other: Taken) -> Taken {
        self.bytes += other.bytes;
        self.waits.extend(other.waits);
        self
    }
}

fn measure(dir: &Path, device: Option<&str>, title: &str, load: impl FnOnce(SocketAddr) -> Taken) {
    let data = dir.join(title.replace([' ', ',', '/'], "-"));
    let mut config = Config {
        data_dir: data.clone(),
        ..Config::default()
    };
    config.listeners = vec![Listener::at("127.0.0.1:0")];
    config.status.listen = String::new();
    config.log.hold_ms = config.log.linger_ms;
    if let Ok(ms) = std::env::var("GATHER_MS") {
        config.log.commit_gather_ms = ms.parse().expect("GATHER_MS in milliseconds");
    }
    let node = Node::start(config).unwrap();
    let before = (process_bytes(), device.map(device_bytes));
    let started = Instant::now();
    let mut taken = load(node.mqtt_addresses()[0]);
    let took = started.elapsed().as_secs_f64();
    let count = taken.waits.len();
    taken.waits.sort_unstable();
    let at = |percent: usize| taken.waits[(count * percent / 100).min(count - 1)];
    println!(
        "{title}: {:.0}/s, PUBACK p50 {:?}, p99 {:?}",
        count as f64 / took,
        at(50),
        at(99)
    );
    let written = process_bytes() - before.0;
    let ratio = |bytes: u64| bytes as f64 / taken.bytes as f64;
    print!(
        "  {} B taken, {written} B written: {:.2}",
        taken.bytes,
        ratio(written)
    );
    if let (Some(device), Some(before)) = (device, before.1) {
        let written = device_bytes(device) - before;
        print!("; device {written} B: {:.2}", ratio(written));
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(node.stop()).unwrap();
    print!(
        "; {} B more for the stop",
        process_bytes() - before.0 - written
    );
    println!();
    std::fs::remove_dir_all(&data).unwrap();
}

fn connect(address: SocketAddr, n: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let id = format!("wear-{n:03}");
    let mut packet = vec![0x10, 12 + id.len() as u8, 0, 4];
    packet.extend_from_slice(b"MQTT\x04\x02\x00\x00");
    packet.extend_from_slice(&[0, id.len() as u8]);
    packet.extend_from_slice(id.as_bytes());
    stream.write_all(&packet).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

/// A reading as in the design's figures, and the bytes of its topic and payload.
fn reading(sensor: usize, seq: u64) -> (Vec<u8>, u64) {
    let topic = format!("sensors/temp-{sensor:02}");
    let payload = format!(
        "{{\"ts\":{},\"sensor\":\"temp-{sensor:02}\",\"value\":{:.2},\"unit\":\"C\",\"seq\":{seq},\
         \"batt\":3.7,\"status\":\"ok\"}}",
        1_763_800_000_000 + seq,
        21.0 + (seq * 7_919 % 500) as f64 / 100.0
    );
    let bytes = topic.len() + payload.len();
    let mut packet = vec![0x32, (bytes + 4) as u8, 0, topic.len() as u8];
    assert!(bytes + 4 < 128, "one byte of remaining length");
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&((seq % 60_000) as u16 + 1).to_be_bytes());
    packet.extend_from_slice(payload.as_bytes());
    (packet, bytes as u64)
}

fn puback(stream: &mut impl Read) {
    let mut puback = [0; 4];
    stream.read_exact(&mut puback).unwrap();
    assert_eq!(puback[..2], [0x40, 2]);
}

fn open_loop(address: SocketAddr, rate: u64, seconds: u64) -> Taken {
    const SENSORS: usize = 20;
    let per_sensor = rate * seconds / SENSORS as u64;
    let started = Instant::now();
    let sensor = move |n: usize| {
        let mut stream = connect(address, n);
        let mut answers = std::io::BufReader::new(stream.try_clone().unwrap());
        let (sent, sends) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let wait = |at: Instant| {
                puback(&mut answers);
                at.elapsed()
            };
            sends.into_iter().map(wait).collect::<Vec<_>>()
        });
        let every = SENSORS as f64 / rate as f64;
        let mut bytes = 0;
        for seq in 0..per_sensor {
            // Each sensor's clock runs by itself.
            let at = (seq as f64 + (n as f64 * 0.618).fract()) * every;
            std::thread::sleep(Duration::from_secs_f64(at).saturating_sub(started.elapsed()));
            let (packet, payload) = reading(n, seq);
            sent.send(Instant::now()).unwrap();
            stream.write_all(&packet).unwrap();
            bytes += payload;
        }
        drop(sent);
        let waits = reader.join().unwrap();
        Taken { bytes, waits }
    };
    let threads: Vec<_> = (0..SENSORS)
        .map(|n| std::thread::spawn(move || sensor(n)))
        .collect();
    let each = threads.into_iter().map(|t| t.join().unwrap());
    each.fold(Taken::default(), Taken::and)
}

fn closed_loop(address: SocketAddr, n: usize, in_flight: usize, seconds: u64) -> Taken {
    let mut stream = connect(address, n);
    let mut answers = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut taken = Taken::default();
    let mut sent = VecDeque::new();
    let (started, mut seq) = (Instant::now(), 0);
    let mut batch = Vec::new();
    loop {
        let going = started.elapsed() < Duration::from_secs(seconds);
        batch.clear();
        while going && sent.len() < in_flight {
            let (packet, bytes) = reading(n, seq);
            batch.extend_from_slice(&packet);
            sent.push_back(Instant::now());
            taken.bytes += bytes;
            seq += 1;
        }
        stream.write_all(&batch).unwrap();
        let Some(at) = sent.pop_front() else {
            return taken;
        };
        puback(&mut answers);
        taken.waits.push(at.elapsed());
        while answers.buffer().len() >= 4 {
            puback(&mut answers);
            let at: Instant = sent.pop_front().expect("an answer to something sent");
            taken.waits.push(at.elapsed());
        }
    }
}

/// Bytes that this process made the kernel write to a medium.
fn process_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.unwrap().parse().unwrap()
}

/// Bytes written to a block device: its seventh counter, in sectors of 512 bytes.
fn device_bytes(device: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
    let sectors: u64 = stat.split_whitespace().nth(6).unwrap().parse().unwrap();
    sectors * 512
}

/// The medium's own time, for comparison.
fn probe(dir: &Path) -> String {
    let path = dir.join("probe");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let at = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            at.elapsed()
        })
        .collect();
    std::fs::remove_file(&path).unwrap();
    times.sort_unstable();
    format!("p50 {:?}, p99 {:?}", times[150], times[297])
}
