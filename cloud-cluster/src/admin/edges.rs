//! Edges and the loss ledger.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use bytes::Bytes;
use headwater_batch::TopicPartition;
use headwater_proto::{EdgeName, Incarnation, StreamEntry, StreamKey, StreamOutcome};
use headwater_quic::{Ca, Revoked};
use headwater_shard::{Entry, LedgerEntry, Loss, Outcome, Shard};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, State};
use crate::node::{ca_of, revoke as revoke_in, revoked_of};
use crate::registry;
use crate::shardlog::commit;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEdge {
    name: String,
    /// Uplink addresses for the bundle; empty: those of this node.
    #[serde(default)]
    addresses: Vec<String>,
}

pub(super) async fn list(Extract(state): Extract<State>) -> Json<Value> {
    let inner = &state.inner;
    let shards = &inner.machine.shards;
    let connections = inner
        .server
        .upgrade()
        .map(|s| s.connections())
        .unwrap_or_default();
    let mut edges: Vec<Value> = Vec::new();
    let known: Vec<(String, headwater_shard::Edge)> = {
        let meta = shards.read(shards.meta());
        meta.edges()
            .map(|(name, edge)| (name.clone(), edge.clone()))
            .collect()
    };
    for (name, edge) in known {
        let connected = connections.iter().find(|c| c.edge.as_str() == name);
        edges.push(json!({
            "name": name,
            "added_ms": edge.added_ms,
            "revoked_ms": edge.revoked_ms,
            "remote": connected.map(|c| c.remote.to_string()),
            "connected_s": connected.map(|c| c.age.as_secs()),
            "round_trip_ms": connected.map(|c| c.round_trip.as_secs_f64() * 1000.0),
            "streams": streams_of(&state, &name),
        }));
    }
    Json(Value::Array(edges))
}

fn streams_of(state: &State, edge: &str) -> Vec<Value> {
    let shards = &state.inner.machine.shards;
    let mut rows = Vec::new();
    for id in shards.data() {
        let shard = shards.read(id);
        for (_, tp, streams) in shard.streams().filter(|(name, _, _)| name.as_str() == edge) {
            let pinned = shards.read(shards.meta()).pinned(edge, tp);
            for stream in streams.streams() {
                rows.push(json!({
                    "partition": tp.to_string(),
                    "cloud_partition": pinned,
                    "incarnation": stream.incarnation.to_string(),
                    "next": stream.next.0,
                    "session": stream.epoch.0,
                    "last_ms": stream.last_at_ms,
                }));
            }
        }
    }
    rows
}

pub(super) async fn add(
    Extract(state): Extract<State>,
    Json(wanted): Json<NewEdge>,
) -> Result<Json<Value>, Failure> {
    let inner = &state.inner;
    let name = EdgeName::new(&wanted.name).map_err(Failure::bad)?;
    let entry = Entry::AddEdge {
        name: wanted.name.clone(),
        at_ms: inner.service.clock.wall_ms(),
    };
    let added = commit(
        &*inner.log,
        inner.machine.shards.meta(),
        entry,
        Bytes::new(),
    )
    .await;
    match added {
        Ok(Outcome::Refused(refusal)) => return Err(Failure::new(StatusCode::CONFLICT, refusal)),
        Ok(_) => {}
        Err(error) => return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
    let addresses = match wanted.addresses {
        none if none.is_empty() => inner.config.uplink_advertised(),
        some => some,
    };
    let (root, at_ms) = (inner.data_dir.clone(), inner.service.clock.wall_ms());
    let issued = tokio::task::spawn_blocking(move || {
        registry::enter(&root, &name, at_ms).map_err(|e| e.to_string())?;
        let ca = Ca::open(&ca_of(&root)).map_err(|e| e.to_string())?;
        ca.issue_edge(&name, &addresses).map_err(|e| e.to_string())
    });
    let failed = |e: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e);
    let bundle = issued.await.map_err(|e| failed(e.to_string()))?;
    let bundle = bundle.map_err(failed)?;
    Ok(Json(
        json!({ "name": wanted.name, "bundle": bundle.to_text() }),
    ))
}

