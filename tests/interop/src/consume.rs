//! The Kafka clients, each reading the whole topic.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rows::Consumed;

/// What to read: the broker, the topic and how many records are known to be in it.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub out: &'a Path,
    pub kafka: SocketAddr,
    pub topic: &'a str,
    pub records: usize,
}

/// The Java client, `members` of one group.
pub fn java(source: Source, members: usize) -> Result<Vec<Consumed>, String> {
    let mut command = crate::java(source.out);
    command.arg("Consume");
    read(command, source, members, "java")
}

/// confluent-kafka (librdkafka) or kafka-python.
pub fn python(source: Source, library: &str, members: usize) -> Result<Vec<Consumed>, String> {
    let mut command = Command::new(source.out.join("venv/bin/python"));
    command.args(["tests/interop/clients/consume.py", library]);
    read(command, source, members, library)
}

fn read(
    mut command: Command,
    source: Source,
    members: usize,
    name: &str,
) -> Result<Vec<Consumed>, String> {
    let output = command
        .args([
            &source.kafka.to_string(),
            source.topic,
            &source.records.to_string(),
            &members.to_string(),
        ])
        .arg(format!("interop-{name}-{members}"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    let rows: Vec<Consumed> = crate::json_lines(&output.stdout)?;
    let mut readers: Vec<&str> = rows.iter().map(|row| row.member.as_str()).collect();
    readers.sort_unstable();
    readers.dedup();
    if readers.len() != members {
        return Err(format!(
            "{name}: {members} members, read by {readers:?} only"
        ));
    }
    println!(
        "   {name}, {members} member(s): {} records, read by {readers:?}",
        rows.len()
    );
    Ok(rows)
}

/// kcat from the beginning to the end of every partition (it ends header values at a zero byte). Its JSON cannot carry bytes that are not
/// UTF-8, so keys, values and headers come in a format of their own, with lengths.
pub fn kcat(source: Source) -> Result<Vec<Consumed>, String> {
    let output = Command::new("kcat")
        .args([
            "-C",
            "-q",
            "-e",
            "-X",
            "check.crcs=true",
            "-o",
            "beginning",
            "-b",
            &source.kafka.to_string(),
            "-t",
            source.topic,
        ])
        .args(["-f", "%p %o %T %K %S %h\\x01%k%s\\x02\\n"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("kcat: {error}"))?;
    if !output.status.success() {
        return Err(format!("kcat: {}", output.status));
    }
    let mut rows = Vec::new();
    let mut rest = output.stdout.as_slice();
    while !rest.is_empty() {
        rows.push(kcat_row(&mut rest).ok_or("kcat: output that does not parse")?);
    }
    println!("   kcat: {} records", rows.len());
    Ok(rows)
}

fn kcat_row(rest: &mut &[u8]) -> Option<Consumed> {
    let end = rest.iter().position(|&byte| byte == 1)?;
    let mut fields = rest[..end].splitn(6, |&byte| byte == b' ');
    let mut number = || {
        std::str::from_utf8(fields.next()?)
            .ok()?
            .parse::<i64>()
            .ok()
    };
    let (partition, offset, timestamp, key, value) =
        (number()?, number()?, number()?, number()?, number()?);
    let (key, value) = (usize::try_from(key).ok()?, usize::try_from(value).ok()?);
    let headers = fields
        .next()
        .unwrap_or_default()
        .split(|&byte| byte == b',');
    let body = rest.get(end + 1..)?;
    let row = Consumed {
        partition: i32::try_from(partition).ok()?,
        offset,
        timestamp,
        key: Some(bytes_hex(body.get(..key)?)),
        value: Some(bytes_hex(body.get(key..key + value)?)),
        headers: headers.filter_map(kcat_header).collect(),
        member: String::new(),
    };
    *rest = body.get(key + value + 2..)?;
    Some(row)
}

/// `name=value`, the value's bytes as they are.
fn kcat_header(pair: &[u8]) -> Option<(String, Option<String>)> {
    let split = pair.iter().position(|&byte| byte == b'=')?;
    Some((
        bytes_hex(&pair[..split]),
        Some(bytes_hex(&pair[split + 1..])),
    ))
}

fn bytes_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
