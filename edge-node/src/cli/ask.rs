//! Questions to a running node, by its status listener: HTTP/1.0 by hand, since a client library
//! would be the larger half of this program.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use edge_node::control::{TOKEN, TOKEN_FILE, TOKEN_LEN};
use serde_json::Value;

use super::Failure;

/// Longer than the node may take to find out that a thread of its own hangs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The head of an answer.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// An answer: 1,000 sessions with the longest names a client may have are far below.
const BODY_BYTES_MAX: u64 = 256 << 20;

/// Where the node is asked.
#[derive(Args)]
pub struct Address {
    /// Address of the node's status listener.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR")]
    addr: String,
}

/// The body of an answer that goes on.
pub type Lines = BufReader<TcpStream>;

impl Address {
    /// `GET path`, which must give JSON.
    pub fn json(&self, path: &str) -> Result<Value, Failure> {
        let body = self.text("GET", path, "", "")?;
        serde_json::from_str(&body).map_err(|error| self.odd(error))
    }

    /// A guarded request; gives its whole answer.
    pub fn command(&self, method: &str, path: &str, body: &str) -> Result<String, Failure> {
        let token = self.token()?;
        self.text(method, path, &token, body)
    }

    /// A guarded request whose answer is read line by line, as long as it takes.
    pub fn follow(&self, path: &str) -> Result<Lines, Failure> {
        let token = self.token()?;
        let answer = self.ask("GET", path, &token, "")?;
        let forever = answer.get_ref().set_read_timeout(None);
        forever.map_err(|error| self.odd(error))?;
        Ok(answer)
    }

    /// Whoever may read the node's data directory finds the token there.
    fn token(&self) -> Result<String, Failure> {
        let status = self.json("/status")?;
        let dir = status["data_dir"].as_str().unwrap_or_default();
        let path = Path::new(dir).join(TOKEN_FILE);
        let read = std::fs::File::open(&path).and_then(|file| {
            let mut text = String::new();
            file.take(TOKEN_LEN as u64 + 1).read_to_string(&mut text)?;
            Ok(text)
        });
        let token = read.map_err(|error| {
            let shown = super::shown::escaped(&path.display().to_string());
            format!(
                "{shown}: {error}; this needs to run as the node's user, or root, on its machine"
            )
        })?;
        let is_one = token.len() == TOKEN_LEN && token.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_one {
            return Err(format!("{}: holds no token", path.display()).into());
        }
        Ok(token)
    }

    fn text(&self, method: &str, path: &str, token: &str, body: &str) -> Result<String, Failure> {
        let mut text = String::new();
        let answer = self.ask(method, path, token, body)?;
        let read = answer.take(BODY_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.odd(error))?;
        Ok(text)
    }

    /// Sends the request and reads the head of the answer, which must be good.
    fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<Lines, Failure> {
        let addr = &self.addr;
        let mut stream = TcpStream::connect(addr).map_err(|error| self.silent(&error))?;
        let sent = stream
            .set_read_timeout(Some(TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
            .and_then(|()| {
                let length = body.len();
                let token = match token {
                    "" => String::new(),
                    token => format!("{TOKEN}: {token}\r\n"),
                };
                write!(
                    stream,
                    "{method} {path} HTTP/1.0\r\nhost: {addr}\r\n{token}content-length: {length}\r\n\r\n{body}"
                )
            });
        sent.map_err(|error| self.odd(error))?;
        let mut answer = BufReader::new(stream);
        let head = head(&mut answer).map_err(|error| self.odd(error))?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) == Some("200") {
            return Ok(answer);
        }
        let mut why = String::new();
        let _ = answer.take(1_000).read_to_string(&mut why);
        let shown = super::shown::escaped(&format!("{status}: {}", why.trim()));
        Err(format!("the node at {addr} refuses: {shown}").into())
    }

    fn silent(&self, error: &io::Error) -> Failure {
        let addr = &self.addr;
        let text = format!(
            "no edge-node answers at {addr}: {error}. Is it running, with [status] listen there? \
             --addr names another address"
        );
        Failure::not_running(text)
    }

    fn odd(&self, error: impl Display) -> Failure {
        format!("the answer of {}: {error}", self.addr).into()
    }
}

fn head(answer: &mut Lines) -> io::Result<String> {
    let mut head = String::new();
    let mut limited = answer.take(HEAD_BYTES_MAX);
    loop {
        let before = head.len();
        if limited.read_line(&mut head)? == 0 {
            return Err(io::Error::other("it is not HTTP"));
        }
        if matches!(&head[before..], "\r\n" | "\n") {
            return Ok(head);
        }
    }
}