pub(super) async fn revoke(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let inner = &state.inner;
    let edge = EdgeName::new(&name).map_err(Failure::bad)?;
    let entry = Entry::RevokeEdge {
        name: name.clone(),
        at_ms: inner.service.clock.wall_ms(),
    };
    let revoked = commit(
        &*inner.log,
        inner.machine.shards.meta(),
        entry,
        Bytes::new(),
    )
    .await;
    revoked.map_err(|e| Failure::new(StatusCode::SERVICE_UNAVAILABLE, e))?;
    let dir = inner.data_dir.clone();
    let written = tokio::task::spawn_blocking(move || {
        revoke_in(&dir, &edge).map_err(|e| e.to_string())?;
        Revoked::read(&revoked_of(&dir)).map_err(|e| e.to_string())
    });
    let failed = |e: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e);
    let list = written.await.map_err(|e| failed(e.to_string()))?;
    let list = list.map_err(failed)?;
    let server = inner.server.upgrade();
    let closed = server.map_or(0, |server| server.revoke(list));
    Ok(Json(
        json!({ "revoked": name, "connections_closed": closed }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retired {
    /// The edge's partition, such as `mqtt-0`.
    partition: String,
    /// As `edge ls` shows it.
    incarnation: String,
}

/// Gives an incarnation up for good, so that its place in the table is free again (U2).
pub(super) async fn retire(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    Json(wanted): Json<Retired>,
) -> Result<Json<Value>, Failure> {
    let edge = EdgeName::new(&name).map_err(Failure::bad)?;
    let tp: TopicPartition = wanted.partition.parse().map_err(Failure::bad)?;
    let incarnation = u128::from_str_radix(&wanted.incarnation, 16).map_err(Failure::bad)?;
    let incarnation = Incarnation(incarnation);
    let shards = &state.inner.machine.shards;
    let pinned = shards.read(shards.meta()).pinned(&name, &tp);
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "there is no such stream");
    let to = TopicPartition::new(tp.topic.clone(), pinned.ok_or_else(unknown)?);
    let shard = shards.of(&to);
    let is_known = {
        let shard = shards.read(shard);
        let streams = shard.streams_of(&edge, &tp);
        streams.is_some_and(|streams| streams.stream(incarnation).is_some())
    };
    if !is_known {
        return Err(unknown());
    }
    let at_ms = state.inner.service.clock.wall_ms();
    let (head, _) = StreamEntry::Retire { at_ms }.encode();
    let key = StreamKey {
        edge,
        incarnation,
        tp,
    };
    let entry = Entry::Stream {
        to,
        key,
        head,
        at_ms,
    };
    match commit(&*state.inner.log, shard, entry, Bytes::new()).await {
        Ok(Outcome::Stream(StreamOutcome::Retired)) => {
            Ok(Json(json!({ "retired": wanted.incarnation })))
        }
        Ok(other) => Err(Failure::new(StatusCode::CONFLICT, format!("{other:?}"))),
        Err(error) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trusted {
    /// The edge's partition, such as `mqtt-0`.
    partition: String,
}

/// Lets a stream go on from where its edge says, in a cloud that lost its state.
pub(super) async fn trust(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    Json(wanted): Json<Trusted>,
) -> Result<Json<Value>, Failure> {
    let edge = EdgeName::new(&name).map_err(Failure::bad)?;
    let source: TopicPartition = wanted.partition.parse().map_err(Failure::bad)?;
    // To all of them: where it was pinned may be forgotten too.
    for shard in state.inner.machine.shards.data() {
        let entry = Entry::TrustStream {
            edge: edge.as_str().to_owned(),
            source: source.clone(),
        };
        commit(&*state.inner.log, shard, entry, Bytes::new())
            .await
            .map_err(|e| Failure::new(StatusCode::SERVICE_UNAVAILABLE, e))?;
    }
    // It is told when it asks again, which it does when it connects.
    if let Some(server) = state.inner.server.upgrade() {
        server.disconnect(&edge, "a stream may go on");
    }
    Ok(Json(json!({ "trusted": wanted.partition })))
}

pub(super) async fn ledger(Extract(state): Extract<State>) -> Json<Value> {
    let shards = &state.inner.machine.shards;
    let mut rows = Vec::new();
    for id in shards.data() {
        let shard = shards.read(id);
        rows.extend(
            shard
                .ledger()
                .map(|(number, entry)| (entry.at_ms, row(id.0, number, entry))),
        );
        rows.extend(lost_rows(id.0, &shard));
    }
    rows.sort_by_key(|(at_ms, _)| *at_ms);
    Json(Value::Array(rows.into_iter().map(|(_, row)| row).collect()))
}

/// What was lost on this side: no edge is to blame.
fn lost_rows(id: u8, shard: &Shard) -> Vec<(i64, Value)> {
    let doubt = shard.doubt().map(|doubt| {
        let row = json!({
            "entry": format!("{id}.state"), "at_ms": doubt.at_ms, "kind": "state-lost",
            "detail": "dedup state, group offsets and configuration of this shard",
        });
        (doubt.at_ms, row)
    });
    let lost = shard.lost().map(|(tp, from, range)| {
        let row = json!({
            "entry": format!("{id}.{tp}.{from}"), "at_ms": range.at_ms,
            "partition": tp.to_string(), "kind": "lost",
            "detail": {
                "from": from.0, "to": range.to.0, "records": range.to.0 - from.0,
                "reason": format!("{:?}", range.reason),
            },
        });
        (range.at_ms, row)
    });
    doubt.into_iter().chain(lost).collect()
}

fn row(shard: u8, number: u64, entry: &LedgerEntry) -> Value {
    let mut row = json!({
        "entry": format!("{shard}.{number}"),
        "at_ms": entry.at_ms,
        "edge": entry.stream.edge.as_str(),
        "partition": entry.stream.tp.to_string(),
        "incarnation": entry.stream.incarnation.to_string(),
    });
    let (kind, detail) = match &entry.loss {
        Loss::Gap(gap) => (
            "gap",
            json!({
                "from": gap.from.0, "to": gap.to.0, "records": gap.to.0 - gap.from.0,
                "reason": format!("{:?}", gap.reason),
            }),
        ),
        Loss::Fork(parent) => (
            "fork",
            json!({ "parent": parent.incarnation.to_string(), "at": parent.fork.0 }),
        ),
        Loss::Quarantine(reason) => ("quarantine", json!({ "reason": format!("{reason:?}") })),
        Loss::Gaps {
            from,
            to,
            records,
            lines,
        } => (
            "gaps",
            json!({ "from": from.0, "to": to.0, "records": records, "lines": lines }),
        ),
        Loss::Repeat { from, to } => (
            "may-repeat",
            json!({ "from": from.0, "to": to.0, "records": to.0 - from.0 }),
        ),
    };
    row["kind"] = kind.into();
    row["detail"] = detail;
    row
}
