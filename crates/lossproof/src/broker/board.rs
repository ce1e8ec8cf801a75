//! What operators read over HTTP: `/metrics`, `/livez`, `/readyz`.

use core::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lossproof_broker::{Figures, Monitor, Readiness};
use lossproof_env::{Environment, Net, RealNet};
use lossproof_log::Ended;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::metrics::BrokerCollector;
use crate::exit::{self, Failure};
use crate::http::Front;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Empty until the broker has recovered.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<OnceLock<Monitor>>);

impl Board {
    /// Begins to serve; gives the address.
    pub(super) async fn start(
        &self,
        env: &Environment,
        address: SocketAddr,
    ) -> Result<SocketAddr, Failure> {
        let failed = |error: std::io::Error| {
            let taken = error.kind() == std::io::ErrorKind::AddrInUse;
            let code = if taken { exit::PORT_TAKEN } else { exit::PORT_UNUSABLE };
            Failure::new(code, format_args!("--metrics-listen {address}: {error}"))
        };
        let listener = RealNet.listen(address).await.map_err(failed)?;
        let bound = listener.local_address().map_err(failed)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(liveness))
            .route("/readyz", get(readiness))
            .with_state(self.clone());
        let front = Front::new(listener, Arc::clone(&env.clock));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(front, router).await {
                tracing::error!(%error, "metrics are served no more");
            }
        });
        Ok(bound)
    }

    pub(super) fn show(&self, monitor: Monitor) {
        // Told once: the first broker of a process is the only one.
        let _ = self.0.set(monitor);
    }
}

/// Alive while it recovers, too.
async fn liveness(State(Board(monitor)): State<Board>) -> Response {
    alive(monitor.get().is_none_or(Monitor::is_alive)).into_response()
}

fn alive(is_alive: bool) -> (StatusCode, &'static str) {
    if is_alive {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "hangs: start it again\n")
    }
}

async fn readiness(State(Board(monitor)): State<Board>) -> Response {
    let ended = monitor.get().map(Monitor::ended).unwrap_or_default();
    ready(monitor.get().map(Monitor::readiness), &ended).into_response()
}

/// `None`: nothing is known before it has recovered.
fn ready(readiness: Option<Readiness>, ended: &[Ended]) -> (StatusCode, String) {
    let (status, text) = match readiness {
        Some(Readiness::Ready) => (StatusCode::OK, "ready\n"),
        Some(Readiness::Draining) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Some(Readiness::Fenced) => (StatusCode::SERVICE_UNAVAILABLE, "fenced\n"),
        Some(Readiness::Damaged) => (StatusCode::SERVICE_UNAVAILABLE, "damaged\n"),
        Some(Readiness::DiskFull) => (StatusCode::SERVICE_UNAVAILABLE, "disk full\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "recovering\n"),
    };
    let lines = ended.iter().map(|it| format!("thread {}: {}\n", it.thread.name(), it.cause));
    (status, text.to_owned() + &lines.collect::<String>())
}

async fn metrics(State(Board(monitor)): State<Board>) -> Response {
    let Some(monitor) = monitor.get().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "recovering\n").into_response();
    };
    match page(monitor.figures()) {
        Ok(page) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn page(figures: Figures) -> Result<String, core::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(BrokerCollector(figures)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[cfg(test)]
mod tests;
