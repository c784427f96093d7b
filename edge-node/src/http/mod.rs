//! `/status` (JSON), `/metrics` (Prometheus) and `/healthz`.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{Router, get};
use headwater_mqtt::ClientView;
use serde_json::{Value, json};

use crate::status::Sources;

/// Serves until the future is dropped.
pub async fn serve(listener: std::net::TcpListener, sources: Sources) -> std::io::Result<()> {
    let routes = Router::new()
        .route(
            "/status",
            get(|State(s): State<Sources>| async move { Json(s.report()) }),
        )
        .route("/clients", get(clients))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(sources);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    headwater_gate::pages::serve(listener, routes, "status").await;
    Ok(())
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        sources.metrics(),
    )
}

async fn clients(State(sources): State<Sources>) -> Json<Vec<Value>> {
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
            "subscriptions": client.subscriptions,
            "queued": client.queued,
            "inflight": client.inflight,
        })
    };
    Json(view.clients.iter().map(shown).collect())
}
