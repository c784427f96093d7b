//! `edge add|ls|retire|trust|revoke` and `ledger`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use headwater_proto::EdgeName;
use headwater_quic::{Ca, Revoked, Subject};
use serde_json::{Value, json};

use super::client::{ask, escaped};
use super::{AdminAddress, Settings, ago};
use crate::clock::Clock;
use crate::node::{ca_of, revoke, revoked_of};
use crate::registry;

#[derive(Debug, Subcommand)]
pub(super) enum EdgeCommand {
    /// Make a bundle for a new edge: certificate, key, CA and addresses in one file.
    ///
    /// Works on the data directory, whether or not a node runs on it. The CA is made on first use.
    Add {
        /// 1 to 63 of letters, digits, '-' and '_'.
        name: String,
        /// Where the bundle goes. It holds a private key.
        #[arg(long)]
        out: PathBuf,
        /// HOST:PORT of the uplink as edges reach it; may be repeated. Else as configured.
        #[arg(long)]
        address: Vec<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// List edges, their connections and streams.
    Ls(AdminAddress),
    /// Give up one incarnation of an edge's log for good, when the table of 16 is full.
    Retire {
        name: String,
        /// The edge's partition, such as mqtt-0.
        partition: String,
        /// As `edge ls` shows it.
        incarnation: String,
        #[command(flatten)]
        at: AdminAddress,
    },
    /// Let an edge partition go on from where the edge itself says it was acknowledged.
    ///
    /// For a cloud that lost its state with all its copies. It does not know then what it has of an
    /// edge, so it sets the edge's streams aside: the edge keeps its records and sends nothing. Only
    /// what cannot have sent anything goes on by itself: an edge whose bundle was made later, and a
    /// log that was never written to.
    ///
    /// Trusted, each incarnation of the edge partition goes on from the offset that the edge durably
    /// noted as acknowledged, or from its beginning if it noted none. Nothing is lost by it. What
    /// the edge had beyond that offset by then may have been stored before the loss, and comes again:
    /// `ledger` shows that range as "may-repeat", once for each incarnation. The word holds for good,
    /// and is not needed again after a restart.
    Trust {
        name: String,
        /// The edge's partition, such as mqtt-0.
        partition: String,
        #[command(flatten)]
        at: AdminAddress,
    },
    /// Refuse an edge from now on. Its name is not used again.
    Revoke {
        name: String,
        /// Admin address of the running node.
        #[arg(long, default_value = "127.0.0.1:8080", conflicts_with = "data_dir")]
        admin: String,
        /// Instead of asking a node: the data directory to write the list into.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
}

impl EdgeCommand {
    pub(super) fn run(self) -> Result<(), String> {
        match self {
            EdgeCommand::Add {
                name,
                out,
                address,
                settings,
            } => add(&name, &out, &address, &settings),
            EdgeCommand::Ls(at) => list(&at),
            EdgeCommand::Retire {
                name,
                partition,
                incarnation,
                at,
            } => {
                let path = format!("/edges/{}/retire", escaped(&name));
                let body = json!({ "partition": partition, "incarnation": incarnation });
                ask(&at.admin, "POST", &path, Some(&body))?;
                println!("{name} {partition}: incarnation {incarnation} is retired");
                Ok(())
            }
            EdgeCommand::Trust {
                name,
                partition,
                at,
            } => {
                let path = format!("/edges/{}/trust", escaped(&name));
                let body = json!({ "partition": partition });
                ask(&at.admin, "POST", &path, Some(&body))?;
                println!("{name} {partition}: goes on where the edge says");
                Ok(())
            }
            EdgeCommand::Revoke {
                name,
                data_dir: Some(dir),
                ..
            } => {
                let edge = EdgeName::new(&name).map_err(|e| e.to_string())?;
                revoke(&dir, &edge).map_err(|e| e.to_string())?;
                println!("{name} is revoked");
                Ok(())
            }
            EdgeCommand::Revoke {
                name,
                admin,
                data_dir: None,
            } => {
                let path = format!("/edges/{}/revoke", escaped(&name));
                let answer = ask(&admin, "POST", &path, None)?;
                println!(
                    "{name} is revoked; {} connections closed",
                    answer["connections_closed"]
                );
                Ok(())
            }
        }
    }
}

fn add(name: &str, out: &Path, address: &[String], from: &Settings) -> Result<(), String> {
    let name = EdgeName::new(name).map_err(|e| e.to_string())?;
    let config = from.effective().map_err(|e| e.to_string())?;
    let revoked = Revoked::read(&revoked_of(&config.data_dir)).map_err(|e| e.to_string())?;
    if revoked.holds(&Subject {
        edge: name.clone(),
        serial: String::new(),
    }) {
        return Err(format!("edge {name} was revoked; take another name"));
    }
    let addresses = match address {
        [] => config.uplink_advertised(),
        some => some.to_vec(),
    };
    if let Some(bad) = addresses.iter().find(|a| !headwater_quic::is_address(a)) {
        return Err(format!("--address {bad}: want HOST:PORT"));
    }
    let entered = registry::enter(&config.data_dir, &name, Clock::system().wall_ms());
    entered.map_err(|e| format!("{}: {e}", registry::path_of(&config.data_dir).display()))?;
    let ca = Ca::open(&ca_of(&config.data_dir)).map_err(|e| e.to_string())?;
    let bundle = ca
        .issue_edge(&name, &addresses)
        .map_err(|e| e.to_string())?;
    bundle.write(out).map_err(|e| e.to_string())?;
    println!(
        "{}: bundle of edge {name} for {}",
        out.display(),
        addresses.join(", ")
    );
    println!("start it with: edge-node run --bundle {}", out.display());
    Ok(())
}

fn list(at: &AdminAddress) -> Result<(), String> {
    let edges = ask(&at.admin, "GET", "/edges", None)?;
    for edge in edges.as_array().into_iter().flatten() {
        let state = match (edge["revoked_ms"].as_i64(), edge["remote"].as_str()) {
            (Some(ms), _) => format!("revoked {}", ago(ms)),
            (None, Some(remote)) => format!("connected from {remote}"),
            (None, None) => "not connected".to_owned(),
        };
        println!("{}  {state}", text(&edge["name"]));
        for stream in edge["streams"].as_array().into_iter().flatten() {
            println!(
                "    {} -> partition {}  next {}  incarnation {}  last {}",
                text(&stream["partition"]),
                stream["cloud_partition"],
                stream["next"],
                text(&stream["incarnation"]),
                ago(stream["last_ms"].as_i64().unwrap_or(0)),
            );
        }
    }
    Ok(())
}

pub(super) fn ledger(at: &AdminAddress) -> Result<(), String> {
    let ledger = ask(&at.admin, "GET", "/ledger", None)?;
    for entry in ledger.as_array().into_iter().flatten() {
        println!(
            "{}  {}  {} {}  {} {}",
            text(&entry["entry"]),
            ago(entry["at_ms"].as_i64().unwrap_or(0)),
            text(&entry["edge"]),
            text(&entry["partition"]),
            text(&entry["kind"]),
            entry["detail"],
        );
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
