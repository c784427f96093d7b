//! Both nodes at work, and a power cut of one of them each round.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::judge::{Stored, Verdict, judge};
use e2e::kafka::Consumer;
use e2e::mqtt::Version;
use e2e::nodes::{Cloud, Edge};
use e2e::payload;
use e2e::process::{binary, wait_listening};
use e2e::publisher::{Progress, Report, Task, run as publish};
use e2e::wait_for;
use headwater_batch::SplitMix64;

use crate::disk::{Disk, Unsynced};
use crate::trace::parse;
use crate::traced::Traced;
use crate::unsynced;

const LIMIT: Duration = Duration::from_secs(300);
/// Of each publisher, in each round.
const MESSAGES: u32 = 300;
const PUBLISHERS: u64 = 4;
/// Small files, so that a round meets rolled journals, checkpoints and cold segments.
const EDGE: &str = "log_level = \"warn\"\n[log]\njournal_file_bytes = 65536\nsegment_bytes = 65536\n\
    batch_bytes = 4096\nlinger_ms = 20\nbudget_bytes = 67108864\nreserve_bytes = 1048576\n";
const CLOUD: &str = "log_level = \"warn\"\n";

/// A node's place, and the node as it runs there.
struct Place<'a> {
    name: &'static str,
    dir: &'a Path,
    args: Vec<String>,
    listens: std::net::SocketAddr,
    running: Option<(Traced, Disk)>,
}

/// Cuts the power of one node after the other, `rounds` times in all.
pub fn run(rounds: u64, rng: &mut SplitMix64) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let ended = run_in(scratch.path(), rounds, rng);
    ended.map_err(|text| format!("{text} (see {})", scratch.keep().display()))
}

