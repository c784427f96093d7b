//! The edge: its clients before the cut, and what must stand after it.
//!
//! Packet ids are unique over all clients of a run, and a message's topic ends in its packet id, so
//! that an answer in the trace names its message, and so does a record in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::mqtt::{Client, Packet};
use e2e::nodes::Edge;
use e2e::process::{binary, free_port, wait_listening};
use headwater_batch::{Decoder, Limits, SplitMix64, batches};

use crate::answers::Answers;
use crate::disk::{Disk, Unsynced};
use crate::trace::{Moment, parse};
use crate::traced::Traced;

/// Small files: journal files are opened, checkpointed and trimmed many times in one run.
const SETTINGS: &str = "log_level = \"warn\"\n[log]\njournal_file_bytes = 65536\n\
    segment_bytes = 65536\nbatch_bytes = 4096\nlinger_ms = 20\nbudget_bytes = 67108864\n\
    reserve_bytes = 1048576\n[[routes]]\nfilter = \"#\"\ntopic = \"mqtt\"\nkey = \"{topic}\"\npartitions = 2\n";
const PUBLISHERS: u16 = 3;
const SESSIONS: u16 = 20;
const IN_FLIGHT: u16 = 10;

/// Packet ids of the QoS 1 publishers: `QOS1 + publisher * each ..`.
const QOS1: u16 = 20_000;
/// Of the QoS 2 publisher.
const QOS2: u16 = 10_000;
/// Of what is published to a session while it is away.
const AWAY: u16 = 1_000;
/// Of the subscription of each session.
const SUBSCRIBE: u16 = 1;

/// How much is published before the cut.
#[derive(Clone, Copy)]
pub struct Load {
    /// Of each publisher at QoS 1.
    pub qos1: u16,
    pub qos2: u16,
}

/// A run under trace, ready to be cut.
pub struct Run {
    disk: Disk,
    answers: Answers,
    moments: Moment,
    load: Load,
    settings: PathBuf,
    /// Where each record stands when nothing was cut, by topic.
    offsets: BTreeMap<String, (PathBuf, i64)>,
}

/// What cuts met, all together.
#[derive(Default, Debug)]
pub struct Met {
    pub acked: usize,
    pub qos2_resent: usize,
    pub sessions: usize,
    pub queued: usize,
}

impl Met {
    pub fn add(&mut self, other: &Met) {
        self.acked += other.acked;
        self.qos2_resent += other.qos2_resent;
        self.sessions += other.sessions;
        self.queued += other.queued;
    }

    /// Nothing is shown by cuts that met nothing.
    pub fn complete(&self) -> Result<(), String> {
        let all = [
            ("acknowledged message", self.acked),
            ("QoS 2 resend", self.qos2_resent),
            ("session", self.sessions),
            ("queued message", self.queued),
        ];
        match all.iter().find(|(_, count)| *count == 0) {
            Some((what, _)) => Err(format!("no cut met any {what}: nothing was shown")),
            None => Ok(()),
        }
    }
}

/// Publishes to an edge under trace, kills it, and reads the trace.
pub fn record(scratch: &Path, load: Load) -> Result<Run, String> {
    let (home, trace) = (scratch.join("home"), scratch.join("trace"));
    fs::create_dir_all(&home).map_err(|e| e.to_string())?;
    let settings = scratch.join("edge-node.toml");
    fs::write(&settings, SETTINGS).map_err(|e| e.to_string())?;
    let mut disk = Disk::new(&home).map_err(|e| e.to_string())?;
    let mqtt = free_port();
    let args = ["run", "--data-dir", "data", "--status", "off", "--mqtt"];
    let mut args: Vec<String> = args.map(str::to_owned).into();
    args.extend([
        mqtt.to_string(),
        "--config".into(),
        settings.display().to_string(),
    ]);
    let node = Traced::spawn(
        &binary("edge-node"),
        &args,
        &home,
        &trace,
        &scratch.join("log"),
    );
    wait_listening("the edge under strace", mqtt);
    let clients = clients(mqtt, load);
    node.kill()?;
    clients?;
    let text = fs::read_to_string(&trace).map_err(|e| e.to_string())?;
    let (calls, moments) = parse(&text)?;
    drop(text);
    let mut answers = Answers::default();
    for call in &calls {
        disk.take(call)?;
        answers.take(call)?;
    }
    let mut run = Run {
        disk,
        answers,
        moments,
        load,
        settings,
        offsets: BTreeMap::new(),
    };
    let wanted = usize::from(PUBLISHERS * load.qos1);
    if run.answers.pubacks.len() < wanted {
        let found = run.answers.pubacks.len();
        return Err(format!(
            "{found} PUBACKs in the trace, {wanted} and more were sent"
        ));
    }
    run.disk_is_what_it_was(&home, scratch)?;
    Ok(run)
}

