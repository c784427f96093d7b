//! `status`, `clients`, `tail`, `log-level`: what a running node says.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::ask::Address;
use super::shown::{bytes, count, duration, escaped, json, table, time};

/// Characters of a payload that a line shows.
const PAYLOAD_CHARS_MAX: usize = 1_000;
/// Warnings and errors that `status` shows.
const RECENT_SHOWN: usize = 10;

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    address: Address,
    /// All of it, as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct TailArgs {
    /// An MQTT topic filter; "#" shows everything but topics that start with "$".
    filter: String,
    #[command(flatten)]
    address: Address,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// One JSON object a line, with whole payloads.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct LogLevelArgs {
    /// error, warn, info, debug, trace or off, also per module: info,headwater_quic=debug. Without
    /// it the filter in force is printed.
    filter: Option<String>,
    #[command(flatten)]
    address: Address,
}

pub fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let status = args.address.json("/status")?;
    match args.json {
        true => print(&(json(&status, true) + "\n")),
        false => print(&summary(&status)),
    }
}

pub fn clients(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let answer = args.address.json("/clients")?;
    if args.json {
        return print(&(json(&answer, true) + "\n"));
    }
    let heads = [
        "CLIENT", "MQTT", "ADDRESS", "USER", "SINCE", "SUBS", "QUEUE", "BYTES", "INFLIGHT", "FROM",
        "TO", "DROPPED",
    ];
    let rows: Vec<Vec<String>> = list(&answer["clients"]).iter().map(client).collect();
    let mut text = table(&heads, &[5, 6, 7, 8, 9, 10, 11], &rows);
    let hidden = number(&answer["sessions"]).saturating_sub(rows.len() as u64);
    if hidden > 0 {
        text += &format!("and {} more\n", count(hidden));
    }
    print(&text)
}

