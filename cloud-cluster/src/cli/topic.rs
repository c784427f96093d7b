//! `topic ls|create|delete|tail`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::AdminAddress;
use super::client::{ask, escaped};

#[derive(Debug, Subcommand)]
pub(super) enum TopicCommand {
    /// List topics.
    Ls(AdminAddress),
    /// Make a topic.
    Create {
        name: String,
        #[arg(long)]
        partitions: Option<u32>,
        /// KEY=VALUE, such as retention.ms=3600000; may be repeated.
        #[arg(long = "set")]
        settings: Vec<String>,
        #[command(flatten)]
        at: AdminAddress,
    },
    /// Delete a topic and its records.
    Delete {
        name: String,
        #[command(flatten)]
        at: AdminAddress,
    },
    /// Print records as they come.
    Tail {
        name: String,
        /// Only this partition.
        #[arg(long)]
        partition: Option<u32>,
        /// So many records of each partition before the new ones.
        #[arg(short = 'n', long, default_value_t = 10)]
        last: i64,
        /// End when there is nothing new.
        #[arg(long)]
        no_follow: bool,
        #[command(flatten)]
        at: AdminAddress,
    },
}

impl TopicCommand {
    pub(super) fn run(self) -> Result<(), String> {
        match self {
            TopicCommand::Ls(at) => list(&at),
            TopicCommand::Create {
                name,
                partitions,
                settings,
                at,
            } => {
                let mut config = Map::new();
                for setting in settings {
                    let (key, value) = setting
                        .split_once('=')
                        .ok_or(format!("--set {setting}: want KEY=VALUE"))?;
                    config.insert(key.into(), value.into());
                }
                let body = json!({ "name": name, "partitions": partitions, "config": config });
                let made = ask(&at.admin, "POST", "/topics", Some(&body))?;
                println!("{name}: {} partitions", made["partitions"]);
                Ok(())
            }
            TopicCommand::Delete { name, at } => {
                ask(
                    &at.admin,
                    "DELETE",
                    &format!("/topics/{}", escaped(&name)),
                    None,
                )?;
                println!("{name} is deleted");
                Ok(())
            }
            TopicCommand::Tail {
                name,
                partition,
                last,
                no_follow,
                at,
            } => tail(&at.admin, &name, partition, last.max(0), !no_follow),
        }
    }
}

fn list(at: &AdminAddress) -> Result<(), String> {
    let topics = ask(&at.admin, "GET", "/topics", None)?;
    for topic in topics.as_array().into_iter().flatten() {
        let partitions = topic["partitions"].as_array().map_or(0, Vec::len);
        let name = topic["name"].as_str().unwrap_or("-");
        println!(
            "{name}  {partitions} partitions  {} records",
            topic["records"]
        );
    }
    Ok(())
}

fn tail(admin: &str, name: &str, only: Option<u32>, last: i64, follow: bool) -> Result<(), String> {
    let topics = ask(admin, "GET", "/topics", None)?;
    let topic = topics
        .as_array()
        .into_iter()
        .flatten()
        .find(|t| t["name"] == name);
    let topic = topic.ok_or(format!("there is no topic {name}"))?;
    let mut places: Vec<(u32, i64)> = Vec::new();
    for partition in topic["partitions"].as_array().into_iter().flatten() {
        let number = partition["partition"].as_u64().unwrap_or(0) as u32;
        if only.is_none_or(|only| only == number) {
            let next = partition["next"].as_i64().unwrap_or(0);
            places.push((number, (next - last).max(0)));
        }
    }
    loop {
        let mut printed = 0;
        for (partition, from) in &mut places {
            // Wait at one of them only, so that all are looked at often.
            let wait_ms = if follow {
                500 / topic["partitions"].as_array().map_or(1, Vec::len)
            } else {
                0
            };
            let path = format!(
                "/topics/{}/{partition}/records?from={from}&wait_ms={wait_ms}",
                escaped(name)
            );
            let read = ask(admin, "GET", &path, None)?;
            for record in read["records"].as_array().into_iter().flatten() {
                print(*partition, record);
                printed += 1;
            }
            *from = read["resume_at"].as_i64().unwrap_or(*from);
        }
        if printed == 0 && !follow {
            return Ok(());
        }
    }
}

fn print(partition: u32, record: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    let headers: Vec<String> = record["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|h| format!("{}={}", text(&h["key"]), text(&h["value"])))
        .collect();
    println!(
        "{partition}:{}  {}  {}  {}  {}",
        record["offset"],
        record["timestamp"],
        text(&record["key"]),
        text(&record["value"]),
        headers.join(","),
    );
}