impl Run {
    /// A moment that is worth a cut: most lie between the first acknowledgement and the end.
    pub fn moment(&self, rng: &mut SplitMix64) -> Moment {
        let first = self.answers.pubacks.values().min().copied().unwrap_or(0);
        match rng.one_in(8) {
            true => rng.below(first as u64) as usize,
            false => first + rng.below((self.moments - first) as u64) as usize,
        }
    }

    /// Cuts the power, starts the node on what is left, and asks for all that was promised.
    pub fn cut(
        &self,
        cut: Moment,
        unsynced: Unsynced,
        rng: &mut SplitMix64,
        scratch: &Path,
    ) -> Result<Met, String> {
        let mut edge = Edge::new(scratch, None);
        edge.config = Some(self.settings.clone());
        let data = scratch.join("data");
        let image = self.disk.image(cut, unsynced, rng, scratch);
        image.map_err(|e| format!("the image: {e}"))?;
        fs::create_dir_all(&data).map_err(|e| e.to_string())?;
        let node = edge.start();
        let mut met = Met::default();
        let mut expected = self.told(&self.answers.pubacks, cut, "m");
        met.acked = expected.len();
        expected.extend(self.finish_qos2(edge.mqtt, cut, rng, &mut met)?);
        self.sessions(edge.mqtt, cut, &mut met)?;
        node.stop();
        let log = fs::read_to_string(scratch.join("log")).unwrap_or_default();
        if let Some(line) = log.lines().find(|line| line.contains("ERROR")) {
            return Err(format!("a power cut is no damage, and it said: {line}"));
        }
        let found = read(&data)?;
        if let Some(lost) = expected.iter().find(|topic| !found.contains_key(*topic)) {
            return Err(format!("{lost} was acknowledged and is not there"));
        }
        if let Some((topic, at)) = found.iter().find(|(_, at)| at.len() > 1) {
            return Err(format!("{topic} stands {} times: {at:?}", at.len()));
        }
        for topic in self.told(&self.answers.pubacks, cut, "m") {
            let (was, is) = (self.offsets.get(&topic), found[&topic].first());
            if was != is {
                return Err(format!("{topic} stood at {was:?} and now at {is:?}"));
            }
        }
        Ok(met)
    }

    /// Topics of the messages whose answer was handed over by then.
    fn told(
        &self,
        answers: &std::collections::HashMap<u16, Moment>,
        cut: Moment,
        prefix: &str,
    ) -> BTreeSet<String> {
        let told = answers.iter().filter(|(_, moment)| **moment <= cut);
        told.map(|(id, _)| match *id {
            id if (AWAY..AWAY + SESSIONS).contains(&id) => format!("away/{}/{id}", id - AWAY),
            id => format!("{prefix}/{id}"),
        })
        .collect()
    }

