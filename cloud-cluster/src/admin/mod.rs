//! Status, metrics and administration over HTTP.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | `ok` |
//! | `GET /status` | the node in numbers |
//! | `GET /metrics` | Prometheus |
//! | `GET /topics`, `POST /topics`, `DELETE /topics/NAME` | topics |
//! | `GET /topics/NAME/PARTITION/records?from=&max=&wait_ms=` | records, for people |
//! | `GET /edges`, `POST /edges`, `POST /edges/NAME/revoke`, `POST /edges/NAME/retire`, `POST /edges/NAME/trust` | edges |
//! | `GET /ledger` | what edges could not deliver, and what was lost here |
//!
//! There is no login: the address is loopback unless an operator says otherwise. A request from a
//! browser page of another site is refused (see [`guard`]).

mod edges;
mod metrics_page;
mod records;
mod status;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use headwater_quic::server::Server;
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::core::Running;
use crate::kafka::Service;
use crate::machine::Machine;
use crate::node::DataDir;
use crate::shardlog::LocalLog;
use crate::uplink::Receiver;

/// What the pages look at.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    data_dir: PathBuf,
    cluster_id: String,
    started: Instant,
    log: Arc<LocalLog>,
    machine: Arc<Machine>,
    service: Service,
    receiver: Arc<Receiver>,
    /// Weak: the node has to be able to shut it down.
    server: std::sync::Weak<Server>,
}

impl State {
    pub(crate) fn new(
        config: &Config,
        data: &DataDir,
        core: &Running,
        server: &Arc<Server>,
    ) -> State {
        metrics_page::install();
        let inner = Inner {
            config: config.clone(),
            data_dir: config.data_dir.clone(),
            cluster_id: data.cluster_id.clone(),
            started: Instant::now(),
            log: core.log.clone(),
            machine: core.machine.clone(),
            service: core.service.clone(),
            receiver: core.receiver.clone(),
            server: Arc::downgrade(server),
        };
        State {
            inner: Arc::new(inner),
        }
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, state: State) {
    let pages = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/status", get(status::status))
        .route("/metrics", get(metrics_page::metrics))
        .route("/topics", get(topics::list).post(topics::create))
        .route("/topics/:name", delete(topics::remove))
        .route("/topics/:name/:partition/records", get(records::records))
        .route("/edges", get(edges::list).post(edges::add))
        .route("/edges/:name/revoke", post(edges::revoke))
        .route("/edges/:name/retire", post(edges::retire))
        .route("/edges/:name/trust", post(edges::trust))
        .route("/ledger", get(edges::ledger))
        .layer(axum::middleware::from_fn(guard))
        .with_state(state);
    headwater_gate::pages::serve(listener, pages, "admin").await;
}

/// A page of another site, open in an operator's browser, must not change anything: browsers send
/// `Origin` with every such request, our own commands never do.
async fn guard(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return Failure::new(StatusCode::FORBIDDEN, "requests from web pages are refused")
            .into_response();
    }
    next.run(request).await
}

/// An error as JSON: `{"error": "..."}`.
struct Failure {
    status: StatusCode,
    what: String,
}

impl Failure {
    fn new(status: StatusCode, what: impl ToString) -> Failure {
        Failure {
            status,
            what: what.to_string(),
        }
    }

    fn bad(what: impl ToString) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, what)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.what }))).into_response()
    }
}
