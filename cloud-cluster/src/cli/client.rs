//! A small HTTP client for the admin address of a running node.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends one request and reads its JSON answer.
pub(super) fn ask(
    admin: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, String> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(admin)
        .map_err(|e| format!("no node answers at {admin}: {e} (--admin names another)"))?;
    let io = |e: std::io::Error| format!("{admin}: {e}");
    stream.set_read_timeout(Some(TIMEOUT)).map_err(io)?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(io)?;
    parse(&answer).map_err(|what| format!("{admin}: {what}"))
}

fn parse(answer: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(answer).map_err(|e| e.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let value: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    match (status, value["error"].as_str()) {
        ("200", _) => Ok(value),
        (_, Some(error)) => Err(error.to_owned()),
        (status, None) => Err(format!("status {status}: {}", body.trim())),
    }
}

/// A part of a path, with everything escaped that is not plain.
pub(super) fn escaped(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    part.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02x}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_are_told_apart() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"a\":1}").unwrap()["a"], 1);
        let error = parse(b"HTTP/1.0 404 Not Found\r\n\r\n{\"error\":\"no such topic\"}");
        assert_eq!(error.unwrap_err(), "no such topic");
        assert_eq!(
            parse(b"HTTP/1.0 500 x\r\n\r\noops\n").unwrap_err(),
            "status 500: oops"
        );
        parse(b"garbage").unwrap_err();
        assert_eq!(escaped("a/b c.d"), "a%2fb%20c.d");
    }
}