    /// What a QoS 2 client does when its broker is back: everything that was under way is sent again.
    /// Returns the topics that must stand once.
    fn finish_qos2(
        &self,
        mqtt: SocketAddr,
        cut: Moment,
        rng: &mut SplitMix64,
        met: &mut Met,
    ) -> Result<BTreeSet<String>, String> {
        let by_then = |told: &std::collections::HashMap<u16, Moment>, id: u16| {
            told.get(&id).is_some_and(|moment| *moment <= cut)
        };
        let mut expected = self.told(&self.answers.pubrecs, cut, "m");
        if expected.is_empty() {
            return Ok(expected);
        }
        let failed = |e: std::io::Error| format!("the QoS 2 client after the cut: {e}");
        let mut client = Client::connect(mqtt, "qos2", false).map_err(failed)?;
        let ids = QOS2..QOS2 + self.load.qos2;
        let done = ids
            .clone()
            .filter(|id| by_then(&self.answers.pubcomps, *id));
        let done: Vec<u16> = done.collect();
        let under_way = ids.filter(|id| !by_then(&self.answers.pubcomps, *id));
        for id in under_way.take(usize::from(IN_FLIGHT)) {
            // A PUBREC that was sent may have arrived or not, until the client speaks of it.
            let may_be_unknown = !by_then(&self.answers.pubrels, id) && rng.one_in(2);
            if !by_then(&self.answers.pubrecs, id) || may_be_unknown {
                client.publish(&format!("m/{id}"), b"again", 2, id, true);
                client.flush().map_err(failed)?;
                wait(&mut client, &Packet::PubRec(id)).map_err(failed)?;
                met.qos2_resent += 1;
            }
            client.pubrel(id);
            client.flush().map_err(failed)?;
            wait(&mut client, &Packet::PubComp(id)).map_err(failed)?;
            expected.insert(format!("m/{id}"));
        }
        // An id whose PUBCOMP came is free: its next message is another one.
        for id in done.iter().rev().take(3) {
            client.publish(&format!("next/{id}"), b"next", 2, *id, false);
            client.flush().map_err(failed)?;
            wait(&mut client, &Packet::PubRec(*id)).map_err(failed)?;
            expected.insert(format!("next/{id}"));
        }
        client.disconnect().map_err(failed)?;
        Ok(expected)
    }

    /// A SUBACK means a session that is kept, with what was published to it since.
    fn sessions(&self, mqtt: SocketAddr, cut: Moment, met: &mut Met) -> Result<(), String> {
        for n in 0..SESSIONS {
            let told = |told: &std::collections::HashMap<u16, Moment>, id: u16| {
                told.get(&id).is_some_and(|moment| *moment <= cut)
            };
            if !told(&self.answers.subacks, SUBSCRIBE + n) {
                continue;
            }
            met.sessions += 1;
            if !told(&self.answers.pubacks, AWAY + n) {
                continue;
            }
            let name = format!("session-{n}");
            let failed = |e: std::io::Error| format!("{name} after the cut: {e}");
            let mut client = Client::connect(mqtt, &name, false).map_err(failed)?;
            client
                .read_timeout(Duration::from_secs(10))
                .map_err(failed)?;
            loop {
                let packet = client.receive();
                let packet = packet
                    .map_err(|e| format!("{name}: what was queued for it did not come: {e}"))?;
                let Packet::Publish { topic, id, .. } = packet else {
                    continue;
                };
                if topic == format!("away/{n}/{}", AWAY + n) {
                    client.puback(id.unwrap_or_default());
                    met.queued += 1;
                    break;
                }
            }
            client.disconnect().map_err(failed)?;
        }
        Ok(())
    }

    /// The instrument itself: with all that was written kept, the files are those on the real disk.
    fn disk_is_what_it_was(&mut self, home: &Path, scratch: &Path) -> Result<(), String> {
        let copy = scratch.join("copy");
        let mut rng = SplitMix64(0);
        let image = self
            .disk
            .image(self.moments, Unsynced::Kept, &mut rng, &copy);
        image.map_err(|e| e.to_string())?;
        same(home, &copy)?;
        let mut edge = Edge::new(&copy, None);
        edge.config = Some(self.settings.clone());
        edge.start().stop();
        for (topic, at) in read(&copy.join("data"))? {
            self.offsets
                .extend(at.first().map(|at| (topic, at.clone())));
        }
        Ok(())
    }
}

