//! The admin server.
//!
//! - `GET /metrics`: Prometheus' text form, see docs/METRICS.md; empty before the load begins.
//! - `GET /livez`: 200 while the process runs.
//! - `GET /readyz`: 200 while the load is on, 503 before it begins and while it drains.

mod probe;
mod process;

pub use probe::Probe;
pub use process::figures as process_figures;

use crate::observe::Metrics;
use crate::producer::Observer;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;

/// What the routes show: nothing until the load begins, then the last load that began.
#[derive(Clone, Debug, Default)]
pub struct Admin(Arc<RwLock<Option<Arc<Load>>>>);

#[derive(Debug)]
struct Load {
    metrics: Metrics,
    observer: Observer,
}

impl Admin {
    /// Shows the load from now on.
    pub fn begin(&self, metrics: Metrics, observer: Observer) {
        let load = Arc::new(Load { metrics, observer });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(load);
    }

    fn load(&self) -> Option<Arc<Load>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves the routes until the task is dropped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin);
    axum::serve(listener, routes).await
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = admin.load().map(|load| load.metrics.render(&load.observer.loads()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.unwrap_or_default())
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.load() {
        Some(load) if !load.observer.snapshot().draining => (StatusCode::OK, "ok\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the load has not begun\n"),
    }
}
