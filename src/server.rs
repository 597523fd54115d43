//! `/livez`, `/readyz` and `/metrics`.
//!
//! Neither probe asks AWS: an outage there must not restart the operator.

use crate::telemetry::{Format, Metrics};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// What the probes report.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// The caches are filled and the operator works, or it stands by for another replica.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether the operator works or stands by.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// The listener could not be opened or failed.
#[derive(Debug, thiserror::Error)]
#[error("--listen {address}: {source}; is the address free?")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

/// Opens the address; done first, so that a busy port is an error at start.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error { address, source })
}

/// Serves until `stop` is done.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state((health, metrics));
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn readyz(State((health, _)): State<(Arc<Health>, Metrics)>) -> impl IntoResponse {
    if health.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "neither working nor standing by yet; see the log")
    }
}

async fn render(State((_, metrics)): State<(Arc<Health>, Metrics)>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    ([(header::CONTENT_TYPE, format.content_type())], metrics.render(format))
}
