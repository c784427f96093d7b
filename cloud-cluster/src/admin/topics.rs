//! Topics.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use headwater_batch::{TopicName, TopicPartition};
use headwater_shard::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, State};
use crate::topics::TopicError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTopic {
    name: String,
    partitions: Option<u32>,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

pub(super) async fn list(Extract(state): Extract<State>) -> Json<Value> {
    let machine = &state.inner.machine;
    let row = |topic: &headwater_kafka::Topic| {
        let partitions: Vec<Value> = (0..topic.partitions.len() as u32)
            .map(|number| {
                let tp = TopicPartition::new(topic.name.clone(), number);
                let shard = machine.shards.read(machine.shards.of(&tp));
                let partition = shard.partition(&tp);
                json!({
                    "partition": number,
                    "start": partition.map_or(0, |p| p.start.0),
                    "next": partition.map_or(0, |p| p.next.0),
                    "cold_end": partition.map_or(0, |p| p.cold_end.0),
                    "segments": shard.segments(&tp).count(),
                    "cold_bytes": shard.segments(&tp).map(|(_, s)| s.log_bytes).sum::<u64>(),
                })
            })
            .collect();
        let records: i64 = partitions
            .iter()
            .map(|p| p["next"].as_i64().unwrap_or(0) - p["start"].as_i64().unwrap_or(0))
            .sum();
        json!({
            "name": topic.name.as_str(),
            "id": topic.id.to_string(),
            "config": topic.configs,
            "records": records,
            "partitions": partitions,
        })
    };
    Json(Value::Array(
        machine
            .topics
            .all()
            .iter()
            .map(|topic| row(topic))
            .collect(),
    ))
}

pub(super) async fn create(
    Extract(state): Extract<State>,
    Json(wanted): Json<NewTopic>,
) -> Result<Json<Value>, Failure> {
    let name = TopicName::new(&wanted.name).map_err(Failure::bad)?;
    let partitions = wanted
        .partitions
        .unwrap_or(state.inner.config.topics.partitions);
    let made = state
        .inner
        .service
        .topics
        .create(name, partitions, wanted.config)
        .await;
    let id = made.map_err(|e| failure(&e))?;
    Ok(Json(
        json!({ "name": wanted.name, "id": id.to_string(), "partitions": partitions }),
    ))
}

pub(super) async fn remove(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let topic = TopicName::new(&name).map_err(Failure::bad)?;
    let removed = state.inner.service.topics.delete(topic, None).await;
    removed.map_err(|e| failure(&e))?;
    Ok(Json(json!({ "deleted": name })))
}

fn failure(error: &TopicError) -> Failure {
    let status = match error {
        TopicError::Refused(Refusal::TopicExists) => StatusCode::CONFLICT,
        TopicError::Refused(Refusal::UnknownTopic) => StatusCode::NOT_FOUND,
        TopicError::Refused(_) => StatusCode::BAD_REQUEST,
        TopicError::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Failure::new(status, error)
}
