//! A backlog that the cloud does not have yet: the edge's memory while it grows, the start after a
//! SIGKILL on top of it, and the drain once there is a cloud.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::mqtt::{Client, Packet};
use e2e::nodes::{Cloud, Edge};
use e2e::process::Process;
use e2e::wait_for;

use super::{Plan, Result, say};
use crate::table::{Line, Spread};
use crate::{probe, status};

/// Payloads that no zstd makes smaller: backlog and drain are counted in compressed bytes.
const PAYLOAD_BYTES: usize = 8 << 10;
const PUBLISHERS: u64 = 4;
const IN_FLIGHT: usize = 64;
const STARTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(1800);

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let scratch = tempfile::tempdir_in(plan.dir)?;
    let cloud = Cloud::new(&scratch.path().join("cloud"));
    // Makes the directory, the CA and the bundle, and then there is no cloud.
    let bundle = with_running(&cloud, || cloud.add_edge("bench", cloud.uplink));
    let config = format!(
        "[log]\nbudget_bytes = {}\n",
        plan.backlog_bytes * 2 + (1 << 30)
    );
    let edge = Edge::new(&scratch.path().join("edge"), Some(bundle)).with_config(&config);
    let size = format!("{:.1} GB", plan.backlog_bytes as f64 / 1e9);
    let process = edge.start();
    let (mut lines, publishers) = grow(&edge, &process, plan.backlog_bytes, &size)?;
    // Publishers are at it when the process dies.
    process.kill();
    publishers.end();
    let (line, process) = restarts(&edge, &size)?;
    lines.push(line);
    lines.push(drain(plan.dir, &cloud, &edge, &size)?);
    process.stop();
    Ok(lines)
}

fn with_running<T>(cloud: &Cloud, act: impl FnOnce() -> T) -> T {
    let process = cloud.start();
    let done = act();
    process.stop();
    done
}

/// Publishers that go on until their broker is gone or they are told to.
struct Publishers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    fn start(broker: SocketAddr) -> Publishers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..PUBLISHERS).map(|n| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                // Its end is the broker's: that is how most of them end.
                let _ = publish(broker, n, &stop);
            })
        });
        let threads = threads.collect();
        Publishers { stop, threads }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a publisher does not panic");
        }
    }
}

fn publish(broker: SocketAddr, number: u64, stop: &AtomicBool) -> std::io::Result<()> {
    let mut client = Client::connect(broker, &format!("bench-backlog-{number}"), true)?;
    let mut state = number + 1;
    let mut payload = vec![0; PAYLOAD_BYTES];
    let (mut in_flight, mut id) = (0, 0u16);
    while !stop.load(Ordering::Relaxed) {
        while in_flight < IN_FLIGHT {
            noise(&mut state, &mut payload);
            id = id.checked_add(1).unwrap_or(1);
            client.publish("backlog", &payload, 1, id, false);
            in_flight += 1;
        }
        client.flush()?;
        loop {
            if let Packet::PubAck(_) = client.receive()? {
                in_flight -= 1;
            }
            if !client.has_buffered_input() {
                break;
            }
        }
    }
    Ok(())
}

/// xorshift64: nothing for a compressor.
fn noise(state: &mut u64, payload: &mut [u8]) {
    for chunk in payload.chunks_exact_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
}

fn segment_bytes(edge: &Edge) -> Option<u64> {
    status::of(edge).ok()?["log"]["segment_bytes"].as_u64()
}

/// Fills the log and watches the memory: at every tenth of the way.
fn grow(edge: &Edge, process: &Process, bytes: u64, size: &str) -> Result<(Vec<Line>, Publishers)> {
    say(format!("filling a backlog of {size}"));
    let publishers = Publishers::start(edge.mqtt);
    let mut rss = Vec::new();
    for tenth in 1..=10u64 {
        wait_for("the backlog", PATIENCE, || {
            segment_bytes(edge).filter(|now| *now >= bytes / 10 * tenth)
        });
        rss.push(process.rss_bytes() as f64 / 1e6);
    }
    let (early, late) = (rss[1], rss[9]);
    let most = rss.iter().copied().fold(0.0, f64::max);
    let is_flat = late <= early * 1.1 + 1.0;
    let line = Line::new(
        format!("edge RSS with an unsent backlog of {size}, while it grows"),
        format!("{early:.1} MB at a fifth, {late:.1} MB at the end, {most:.1} MB at most"),
    );
    let line = line.aim("40 MB and flat", most <= 40.0 && is_flat);
    Ok((vec![line], publishers))
}

/// Starts, publishes a little and is killed, again and again; the last one lives.
fn restarts(edge: &Edge, size: &str) -> Result<(Line, Process)> {
    let mut times = Vec::new();
    loop {
        say(format!(
            "start {} of {STARTS} after SIGKILL",
            times.len() + 1
        ));
        let started = Instant::now();
        let process = edge.start();
        // It listens before it has recovered, and answers after.
        Client::connect(edge.mqtt, "bench-start", true)?.disconnect()?;
        times.push(started.elapsed().as_secs_f64());
        if times.len() == STARTS {
            let times = Spread::of(times);
            let line = Line::new(
                format!("start after SIGKILL under load, {size} of log, to a client's CONNACK"),
                format!("{} s", times.show(1.0, 2)),
            );
            let line = line
                .floor("3 s, each", times.max() <= 3.0)
                .aim("1 s, each", times.max() <= 1.0);
            return Ok((line, process));
        }
        let publishers = Publishers::start(edge.mqtt);
        // Some load to be killed under.
        std::thread::sleep(Duration::from_secs(2));
        process.kill();
        publishers.end();
    }
}

fn lag(edge: &Edge) -> Option<u64> {
    status::of(edge).ok()?["uplink"]["lag"].as_u64()
}

/// The cloud comes: from the first record that it acknowledges to the last.
fn drain(dir: &Path, cloud: &Cloud, edge: &Edge, size: &str) -> Result<Line> {
    say(format!("draining {size}"));
    let before = probe::disk(dir)?.sequential_mb_per_s;
    let all = lag(edge).ok_or("the edge says no lag")?;
    let bytes = segment_bytes(edge).ok_or("the edge says no size")?;
    let process = cloud.start();
    let begun = wait_for("the drain to begin", Duration::from_secs(60), || {
        lag(edge).filter(|now| *now < all).map(|_| Instant::now())
    });
    wait_for("the drain to end", PATIENCE, || {
        lag(edge).filter(|now| *now == 0)
    });
    let rate = bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
    let cpu = process.cpu_time().as_secs_f64();
    process.stop();
    let after = probe::disk(dir)?.sequential_mb_per_s;
    let disk = (before + after) / 2.0;
    let share = rate / disk * 100.0;
    let line = Line::new(
        format!("drain of {size}, one edge, loopback, the cloud fsyncing, compressed bytes"),
        format!(
            "{rate:.0} MB/s, {share:.0} % of the disk's sequential {disk:.0} MB/s; the cloud's CPU {:.1} s per GB",
            cpu / (bytes as f64 / 1e9)
        ),
    );
    Ok(line.aim("60 %", share >= 60.0))
}
