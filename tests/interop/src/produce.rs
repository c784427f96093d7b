//! Kafka clients that produce to the cloud node directly, and the admin client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rows::{Consumed, Published};

/// Records of each codec and kind of acks.
const RECORDS: &str = "200";

/// confluent-kafka or kafka-python.
pub fn python(
    out: &Path,
    kafka: SocketAddr,
    library: &str,
    topic: &str,
) -> Result<Vec<Published>, String> {
    let mut command = Command::new(out.join("venv/bin/python"));
    command.args([
        "tests/interop/clients/produce.py",
        library,
        &kafka.to_string(),
        topic,
        RECORDS,
    ]);
    crate::json_lines(&output(command, library)?)
}

/// The Java client.
pub fn java(out: &Path, kafka: SocketAddr, topic: &str) -> Result<Vec<Published>, String> {
    let mut command = crate::java(out);
    command.args(["Produce", &kafka.to_string(), topic, RECORDS]);
    crate::json_lines(&output(command, "java")?)
}

/// The Java admin client: topics, settings, partitions, and the `groups` that consumers left.
pub fn administer(out: &Path, kafka: SocketAddr, groups: &[&str]) -> Result<(), String> {
    let mut command = crate::java(out);
    command
        .args(["Administer", &kafka.to_string()])
        .args(groups);
    output(command, "java admin").map(drop)
}

fn output(mut command: Command, name: &str) -> Result<Vec<u8>, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    Ok(output.stdout)
}

/// Each record stands once with its key, value and header.
pub fn compare(published: &[Published], consumed: &[Consumed]) -> Result<(), String> {
    let mut wanted: Vec<_> = published
        .iter()
        .map(|p| (p.topic.clone(), p.value.clone(), p.headers.clone()))
        .collect();
    let mut read: Vec<_> = consumed
        .iter()
        .map(|c| {
            (
                c.key.clone().unwrap_or_default(),
                c.value.clone().unwrap_or_default(),
                c.headers.clone(),
            )
        })
        .collect();
    wanted.sort();
    read.sort();
    if wanted.len() != read.len() {
        return Err(format!("{} produced, {} read", wanted.len(), read.len()));
    }
    match wanted.iter().zip(&read).find(|(a, b)| a != b) {
        Some((a, b)) => Err(format!("produced {a:?}, read {b:?}")),
        None => Ok(()),
    }
}

/// Kafka's own classes over the golden batches: they must print what stands beside each.
pub fn golden(out: &Path) -> Result<(), String> {
    let dir = Path::new("uplink/batch/tests/golden");
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bin"));
    files.sort();
    let mut command = crate::java(out);
    command.arg("BatchCheck").args(&files);
    let printed = output(command, "BatchCheck")?;
    let mut wanted = Vec::new();
    for file in &files {
        let text = file.with_extension("txt");
        wanted
            .extend(std::fs::read(&text).map_err(|error| format!("{}: {error}", text.display()))?);
    }
    if files.len() < 20 || printed != wanted {
        return Err(format!(
            "BatchCheck over {} files differs from the texts beside them",
            files.len()
        ));
    }
    Ok(())
}
