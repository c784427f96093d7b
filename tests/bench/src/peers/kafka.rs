//! Apache Kafka from its own jars, one KRaft node, with the JVM flags of its start script; and its
//! own perf tools, which drive both Kafka and Headwater.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::process::{Process, free_port, wait_listening};

use super::{folder, missing};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What kafka-run-class.sh and kafka-server-start.sh give a broker.
const BROKER_FLAGS: [&str; 8] = [
    "-server",
    "-Xms1G",
    "-Xmx1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    QUIET,
];
/// And the perf tools' scripts.
const TOOL_FLAGS: [&str; 3] = ["-server", "-Xmx512M", QUIET];
const QUIET: &str = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";

fn jars() -> Result<PathBuf> {
    let jars = folder()?.join("jars");
    if !jars.is_dir() {
        return Err(missing("Apache Kafka").into());
    }
    Ok(jars)
}

fn class_path() -> Result<String> {
    Ok(jars()?.join("*").display().to_string())
}

/// The broker's version, from the name of its jar.
pub fn version() -> Result<String> {
    for entry in std::fs::read_dir(jars()?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("kafka_2.13-") {
            return Ok(format!("Apache Kafka {}", version.trim_end_matches(".jar")));
        }
    }
    Err(missing("kafka_2.13's jar").into())
}

/// Formats a data directory below `dir` and starts a broker on it.
pub fn start(dir: &Path) -> Result<(Process, SocketAddr)> {
    std::fs::create_dir_all(dir)?;
    let (address, controller) = (free_port(), free_port());
    let config = dir.join("server.properties");
    std::fs::write(&config, properties(dir, address, controller))?;
    let config = config.display().to_string();
    let formatted = java(&TOOL_FLAGS, "kafka.tools.StorageTool")?
        .args([
            "format",
            "--cluster-id",
            "Wk9yM0hlYWR3YXRlckJlbg",
            "--config",
        ])
        .arg(&config)
        .output()?;
    if !formatted.status.success() {
        let why = String::from_utf8_lossy(&formatted.stderr).into_owned();
        return Err(format!("Kafka's directory was not formatted: {why}").into());
    }
    let mut args: Vec<String> = BROKER_FLAGS.iter().map(ToString::to_string).collect();
    args.extend(["-cp".into(), class_path()?, "kafka.Kafka".into(), config]);
    let process = Process::spawn("Apache Kafka", Path::new("java"), &args, &dir.join("log"));
    wait_listening("Apache Kafka", address);
    Ok((process, address))
}

/// Kafka's example for one node, with as many partitions as Headwater's default.
fn properties(dir: &Path, address: SocketAddr, controller: SocketAddr) -> String {
    let logs = dir.join("data");
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         num.partitions=8\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        logs.display()
    )
}

fn java(flags: &[&str], class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(flags).arg("-cp").arg(class_path()?).arg(class);
    Ok(command)
}

/// What is produced and fetched.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    pub topic: &'a str,
    /// One value a line.
    pub payloads: &'a Path,
    pub records: u64,
}

/// Megabytes (10^6) of values per second that `kafka-producer-perf-test` got acknowledged.
pub fn produce(broker: SocketAddr, work: Work<'_>) -> Result<f64> {
    let said = java(&TOOL_FLAGS, "org.apache.kafka.tools.ProducerPerformance")?
        .args(["--topic", work.topic, "--throughput", "-1"])
        .args(["--num-records", &work.records.to_string(), "--payload-file"])
        .arg(work.payloads)
        .args([
            "--producer-props",
            "compression.type=zstd",
            "batch.size=65536",
        ])
        .arg(format!("bootstrap.servers={broker}"))
        .output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let failed = || {
        let why = String::from_utf8_lossy(&said.stderr);
        format!("the producer said: {text}{why}")
    };
    // "N records sent, R records/sec (M MB/sec), ...", the last line for all.
    let last = text.lines().rfind(|line| line.contains(" records sent,"));
    let last = last.filter(|_| said.status.success()).ok_or_else(failed)?;
    let sent = last.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    if sent != Some(work.records) || text.contains("Exception") {
        return Err(failed().into());
    }
    let rate = last.split('(').nth(1).and_then(|m| m.split(' ').next());
    let rate: f64 = rate.ok_or_else(failed)?.parse()?;
    Ok(rate * 1.048576)
}

/// Megabytes (10^6) of values per second that `kafka-consumer-perf-test` read, without the time in
/// which its group was formed.
pub fn fetch(broker: SocketAddr, work: Work<'_>) -> Result<f64> {
    let said = java(&TOOL_FLAGS, "org.apache.kafka.tools.ConsumerPerformance")?
        .args(["--topic", work.topic, "--hide-header"])
        .args(["--messages", &work.records.to_string()])
        .args(["--timeout", "60000", "--bootstrap-server"])
        .arg(broker.to_string())
        .output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let failed = || {
        let why = String::from_utf8_lossy(&said.stderr);
        format!("the consumer said: {text}{why}")
    };
    // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
    let fields: Vec<&str> = text.lines().last().unwrap_or("").split(", ").collect();
    let is_whole = fields
        .get(4)
        .and_then(|n| n.parse::<u64>().ok())
        .is_some_and(|records| records >= work.records);
    if !is_whole || fields.len() < 10 {
        return Err(failed().into());
    }
    let rate: f64 = fields[8].parse()?;
    Ok(rate * 1.048576)
}
