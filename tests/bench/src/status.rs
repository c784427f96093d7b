//! What an edge says about itself at `/status`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::nodes::Edge;
use e2e::wait_for;
use serde_json::Value;

/// The report, or why there is none.
pub fn of(edge: &Edge) -> Result<Value, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect_timeout(&edge.status, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET /status HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        edge.status
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    Ok(serde_json::from_str(body)?)
}

/// Waits until the cloud has answered the edge.
pub fn wait_connected(edge: &Edge) {
    wait_for("the edge's uplink", Duration::from_secs(30), || {
        of(edge).ok().filter(|s| s["uplink"]["connected"] == true)
    });
}
