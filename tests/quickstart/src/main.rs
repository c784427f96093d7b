//! `cargo run --release -p quickstart`: a cloud node, an edge node and simulated sensors in one
//! process, a live line, and commands to try.

mod live;
mod nodes;
mod sensors;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::task::JoinSet;

use crate::live::Line;
use crate::sensors::Counts;

/// What sensors and mirror may take at the end, before the run says what is left.
const DRAIN: Duration = Duration::from_secs(10);

/// Starts a cloud node, an edge node and simulated sensors. Ctrl-C ends it.
#[derive(Parser, Clone)]
#[command(version)]
struct Arguments {
    /// Simulated sensors
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=5000))]
    sensors: u32,
    /// Readings of each sensor
    #[arg(long, value_name = "PER_SENSOR_PER_SECOND", default_value_t = 5.0, value_parser = rate)]
    rate: f64,
    /// End after so many seconds; without it, at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Data of both nodes; a second run carries on
    #[arg(long, value_name = "DIR", default_value = "data/quickstart")]
    data_dir: PathBuf,
    /// Where the edge takes MQTT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    mqtt: SocketAddr,
    /// The edge's status page
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    status: SocketAddr,
    /// Where the cloud node serves Kafka clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,
    /// Where the cloud node takes edges (UDP)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
    uplink: SocketAddr,
    /// The cloud node's status and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    admin: SocketAddr,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number of readings per second from 0.001 to 10000".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    std::fs::create_dir_all(&arguments.data_dir)
        .map_err(|error| format!("--data-dir {}: {error}", arguments.data_dir.display()))?;
    let mut cloud = nodes::cloud(&arguments).await?;
    let edge = nodes::edge(&arguments, cloud.uplink).await?;
    print_commands(&arguments);

    let counts = Arc::new(Counts::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut sensors = JoinSet::new();
    for number in 0..arguments.sensors as usize {
        sensors.spawn(sensors::run(
            arguments.mqtt,
            number,
            arguments.rate,
            counts.clone(),
            stop.clone(),
        ));
    }
    let line = Line::new(edge.report());
    let mut redraw = tokio::time::interval(Duration::from_secs(1));
    let time_is_up = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_up);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let edge_failed = edge.failed();
    tokio::pin!(edge_failed);
    let failure = loop {
        tokio::select! {
            _ = redraw.tick() => line.draw(&counts, &edge.report()),
            () = &mut time_is_up => break None,
            _ = &mut interrupted => break None,
            why = cloud.failed() => break Some(format!("the cloud node stopped: {why}")),
            why = &mut edge_failed => break Some(format!("the edge node stopped: {why}")),
        }
    };
    stop.store(true, Ordering::Relaxed);
    println!("\nstopping: waiting for the last acknowledgements");
    let drained = drain(&mut sensors, &edge).await;
    line.draw(&counts, &edge.report());
    println!();
    edge.stop().await.map_err(|error| error.to_string())?;
    cloud.stop().await;
    match failure {
        Some(failure) => Err(failure),
        None if drained => Ok(()),
        None => {
            println!("not everything is mirrored yet; the next run carries on");
            Ok(())
        }
    }
}

/// Waits until every reading is acknowledged and mirrored, or for [`DRAIN`].
async fn drain(sensors: &mut JoinSet<()>, edge: &edge_node::Node) -> bool {
    let until = Instant::now() + DRAIN;
    let all = async { while sensors.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
    sensors.abort_all();
    while edge.report().uplink.lag > 0 {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

fn print_commands(arguments: &Arguments) {
    let (mqtt, kafka) = (arguments.mqtt, arguments.kafka);
    println!(
        "\
Headwater runs: MQTT {mqtt} -> edge -> QUIC {uplink} -> cloud -> Kafka {kafka}
{sensors} sensors publish {rate} readings/s each. Status: http://{status}/status and http://{admin}/status
Try, in another terminal:
  mosquitto_sub -h {mqtt_host} -p {mqtt_port} -t 'sensors/#' -v
  mosquitto_pub -h {mqtt_host} -p {mqtt_port} -q 1 -t my/topic -m hello
  kcat -C -b {kafka} -t mqtt -o -10 -f '%T %k %s\\n'
  cargo run --release -p cloud-cluster -- edge ls --admin {admin}
Ctrl-C ends it.
",
        uplink = arguments.uplink,
        sensors = arguments.sensors,
        rate = arguments.rate,
        status = arguments.status,
        admin = arguments.admin,
        mqtt_host = mqtt.ip(),
        mqtt_port = mqtt.port(),
    );
}
