//! `cargo run -p conformance -- --address 127.0.0.1:1883`: the suite against any broker.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use conformance::known::KNOWN_FAILING;
use conformance::registry::{self, Case};
use conformance::run::{self, Target, Verdict};

/// Holds an MQTT broker to the normative statements of MQTT 3.1.1 and 5.0.
#[derive(Parser)]
struct Arguments {
    /// Where the broker listens for MQTT over TCP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    address: String,
    /// Where it listens for MQTT in a WebSocket: section 6 is held too
    #[arg(long, value_name = "HOST:PORT")]
    websocket: Option<String>,
    /// Every case goes over the WebSocket
    #[arg(long, requires = "websocket")]
    over_websocket: bool,
    /// Only cases whose name or statement contains this
    #[arg(long, value_name = "SUBSTRING", default_value = "")]
    only: String,
    /// Show the cases and run none
    #[arg(long)]
    list: bool,
    /// Show what went over the wire, of failed cases or of all
    #[arg(long, value_name = "WHICH", value_parser = ["failed", "all"])]
    trace: Option<String>,
    /// Longest wait for what must come
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    wait: u64,
    /// Cases at the same time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    workers: u32,
    /// Do not count the failures that `edge-node` is known for
    #[arg(long)]
    known: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases: Vec<Case> = registry::cases()
        .into_iter()
        .filter(|case| format!("{} {}", case.name(), case.says).contains(&arguments.only))
        .collect();
    if cases.is_empty() {
        eprintln!("no case contains {:?}", arguments.only);
        return ExitCode::FAILURE;
    }
    if arguments.list {
        for case in &cases {
            println!("{:<32} {}", case.name(), case.says);
        }
        return ExitCode::SUCCESS;
    }
    let address = match resolve(&arguments.address) {
        Ok(address) => address,
        Err(error) => {
            eprintln!("--address {}: {error}", arguments.address);
            return ExitCode::FAILURE;
        }
    };
    let websocket = match arguments.websocket.as_deref().map(resolve).transpose() {
        Ok(websocket) => websocket,
        Err(error) => {
            eprintln!(
                "--websocket {}: {error}",
                arguments.websocket.unwrap_or_default()
            );
            return ExitCode::FAILURE;
        }
    };
    let target = Target {
        websocket,
        over_websocket: arguments.over_websocket,
        wait: Duration::from_secs(arguments.wait),
        workers: arguments.workers as usize,
        ..Target::new(address)
    };
    let started = Instant::now();
    let verdicts = run::run(target, &cases);
    let failed = show(&verdicts, arguments.trace.as_deref());
    let counted: Vec<_> = failed
        .iter()
        .filter(|name| !arguments.known || !KNOWN_FAILING.iter().any(|(known, _)| known == *name))
        .collect();
    let count = |word| {
        verdicts
            .iter()
            .filter(|verdict| verdict.words().0 == word)
            .count()
    };
    println!(
        "\n{} cases against {address} in {:.1} s: {} held, {} not offered, {} failed",
        verdicts.len(),
        started.elapsed().as_secs_f64(),
        count("held"),
        count("n/a"),
        failed.len()
    );
    if counted.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn resolve(address: &str) -> std::io::Result<SocketAddr> {
    let found = address.to_socket_addrs()?.next();
    found.ok_or_else(|| std::io::Error::other("no address of that name"))
}

/// Prints the table and returns the names of what failed.
fn show(verdicts: &[Verdict], trace: Option<&str>) -> Vec<String> {
    println!("{:<32} {:<7} what was seen", "statement", "verdict");
    for verdict in verdicts {
        let (word, seen) = verdict.words();
        println!("{:<32} {word:<7} {seen}", verdict.case.name());
        if verdict.failed() {
            println!("{:<40} demanded: {}", "", verdict.case.says);
        }
        if trace == Some("all") || trace.is_some() && verdict.failed() {
            for line in &verdict.trace {
                println!("{:<40} {line}", "");
            }
        }
    }
    let failed = verdicts.iter().filter(|verdict| verdict.failed());
    failed.map(|verdict| verdict.case.name()).collect()
}
