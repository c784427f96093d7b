//! The status listener.
//!
//! | path | what it gives |
//! |---|---|
//! | `GET /` | a page for people, that shows `/status` and `/clients` |
//! | `GET /status` | the node's state, JSON; `STATUS.md` names every field |
//! | `GET /clients` | sessions, JSON |
//! | `GET /metrics` | Prometheus |
//! | `GET /healthz` | 200 while the node takes publishes, else 503 and why |
//! | `GET /tail?filter=F` | messages as they arrive, one JSON object a line; guarded |
//! | `POST /log-level` | changes what the log lines show: the body is a filter; guarded |
//!
//! Guarded paths are for whoever may read the data directory, on this machine: [`crate::control`].
//! Nothing is offered to other origins. What clients send is data here, in JSON; the page puts it
//! into the document as text, and its policy lets nothing run but its own script.

mod guarded;
mod page;
mod sessions;

use axum::Json;
use axum::extract::State;
use axum::http::header::{self, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post};
use serde_json::json;

use crate::status::Sources;

/// On every answer. Framing, guessing of types and copies elsewhere are of no use to anybody here.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Serves until the future is dropped.
pub async fn serve(listener: std::net::TcpListener, sources: Sources) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/", get(page::html))
        .route("/status.css", get(page::css))
        .route("/status.js", get(page::js))
        .route("/status", get(status))
        .route("/clients", get(sessions::clients))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/tail", get(guarded::tail))
        .route("/log-level", post(guarded::log_level))
        .layer(axum::middleware::map_response(with_headers))
        .with_state(sources);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    headwater_gate::pages::serve(listener, routes, "status").await;
    Ok(())
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn status(State(sources): State<Sources>) -> impl IntoResponse {
    let health = sources.health().await;
    let report = serde_json::to_value(sources.report());
    let mut report = report.expect("plain data always encodes");
    report["health"] = json!({ "ok": health.is_ok(), "reason": health.err() });
    Json(report)
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    let healthy = sources.health().await.is_ok();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], sources.metrics(healthy))
}

async fn healthz(State(sources): State<Sources>) -> impl IntoResponse {
    match sources.health().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
