//! `GET /status`.

use axum::Json;
use axum::extract::State as Extract;
use serde_json::{Value, json};

use super::State;

pub(super) async fn status(Extract(state): Extract<State>) -> Json<Value> {
    let inner = &state.inner;
    let shards = &inner.machine.shards;
    let (mut partitions, mut records, mut groups, mut streams) = (0usize, 0i64, 0usize, 0usize);
    let mut shard_rows = Vec::new();
    for id in shards.ids() {
        let shard = shards.read(id);
        let at = shard.applied();
        partitions += shard.partitions().count();
        records += shard
            .partitions()
            .map(|(_, p)| p.next.0 - p.start.0)
            .sum::<i64>();
        groups += shard.groups().count();
        streams += shard
            .streams()
            .map(|(_, _, s)| s.streams().len())
            .sum::<usize>();
        shard_rows.push(json!({
            "shard": id.0,
            "is_metadata": id == shards.meta(),
            "applied": at.index,
            "term": at.term,
        }));
    }
    let edges_connected = inner
        .server
        .upgrade()
        .map_or(0, |server| server.connections().len());
    let alarms: Vec<Value> = inner
        .receiver
        .alarms()
        .iter()
        .map(|a| json!({ "at_ms": a.at_ms, "stream": a.stream.to_string(), "alarm": format!("{:?}", a.kind) }))
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cluster_id": inner.cluster_id,
        "node_id": inner.config.node_id,
        "uptime_s": inner.started.elapsed().as_secs(),
        "topics": inner.machine.topics.all().len(),
        "partitions": partitions,
        "records": records,
        "groups": groups,
        "streams": streams,
        "edges_connected": edges_connected,
        "hot_bytes": inner.machine.hot.bytes(),
        "journal_live_bytes": inner.log.live_bytes(),
        "disk_full": inner.log.is_disk_full(),
        "shards": shard_rows,
        "alarms": alarms,
    }))
}