fn run_in(scratch: &Path, rounds: u64, rng: &mut SplitMix64) -> Result<(), String> {
    let cloud = Cloud::new(&scratch.join("cloud")).with_config(CLOUD);
    // Before anything is traced: a trace knows nothing of what another process writes.
    let bundle = cloud.add_edge("gateway-1", cloud.uplink);
    let (kafka, uplink) = (cloud.kafka.to_string(), cloud.uplink.to_string());
    let admin = cloud.admin.to_string();
    let config = cloud.dir.join("cloud-cluster.toml").display().to_string();
    let flags = [
        "--kafka", &kafka, "--uplink", &uplink, "--admin", &admin, "--config", &config,
    ];
    let mut above = Place::new("cloud-cluster", &cloud.dir, &flags, cloud.kafka);
    above.start()?;
    let edge = Edge::new(&scratch.join("edge"), Some(bundle.clone())).with_config(EDGE);
    let (mqtt, config) = (edge.mqtt.to_string(), edge.dir.join("edge-node.toml"));
    let (bundle, config) = (bundle.display().to_string(), config.display().to_string());
    let flags = [
        "--mqtt", &mqtt, "--status", "off", "--bundle", &bundle, "--config", &config,
    ];
    let mut below = Place::new("edge-node", &edge.dir, &flags, edge.mqtt);
    below.start()?;

    let mut reports: Vec<Report> = Vec::new();
    for round in 1..=rounds {
        let progress = Arc::new(Progress::default());
        let publishers = publishers(edge.mqtt, round, &progress);
        let wanted = 1 + rng.below(PUBLISHERS * u64::from(MESSAGES) * 3 / 4);
        wait_for(&format!("{wanted} acknowledgements"), LIMIT, || {
            (progress.acked.load(Ordering::Relaxed) >= wanted).then_some(())
        });
        let victim = if rng.one_in(2) {
            &mut above
        } else {
            &mut below
        };
        let unsynced = unsynced(rng);
        victim.cut(unsynced, rng)?;
        let name = victim.name;
        println!("round {round}: cut {name} with {unsynced:?} after {wanted} messages");
        victim.start()?;
        for publisher in publishers {
            let ended = publisher.join().map_err(|_| "a publisher panicked")?;
            reports.push(ended?);
        }
    }
    // Attempts that nobody acknowledged may be there too: a count says nothing.
    let started = Instant::now();
    while let Err(missing) = verdict(&reports, &cloud) {
        if started.elapsed() > LIMIT {
            return Err(missing);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // What came late would be a second one.
    below.say_errors()?;
    let verdict = verdict(&reports, &cloud)?;
    above.say_errors()?;
    println!("{rounds} power cuts of edge and cloud: {verdict:?}");
    Ok(())
}

/// One round's: both versions, both QoS.
fn publishers(
    broker: std::net::SocketAddr,
    round: u64,
    progress: &Arc<Progress>,
) -> Vec<JoinHandle<Result<Report, String>>> {
    let publishers = (0..PUBLISHERS).map(|n| {
        let (qos, id) = (1 + (n % 2) as u8, format!("publisher-{round}-{n}"));
        let task = Task {
            broker,
            version: if n < 2 { Version::V3 } else { Version::V5 },
            topic: format!("rounds/{id}"),
            id,
            qos,
            messages: MESSAGES,
            in_flight: 10,
            payload_bytes: 0,
            limit: LIMIT,
        };
        let progress = progress.clone();
        std::thread::spawn(move || publish(task, progress))
    });
    publishers.collect()
}

impl<'a> Place<'a> {
    fn new(
        name: &'static str,
        dir: &'a Path,
        flags: &[&str],
        listens: std::net::SocketAddr,
    ) -> Place<'a> {
        let args = ["run", "--data-dir", "data"].iter().chain(flags);
        let args = args.map(|arg| (*arg).to_owned()).collect();
        Place {
            name,
            dir,
            args,
            listens,
            running: None,
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let disk = Disk::new(self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        let (program, log) = (binary(self.name), self.dir.with_extension("log"));
        let node = Traced::spawn(&program, &self.args, self.dir, &self.trace(), &log);
        self.running = Some((node, disk));
        wait_listening(self.name, self.listens);
        Ok(())
    }

    /// Kills the node and leaves its directory as a power cut would.
    fn cut(&mut self, unsynced: Unsynced, rng: &mut SplitMix64) -> Result<(), String> {
        let (node, mut disk) = self.running.take().ok_or("it does not run")?;
        node.kill().map_err(|e| format!("{}: {e}", self.name))?;
        let text = fs::read_to_string(self.trace()).map_err(|e| e.to_string())?;
        let (calls, moments) = parse(&text)?;
        for call in &calls {
            disk.take(call)?;
        }
        let left = self.dir.with_extension("left");
        let swapped = disk.image(moments, unsynced, rng, &left).and_then(|()| {
            fs::remove_dir_all(self.dir.join("data"))?;
            if left.join("data").exists() {
                fs::rename(left.join("data"), self.dir.join("data"))?;
            }
            fs::remove_dir_all(&left)
        });
        swapped.map_err(|e| format!("the image of {}: {e}", self.name))
    }

    /// A power cut is no damage, on either side.
    fn say_errors(&mut self) -> Result<(), String> {
        let (node, _) = self.running.take().ok_or("it does not run")?;
        node.kill().map_err(|e| format!("{}: {e}", self.name))?;
        let log = fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        match log.lines().find(|line| line.contains("ERROR")) {
            Some(line) => Err(format!("{} said: {line}", self.name)),
            None => Ok(()),
        }
    }

    fn trace(&self) -> std::path::PathBuf {
        self.dir.with_extension("trace")
    }
}

fn read(cloud: &Cloud) -> Result<Vec<Stored>, String> {
    let failed = |e: Box<dyn std::error::Error>| format!("reading the topic: {e}");
    let mut consumer = Consumer::connect(cloud.kafka).map_err(failed)?;
    let records = consumer.read_all("mqtt").map_err(failed)?.into_iter();
    let stored = records.map(|record| {
        let (partition, offset) = (record.partition, record.offset);
        let attempt = payload::read(record.value.as_deref().unwrap_or_default())?;
        Ok(Stored {
            partition,
            offset,
            attempt,
        })
    });
    stored.collect()
}

fn verdict(reports: &[Report], cloud: &Cloud) -> Result<Verdict, String> {
    judge(reports, &read(cloud)?).map_err(|faults| faults.to_string())
}
