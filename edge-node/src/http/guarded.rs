//! What only somebody with the token may ask: [`crate::control`].

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use headwater_gate::pages::Peer;
use headwater_mqtt::topic;
use serde::Deserialize;
use serde_json::json;

use crate::control::TOKEN;
use crate::logging::{self, FILTER_BYTES_MAX};
use crate::status::Sources;
use crate::taps::{Seen, WATCHERS_MAX, Watch};

/// A refusal and the reason as text.
type Refusal = (StatusCode, String);

fn admit(sources: &Sources, peer: &Peer, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = headers.get(TOKEN).map(|value| value.as_bytes());
    let admitted = sources.control.admits(peer.remote().ip(), token);
    admitted.map_err(|refused| (StatusCode::FORBIDDEN, format!("{refused}\n")))
}

fn bad(what: impl std::fmt::Display) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("{what}\n"))
}

/// The body is a filter, or empty to ask for the one in force. Gives it.
pub(super) async fn log_level(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    request: Request,
) -> Result<String, Refusal> {
    admit(&sources, &peer, &headers)?;
    let logging = logging::installed()
        .ok_or_else(|| bad("the log of this process is not written by the node"))?;
    let too_long = |_| bad(format_args!("longer than {FILTER_BYTES_MAX} bytes"));
    let body = to_bytes(request.into_body(), FILTER_BYTES_MAX).await;
    let body = body.map_err(too_long)?;
    let filter = std::str::from_utf8(&body).map_err(bad)?.trim();
    if !filter.is_empty() {
        let before = logging.set_filter(filter).map_err(bad)?;
        // At a level that most filters show.
        tracing::warn!(filter, before, "the log filter was changed");
    }
    Ok(format!("{}\n", logging.filter()))
}

#[derive(Deserialize)]
pub(super) struct Tail {
    filter: String,
}

/// Messages until the client goes.
pub(super) async fn tail(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(Tail { filter }): Query<Tail>,
) -> Result<Response, Refusal> {
    admit(&sources, &peer, &headers)?;
    topic::check_filter(&filter).map_err(|_| bad(format_args!("{filter:?} is no topic filter")))?;
    let Some(watch) = sources.taps.watch(filter) else {
        let text = format!("{WATCHERS_MAX} are watching already\n");
        return Err((StatusCode::SERVICE_UNAVAILABLE, text));
    };
    // It lasts as long as its client wants.
    peer.stays();
    let body = Body::from_stream(Lines(watch));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

struct Lines(Watch);

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll(context);
        next.map(|seen| seen.map(|seen| Ok(line(&seen).into())))
    }
}

fn line(seen: &Seen) -> String {
    let mut value = json!({
        "at_ms": seen.at_ms,
        "topic": &*seen.topic,
        "client_id": &*seen.client_id,
        "qos": seen.qos as u8,
        "retain": seen.retain,
    });
    match std::str::from_utf8(&seen.payload) {
        Ok(text) => value["payload"] = text.into(),
        Err(_) => value["payload_hex"] = hex(&seen.payload).into(),
    }
    if seen.missed > 0 {
        value["missed"] = seen.missed.into();
    }
    format!("{value}\n")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
