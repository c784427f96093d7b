//! The table API x version x client of what was really exercised, counted by the node itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

/// Reads `headwater_kafka_requests_total{api,version,client}` from `/metrics`, writes `apis.md` and
/// prints it.
pub fn write(out: &Path, admin: SocketAddr) -> Result<(), String> {
    let metrics =
        http_get(admin, "/metrics").map_err(|error| format!("http://{admin}/metrics: {error}"))?;
    let mut rows: BTreeMap<(String, u32), BTreeMap<String, u64>> = BTreeMap::new();
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("headwater_kafka_requests_total{"))
    {
        let label = |name: &str| {
            let from = line.find(&format!("{name}=\""))? + name.len() + 2;
            Some(line[from..].split('"').next()?.to_owned())
        };
        let parsed = label("api")
            .zip(label("version").and_then(|v| v.parse().ok()))
            .zip(label("client"));
        let ((api, version), client) = parsed.ok_or_else(|| format!("metrics: {line}"))?;
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse::<f64>().ok())
            .unwrap_or(0.0) as u64;
        *rows
            .entry((api, version))
            .or_default()
            .entry(client)
            .or_default() += count;
    }
    if rows.is_empty() {
        return Err("metrics: no request was counted".to_owned());
    }
    let mut text = "| API | version | clients (requests) |\n|---|---|---|\n".to_owned();
    for ((api, version), clients) in &rows {
        let clients: Vec<String> = clients
            .iter()
            .map(|(client, count)| format!("{client} ({count})"))
            .collect();
        text += &format!("| {api} | {version} | {} |\n", clients.join(", "));
    }
    std::fs::write(out.join("apis.md"), &text).map_err(|error| format!("apis.md: {error}"))?;
    println!("{text}");
    Ok(())
}

fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
