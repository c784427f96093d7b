//! Commands and their flags. Exit code 0: done; 1: failed; 2: misused; 3: no node answers.

mod ask;
mod live;
mod shown;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edge_node::config::{Anonymous, Config, ConfigError, Listener};
use edge_node::lock::DirLock;
use edge_node::logging;
use edge_node::notify::Notifier;
use headwater_batch::TopicPartition;
use headwater_log::store::trust;
use headwater_log::{LogError, RealDisk, inspect};

/// An MQTT broker on a durable log that is mirrored to the cloud.
#[derive(Parser)]
#[command(name = "edge-node", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Check a configuration file and the files it names, and say what is wrong.
    CheckConfig {
        /// The file.
        #[arg(required_unless_present = "config")]
        file: Option<PathBuf>,
        /// The same, as `run` takes it.
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Look into a data directory; the node must not run.
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// How a running node is.
    Status(live::StatusArgs),
    /// Connected and sleeping clients of a running node.
    Clients(live::StatusArgs),
    /// Messages as they arrive at a running node; as its user, or root.
    Tail(live::TailArgs),
    /// Show or change what the log lines of a running node show, until it ends; as its user, or root.
    LogLevel(live::LogLevelArgs),
    /// Set a user's password in a password file: asked for, or read from stdin.
    Passwd {
        /// The file of `access.password_file`; made if it is not there.
        file: PathBuf,
        user: String,
        /// Remove the user.
        #[arg(long)]
        delete: bool,
    },
}

/// What a command failed with.
#[derive(Debug)]
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// 3, as `systemctl status` has it for a service that does not run.
    fn not_running(text: String) -> Failure {
        Failure { text, code: 3 }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure { text, code: 1 }
    }
}

#[derive(Args)]
struct RunArgs {
    /// Settings; without it the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bundle from `cloud-cluster edge add`.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Where the log lives.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on for MQTT, without TLS, instead of the listeners in the settings; may be
    /// given several times.
    #[arg(long, value_name = "ADDR")]
    mqtt: Vec<String>,
    /// Let clients in without a login on these addresses even if they are not loopback addresses.
    #[arg(long, requires = "mqtt")]
    anonymous: bool,
    /// Address of the status page; "off" for none.
    #[arg(long, value_name = "ADDR")]
    status: Option<String>,
    /// Print the effective settings and end.
    #[arg(long)]
    print_config: bool,
}

#[derive(Subcommand)]
enum LogCommand {
    /// Partitions, segments and the journal.
    Ls { dir: PathBuf },
    /// Every batch.
    Dump {
        dir: PathBuf,
        /// And every record in it.
        #[arg(long)]
        records: bool,
    },
    /// Check every checksum and every offset; exit code 1 if something is wrong.
    Verify { dir: PathBuf },
    /// Let a partition be sent whose lineage is lost (an alarm says so): what the cloud has of it
    /// may arrive there twice.
    Trust {
        dir: PathBuf,
        /// As `ls` names it: TOPIC-NUMBER.
        partition: TopicPartition,
    },
}

pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args).map_err(Failure::from),
        Command::CheckConfig { file, config } => {
            let path = file.or(config).expect("one of them is required");
            check_config(&path).map_err(Failure::from)
        }
        Command::Log { command } => look(&command).map_err(Failure::from),
        Command::Status(args) => live::status(&args),
        Command::Clients(args) => live::clients(&args),
        Command::Tail(args) => live::tail(&args),
        Command::LogLevel(args) => live::log_level(&args),
        Command::Passwd { file, user, delete } => {
            let done = crate::passwd::passwd(&file, &user, delete);
            done.map_err(Failure::from).map(|done| {
                println!("{done}");
                ExitCode::SUCCESS
            })
        }
    };
    match outcome {
        Ok(code) => code,
        Err(Failure { text, code }) => {
            eprintln!("edge-node: {text}");
            ExitCode::from(code)
        }
    }
}

fn effective(args: &RunArgs) -> Result<Config, ConfigError> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(bundle) = &args.bundle {
        config.uplink.bundle = bundle.display().to_string();
    }
    if let Some(dir) = &args.data_dir {
        config.data_dir = dir.clone();
    }
    if !args.mqtt.is_empty() {
        config.listeners = args.mqtt.iter().map(Listener::at).collect();
    }
    if args.anonymous {
        let all = config.listeners.iter_mut();
        all.for_each(|listener| listener.anonymous = Anonymous::Always);
    }
    match args.status.as_deref() {
        Some("off") => config.status.listen.clear(),
        Some(address) => config.status.listen = address.to_owned(),
        None => {}
    }
    config.check()?;
    Ok(config)
}

fn run(args: &RunArgs) -> Result<ExitCode, String> {
    let config = effective(args).map_err(|e| e.to_string())?;
    if args.print_config {
        print!("{}", config.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    log_to_stderr(&config.log_level)?;
    headwater_gate::files::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| format!("runtime: {e}"))?;
    let outcome = runtime.block_on(async {
        let signal = stop_signal().map_err(|e| format!("signals: {e}"))?;
        edge_node::run(config, signal, &Notifier::from_env())
            .await
            .map_err(|e| e.to_string())
    });
    outcome.map(|()| ExitCode::SUCCESS)
}

fn log_to_stderr(level: &str) -> Result<(), String> {
    match std::env::var("RUST_LOG") {
        Ok(set) => logging::install(&set).map_err(|e| format!("RUST_LOG: {e}")),
        Err(_) => logging::install(level).map_err(|e| format!("log_level: {e}")),
    }
}

/// Ready at the first SIGTERM or SIGINT. A second one ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    })
}

fn check_config(path: &Path) -> Result<ExitCode, String> {
    let config = Config::read(path).map_err(|e| e.to_string())?;
    config.bundle().map_err(|e| e.to_string())?;
    edge_node::node::check_files(&config).map_err(|e| e.to_string())?;
    println!("{}: good", path.display());
    Ok(ExitCode::SUCCESS)
}

fn look(command: &LogCommand) -> Result<ExitCode, String> {
    let (LogCommand::Ls { dir }
    | LogCommand::Dump { dir, .. }
    | LogCommand::Verify { dir }
    | LogCommand::Trust { dir, .. }) = command;
    if !dir.is_dir() {
        return Err(format!("{}: no such directory", dir.display()));
    }
    // A running node writes what is read here. The lock is only asked for, never made.
    let _lock = match dir.join("lock").exists().then(|| DirLock::take(dir)) {
        Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(format!("{}: in use by a running edge-node", dir.display()));
        }
        other => other,
    };
    let (disk, mut out) = (RealDisk, std::io::stdout().lock());
    let failed = |e: LogError| e.to_string();
    match command {
        LogCommand::Ls { .. } => inspect::ls(&disk, dir, &mut out).map_err(failed)?,
        LogCommand::Dump { records, .. } => {
            inspect::dump(&disk, dir, *records, &mut out).map_err(failed)?;
        }
        LogCommand::Verify { .. } => {
            let verified = inspect::verify(&disk, dir, &mut out).map_err(failed)?;
            if !verified.damages.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        LogCommand::Trust { partition, .. } => {
            if !trust(&disk, dir, partition).map_err(failed)? {
                return Err(format!("{}: {partition} is not in doubt", dir.display()));
            }
            println!("{partition}: will be sent");
        }
    }
    Ok(ExitCode::SUCCESS)
}