/// Every client at its work at once; returns when the last has its last answer.
fn clients(mqtt: SocketAddr, load: Load) -> Result<(), String> {
    std::thread::scope(|scope| {
        let publishers = (0..PUBLISHERS).map(|n| {
            let first = QOS1 + n * load.qos1;
            scope.spawn(move || publish(mqtt, &format!("qos1-{n}"), 1, first..first + load.qos1))
        });
        let mut clients: Vec<_> = publishers.collect();
        clients.push(scope.spawn(move || publish(mqtt, "qos2", 2, QOS2..QOS2 + load.qos2)));
        clients.push(scope.spawn(move || leave_sessions(mqtt)));
        let ended = clients.into_iter().map(|client| client.join());
        let ended: Vec<_> = ended.collect();
        for end in ended {
            end.map_err(|_| "a client panicked".to_owned())?
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    })
}

fn publish(
    mqtt: SocketAddr,
    name: &str,
    qos: u8,
    ids: std::ops::Range<u16>,
) -> std::io::Result<()> {
    let mut client = Client::connect(mqtt, name, false)?;
    let (mut next, mut in_flight) = (ids.start, 0);
    while next < ids.end || in_flight > 0 {
        while next < ids.end && in_flight < IN_FLIGHT {
            client.publish(&format!("m/{next}"), name.as_bytes(), qos, next, false);
            (next, in_flight) = (next + 1, in_flight + 1);
        }
        client.flush()?;
        match client.receive()? {
            Packet::PubRec(id) => client.pubrel(id),
            Packet::PubAck(_) | Packet::PubComp(_) => in_flight -= 1,
            other => return Err(std::io::Error::other(format!("{name}: {other:?}"))),
        }
    }
    client.flush()
}

/// Sessions that subscribe, leave, and are published to.
fn leave_sessions(mqtt: SocketAddr) -> std::io::Result<()> {
    for n in 0..SESSIONS {
        let mut client = Client::connect(mqtt, &format!("session-{n}"), false)?;
        client.subscribe(SUBSCRIBE + n, &format!("away/{n}/#"), 1);
        client.flush()?;
        client.receive()?;
        client.disconnect()?;
        let mut publisher = Client::connect(mqtt, &format!("away-{n}"), true)?;
        let id = AWAY + n;
        publisher.publish(&format!("away/{n}/{id}"), b"while away", 1, id, false);
        publisher.flush()?;
        wait(&mut publisher, &Packet::PubAck(id))?;
    }
    Ok(())
}

fn wait(client: &mut Client, wanted: &Packet) -> std::io::Result<()> {
    while client.receive()? != *wanted {}
    Ok(())
}

/// Partition directory and offset of each record, by key, from the segments of a stopped node.
fn read(data: &Path) -> Result<BTreeMap<String, Vec<(PathBuf, i64)>>, String> {
    let mut found: BTreeMap<String, Vec<(PathBuf, i64)>> = BTreeMap::new();
    let mut decoder = Decoder::new();
    for dir in listed(data)? {
        for path in listed(&dir)?
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "log"))
        {
            let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            for batch in batches(&bytes, &Limits::UPLINK) {
                let batch = batch.map_err(|e| format!("{}: {e}", path.display()))?;
                batch
                    .verify_crc()
                    .map_err(|e| format!("{}: {e}", path.display()))?;
                let records = batch.records(&mut decoder, &Limits::UPLINK);
                let records = records.map_err(|e| format!("{}: {e}", path.display()))?;
                for record in records {
                    let record = record.map_err(|e| format!("{}: {e}", path.display()))?;
                    let key = String::from_utf8_lossy(record.key.unwrap_or_default());
                    let name = dir.file_name().unwrap_or_default();
                    let at = (PathBuf::from(name), record.offset.0);
                    found.entry(key.into_owned()).or_default().push(at);
                }
            }
        }
    }
    Ok(found)
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, String> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn same(one: &Path, two: &Path) -> Result<(), String> {
    let name = |path: &PathBuf| path.file_name().map(ToOwned::to_owned);
    let (ours, theirs) = (listed(one)?, listed(two)?);
    let names = |paths: &[PathBuf]| paths.iter().map(name).collect::<Vec<_>>();
    if names(&ours) != names(&theirs) {
        return Err(format!(
            "{} holds {ours:?}, the model {theirs:?}",
            one.display()
        ));
    }
    for (one, two) in ours.iter().zip(&theirs) {
        if one.is_dir() {
            same(one, two)?;
        } else if fs::read(one).ok() != fs::read(two).ok() {
            return Err(format!("{} is not what the model says", one.display()));
        }
    }
    Ok(())
}