pub fn tail(args: &TailArgs) -> Result<ExitCode, Failure> {
    let path = format!("/tail?filter={}", query(&args.filter));
    let mut lines = args.address.follow(&path)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut line = String::new();
    while left > 0 {
        line.clear();
        let read = lines.read_line(&mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("the node has ended".to_owned().into());
        }
        let seen: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let missed = number(&seen["missed"]);
        if missed > 0 {
            eprintln!("edge-node: {missed} messages came faster than they could be shown");
        }
        let shown = match args.json {
            true => json(&seen, false),
            false => message(&seen),
        };
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{shown}").and_then(|()| out.flush());
        if written.is_err() {
            // Whoever read us has enough.
            break;
        }
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn log_level(args: &LogLevelArgs) -> Result<ExitCode, Failure> {
    let filter = args.filter.as_deref();
    if filter.is_some_and(|filter| filter.trim().is_empty()) {
        return Err("an empty filter; \"off\" silences the log"
            .to_owned()
            .into());
    }
    let now = args
        .address
        .command("POST", "/log-level", filter.unwrap_or_default())?;
    print(&format!("{}\n", escaped(now.trim())))
}

/// Like `tail | head`, a reader that goes is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn message(seen: &Value) -> String {
    let at = time(seen["at_ms"].as_i64().unwrap_or(0));
    let topic = escaped(text(&seen["topic"]));
    let (payload, size) = match &seen["payload_hex"] {
        Value::String(hex) => (format!("0x{}", cut(hex)), hex.len() / 2),
        _ => {
            let payload = text(&seen["payload"]);
            (escaped(&cut(payload)), payload.len())
        }
    };
    let more = match payload.ends_with('…') {
        true => format!(" ({} bytes)", count(size as u64)),
        false => String::new(),
    };
    format!("{at} {topic} {payload}{more}")
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(PAYLOAD_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn client(client: &Value) -> Vec<String> {
    let or_dash = |value: &Value| value.as_str().map_or("-".to_owned(), escaped);
    let n = |field: &str| count(number(&client[field]));
    let (version, since) = match client["connected"].as_bool() {
        Some(true) => (
            or_dash(&client["version"]),
            duration(number(&client["connected_ms"])),
        ),
        _ => ("asleep".to_owned(), "-".to_owned()),
    };
    vec![
        escaped(text(&client["client_id"])),
        version,
        or_dash(&client["remote"]),
        or_dash(&client["user"]),
        since,
        n("subscriptions"),
        n("queued"),
        bytes(number(&client["queued_bytes"])),
        n("inflight"),
        n("received"),
        n("sent"),
        n("dropped"),
    ]
}

fn summary(status: &Value) -> String {
    let (mqtt, log, uplink) = (&status["mqtt"], &status["log"], &status["uplink"]);
    let n = |value: &Value| count(number(value));
    let b = |value: &Value| bytes(number(value));
    let sum = |value: &Value| count(list(value).iter().map(number).sum());
    let health = match status["health"]["reason"].as_str() {
        None => "takes publishes".to_owned(),
        Some(reason) => format!("TAKES NO PUBLISHES: {}", escaped(reason)),
    };
    let mut out = format!(
        "{} {}, up {}: {health}\n",
        escaped(text(&status["name"])),
        escaped(text(&status["version"])),
        duration(number(&status["uptime_ms"])),
    );
    let mut put = |what: &str, line: String| out += &format!("  {what:<10}{line}\n");
    put(
        "clients",
        format!(
            "{} connected, {} sessions, {} subscriptions, {} retained messages",
            n(&mqtt["connected"]),
            n(&mqtt["sessions"]),
            n(&mqtt["subscriptions"]),
            n(&mqtt["retained"]),
        ),
    );
    put(
        "messages",
        format!(
            "{} in, {} out, {} wait, {} dropped for slow subscribers",
            sum(&mqtt["published"]),
            sum(&mqtt["delivered"]),
            n(&mqtt["queued"]),
            n(&mqtt["dropped"]),
        ),
    );
    let used = ["journal_bytes", "segment_bytes", "checkpoint_bytes"];
    let used = used.iter().map(|field| number(&log[*field])).sum();
    put(
        "log",
        format!(
            "{} records, {} commits, {} refused, {} without a route",
            n(&log["records"]),
            n(&log["commits"]),
            n(&log["refused"]),
            n(&log["unrouted"]),
        ),
    );
    put(
        "disk",
        format!(
            "{} of {} used (journal {}, segments {}, checkpoints {}), {} free",
            bytes(used),
            b(&log["limit_bytes"]),
            b(&log["journal_bytes"]),
            b(&log["segment_bytes"]),
            b(&log["checkpoint_bytes"]),
            b(&status["disk_free_bytes"]),
        ),
    );
    put("uplink", link(uplink));
    let memory = b(&status["memory_bytes"]);
    let filter = status["log_filter"].as_str().map_or("-".into(), escaped);
    put("process", format!("{memory} resident, log filter {filter}"));
    out + &partitions(status) + &troubles(status)
}

fn link(uplink: &Value) -> String {
    let lag = count(number(&uplink["lag"]));
    let error = uplink["last_error"].as_str().map(escaped);
    match (
        uplink["configured"].as_bool(),
        uplink["connected"].as_bool(),
    ) {
        (Some(true), Some(true)) => {
            let remote = uplink["remote"].as_str().map_or("?".into(), escaped);
            let ms = number(&uplink["round_trip_us"]) as f64 / 1e3;
            format!("connected to {remote}, round trip {ms:.1} ms, {lag} records to send")
        }
        (Some(true), _) => {
            let error = error.unwrap_or("no answer yet".into());
            format!("DOWN ({error}), {lag} records to send")
        }
        _ => format!("not set up, {lag} records to send"),
    }
}

fn partitions(status: &Value) -> String {
    let rows: Vec<Vec<String>> = list(&status["partitions"])
        .iter()
        .map(|partition| {
            let offset = |field: &str| partition[field].as_i64().unwrap_or(0);
            let difference = |a: &str, b: &str| u64::try_from(offset(a) - offset(b)).unwrap_or(0);
            vec![
                escaped(text(&partition["partition"])),
                count(difference("next", "start")),
                bytes(number(&partition["bytes"])),
                count(number(&partition["segments"])),
                offset("next").to_string(),
                match partition["in_doubt"].as_bool() {
                    Some(true) => "IN DOUBT".to_owned(),
                    _ => count(difference("next", "acked")),
                },
            ]
        })
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => {
            let heads = [
                "PARTITION",
                "RECORDS",
                "SEGMENTS",
                "FILES",
                "NEXT",
                "TO SEND",
            ];
            format!("\n{}", table(&heads, &[1, 2, 3, 4, 5], &rows))
        }
    }
}

fn troubles(status: &Value) -> String {
    let mut out = String::new();
    for alarm in list(&status["alarms"]) {
        let at = time(alarm["at_ms"].as_i64().unwrap_or(0));
        let (partition, what) = (text(&alarm["partition"]), text(&alarm["alarm"]));
        out += &format!("{at} ALARM {}: {}\n", escaped(partition), escaped(what));
    }
    for line in list(&status["recent"]).iter().take(RECENT_SHOWN) {
        let at = time(line["at_ms"].as_i64().unwrap_or(0));
        let times = match number(&line["times"]) {
            0 | 1 => String::new(),
            times => format!(" ({} times)", count(times)),
        };
        let level = escaped(text(&line["level"]));
        out += &format!("{at} {level} {}{times}\n", escaped(text(&line["text"])));
    }
    match out.is_empty() {
        true => out,
        false => format!("\n{out}"),
    }
}

/// A filter as a query's value (RFC 3986, 2.1).
fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
