//! What a service counts, for Prometheus. docs/metrics.md names each one.

use std::net::SocketAddr;

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::exit::OrRefuse;

/// Serves what is counted from now on at `/metrics` of this address; nothing is counted if there is none.
pub fn serve(listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let Some(listen) = listen else { return Ok(()) };
    // The exporter binds later, where nobody hears of it.
    std::net::TcpListener::bind(listen)
        .map_err(|error| format!("metrics cannot be served at {listen}: {error}"))
        .or_refuse()?;
    PrometheusBuilder::new()
        .with_http_listener(listen)
        .install()
        .map_err(|error| format!("metrics cannot be served at {listen}: {error}"))
        .or_refuse()
}
