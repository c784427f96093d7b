//! `cargo run --release -p bench`: the table of DESIGN.md's edge, uplink and one-node Kafka rows, side by
//! side with named peers in one run, the disk probe beside them. Prints a Markdown table and fails when
//! a floor is missed.

mod crowd;
mod load;
mod machine;
mod peers;
mod probe;
mod readings;
mod rows;
mod status;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use rows::{Plan, Row};
use table::{Line, Table};

/// Measures the edge, the uplink and the cloud node beside mosquitto, rumqttd and Apache Kafka.
/// Needs `tests/bench/peers` and `cargo build --release` before; sizes need `cross/build TARGET`.
#[derive(Parser)]
struct Arguments {
    /// Which rows; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Rounds of a row, peers taking turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load per round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// GB of unsent backlog; 10 is DESIGN.md's, takes minutes and needs three times that of disk
    #[arg(long, default_value_t = 2.0)]
    backlog_gb: f64,
    /// Be rumqttd with this config, for the sake of the rows
    #[arg(long, hide = true)]
    be_rumqttd: Option<PathBuf>,
    /// Where data and probes are written: the disk that is measured
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> rows::Result<bool> {
    if let Some(config) = &arguments.be_rumqttd {
        return peers::mqtt::run_rumqttd(config).map(|()| true);
    }
    if arguments.rounds == 0 || arguments.seconds == 0 {
        return Err("--rounds and --seconds are at least 1".into());
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let scratch = tempfile::tempdir_in(&arguments.dir)?;
    let plan = Plan {
        dir: scratch.path(),
        rounds: arguments.rounds,
        time: Duration::from_secs(arguments.seconds),
        backlog_bytes: (arguments.backlog_gb * 1e9) as u64,
    };
    let begun = Instant::now();
    let mut table = Table::begin();
    table.print(Line::new("machine", machine::describe()));
    table.print(machine::disk("disk before", plan.dir)?);
    let all = Row::value_variants();
    let rows = if arguments.rows.is_empty() {
        all
    } else {
        &arguments.rows
    };
    for row in rows {
        for line in row.run(&plan)? {
            table.print(line);
        }
    }
    table.print(machine::disk("disk after", plan.dir)?);
    eprintln!("bench: {:.0} s in all", begun.elapsed().as_secs_f64());
    Ok(table.end())
}
