//! `/metrics`.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// One recorder per process, however many nodes run in it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts to record, unless this process does already.
pub(super) fn install() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another library of this process may have been first; then its page has our numbers.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::debug!("metrics are recorded by another page of this process");
        }
        handle
    });
}

pub(super) async fn metrics() -> String {
    RECORDER
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}
