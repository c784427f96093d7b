//! `/clients`.

use axum::Json;
use axum::extract::State;
use headwater_mqtt::ClientView;
use serde_json::{Value, json};

use crate::status::Sources;

/// Sessions, those with a connection first. At most
/// [`CLIENTS_SHOWN_MAX`](crate::broker::CLIENTS_SHOWN_MAX), and at most 3 s old.
pub(super) async fn clients(State(sources): State<Sources>) -> Json<Value> {
    let now_ms = sources.clock.now_ms();
    let view = sources
        .broker
        .lock()
        .expect("no code panics while it holds this lock");
    let shown = |client: &ClientView| {
        json!({
            "client_id": &*client.client_id,
            "connected": client.connected,
            "version": client.version,
            "remote": client.remote,
            "user": client.user,
            "connected_ms": client.since_ms.map(|since| now_ms.saturating_sub(since)),
            "subscriptions": client.subscriptions,
            "queued": client.queued,
            "queued_bytes": client.queued_bytes,
            "inflight": client.inflight,
            "received": client.received,
            "sent": client.sent,
            "dropped": client.dropped,
        })
    };
    let clients: Vec<Value> = view.clients.iter().map(shown).collect();
    Json(json!({ "sessions": view.stats.sessions, "clients": clients }))
}
