//! Headwater against the clients that its users have: MQTT clients use an edge and publish to it, Kafka clients
//! read the mirrored topic from the cloud, Kafka's own tool reads both directories. Started by
//! `tests/interop/run`, which brings the clients. Fails, never skips.

mod consume;
mod dump;
mod page;
mod produce;
mod publish;
mod rows;
mod secure;
mod table;
mod uses;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use e2e::kafka::Consumer;
use e2e::nodes::{Cloud, Edge};

use crate::consume::Source;
use crate::rows::Published;

/// Publishes with every MQTT client, reads with every Kafka client, and compares.
#[derive(Parser)]
struct Arguments {
    /// Where the clients are, and where the table of exercised APIs is written
    #[arg(long)]
    out: PathBuf,
    /// Only the edge's status page
    #[arg(long)]
    page: bool,
    /// Only TLS, logins, rules and WebSockets on the MQTT side
    #[arg(long)]
    only_secure: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut checks = Checks::default();
    if let Err(problem) = run(&arguments, &mut checks) {
        checks.failed += 1;
        eprintln!("interop: {problem}");
    }
    println!("\n{} passed, {} failed", checks.passed, checks.failed);
    if checks.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// As many partitions as the cloud has by default, so that a group of three shares the work.
const ROUTE: &str = r##"
[[routes]]
filter = "#"
topic = "mqtt"
key = "{topic}"
partitions = 8
"##;

/// Segments are sealed within the run, so that there are some to read.
const COLD_SOON: &str = "
[log]
segment_age_s = 1
segment_bytes_min = 1
checkpoint_interval_s = 1
";

/// What has been shown so far. A check that fails ends the run, since later ones build on it.
#[derive(Default)]
struct Checks {
    passed: usize,
    failed: usize,
}

impl Checks {
    fn that<T>(&mut self, what: &str, outcome: Result<T, String>) -> Result<T, String> {
        let value = outcome.map_err(|problem| format!("{what}: {problem}"))?;
        println!("ok {what}");
        self.passed += 1;
        Ok(value)
    }
}

fn run(arguments: &Arguments, checks: &mut Checks) -> Result<(), String> {
    let out = arguments
        .out
        .canonicalize()
        .map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    checks.that("the status page in Chromium", page::check(&out))?;
    if arguments.page {
        return Ok(());
    }
    if arguments.only_secure {
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        return secure::run(&out, scratch.path(), checks);
    }
    checks.that(
        "Kafka's classes read the golden batches",
        produce::golden(&out),
    )?;
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    use_all(&out, &scratch.path().join("used"), checks)?;
    let cloud = Cloud::new(&scratch.path().join("cloud")).with_config(COLD_SOON);
    let cloud_process = cloud.start();
    let edge = Edge::new(
        &scratch.path().join("edge"),
        Some(cloud.add_edge("interop", cloud.uplink)),
    );
    let edge = edge.with_config(ROUTE);
    let edge_process = edge.start();

    let started_ms = wall_clock_ms();
    let published = publish_all(&out, &edge, checks)?;
    let ended_ms = wall_clock_ms() + 1000;
    checks.that(
        "everything acknowledged is mirrored",
        wait_mirrored(&cloud, published.len()),
    )?;
    consume_all(&out, &cloud, &published, started_ms..=ended_ms, checks)?;
    checks.that(
        "mosquitto_sub gets what mosquitto_pub sends",
        publish::mosquitto_sub_receives(edge.mqtt),
    )?;
    secure::run(&out, &scratch.path().join("secure"), checks)?;
    produce_all(&out, &cloud, checks)?;
    let groups = [
        "interop-java-1",
        "interop-confluent-3",
        "interop-kafka-python-1",
    ];
    checks.that(
        "the Java admin client",
        produce::administer(&out, cloud.kafka, &groups),
    )?;
    checks.that(
        "the table of exercised APIs",
        table::write(&out, cloud.admin),
    )?;

    edge_process.stop();
    cloud_process.stop();
    for (name, dir) in [
        ("edge", edge.dir.join("data")),
        ("cloud", cloud.dir.join("data")),
    ] {
        let dumped = checks.that(
            &format!("DumpLogSegments reads the {name}'s directory"),
            dump::check(&out, &dir),
        )?;
        println!("   {dumped:?}, all valid");
    }
    Ok(())
}

/// What people do with a broker, by the clients that they have.
fn use_all(out: &Path, dir: &Path, checks: &mut Checks) -> Result<(), String> {
    let edge = Edge::new(dir, None);
    let process = edge.start();
    let door = uses::Door {
        scheme: "mqtt",
        address: edge.mqtt,
        ca: None,
    };
    uses::paho(out, door, checks)?;
    uses::mqtt_js(out, door, checks)?;
    uses::java(out, door, checks)?;
    uses::mosquitto(door, checks)?;
    uses::rumqttc(door, checks)?;
    process.stop();
    Ok(())
}

fn publish_all(out: &Path, edge: &Edge, checks: &mut Checks) -> Result<Vec<Published>, String> {
    let mut published = Vec::new();
    for version in ["3.1.1", "5"] {
        published.extend(checks.that(
            &format!("paho-mqtt {version} publishes"),
            publish::paho(out, edge.mqtt, version, &[]),
        )?);
    }
    for version in ["311", "5"] {
        published.extend(checks.that(
            &format!("mosquitto_pub -V {version} publishes"),
            publish::mosquitto(edge.mqtt, version),
        )?);
    }
    published.extend(checks.that("rumqttc publishes", publish::rumqttc(edge.mqtt))?);
    println!("   {} messages acknowledged", published.len());
    Ok(published)
}

fn consume_all(
    out: &Path,
    cloud: &Cloud,
    published: &[Published],
    span_ms: RangeInclusive<i64>,
    checks: &mut Checks,
) -> Result<(), String> {
    let source = Source {
        out,
        kafka: cloud.kafka,
        topic: "mqtt",
        records: published.len(),
    };
    let first = consume::kcat(source)?;
    checks.that(
        "kcat reads what was published",
        rows::compare(published, &first, &span_ms),
    )?;
    for members in [1, 3] {
        for name in ["confluent", "kafka-python", "java"] {
            let read = match name {
                "java" => consume::java(source, members),
                library => consume::python(source, library, members),
            }?;
            let same =
                rows::compare(published, &read, &span_ms).and_then(|()| rows::same(&first, &read));
            checks.that(
                &format!("{name}, {members} in a group, reads the same"),
                same,
            )?;
        }
    }
    Ok(())
}

fn produce_all(out: &Path, cloud: &Cloud, checks: &mut Checks) -> Result<(), String> {
    let topic = "produced";
    let mut produced = checks.that("java produces", produce::java(out, cloud.kafka, topic))?;
    for library in ["confluent", "kafka-python"] {
        produced.extend(checks.that(
            &format!("{library} produces"),
            produce::python(out, cloud.kafka, library, topic),
        )?);
    }
    let source = Source {
        out,
        kafka: cloud.kafka,
        topic,
        records: produced.len(),
    };
    checks.that(
        "kcat reads what was produced",
        produce::compare(&produced, &consume::kcat(source)?),
    )?;
    let java = consume::java(source, 1)?;
    checks.that(
        "java reads what was produced",
        produce::compare(&produced, &java),
    )
}

/// Java with the clients and our programs on its class path.
fn java(out: &Path) -> Command {
    let classes = format!("{0}/classes:{0}/jars/*", out.display());
    let mut command = Command::new("java");
    command.args([
        "-Xmx256m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        &classes,
    ]);
    command
}

fn wait_mirrored(cloud: &Cloud, records: usize) -> Result<(), String> {
    let started = Instant::now();
    let mut seen = 0;
    while started.elapsed() < Duration::from_secs(30) {
        let read =
            Consumer::connect(cloud.kafka).and_then(|mut consumer| consumer.read_all("mqtt"));
        seen = read.map_or(seen, |records| records.len());
        if seen >= records {
            return Ok(());
        }
        // Polling another process' state: there is nothing to be woken by.
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{seen} of {records} messages mirrored in 30 s"))
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One value per line.
fn json_lines<T: for<'a> serde::Deserialize<'a>>(output: &[u8]) -> Result<Vec<T>, String> {
    let text = std::str::from_utf8(output).map_err(|error| error.to_string())?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
        .collect()
}
