//! What a service shows to monitoring, over plain HTTP: `/metrics` for Prometheus (docs/metrics.md names each one),
//! `/healthz` and `/readyz` for Kubernetes.
//!
//! Connections are strangers': each is bounded in bytes and time, and all in number.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use ajar_coordinator::Newcomers;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::exit::OrRefuse;

/// Connections at a time.
const MOST: usize = 64;
/// How long the head of a request may take, and a connection may wait for another one.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last. Prometheus opens another one.
const STAY: Duration = Duration::from_secs(600);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;

/// Serves monitoring at this address, with what is counted from now on. Nothing is counted and
/// nothing served without an address.
pub async fn serve(listen: Option<SocketAddr>, ready: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Some(listen) = listen else { return Ok(()) };
    let refused = |cause: &dyn std::fmt::Display| {
        format!(
            "metrics cannot be served at {listen}: {cause}; name another address with --metrics"
        )
    };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| refused(&error)).or_refuse()?;
    let recorder = PrometheusBuilder::new().install_recorder();
    let prometheus = recorder.map_err(|error| refused(&error)).or_refuse()?;
    let monitoring = Monitoring { prometheus, ready };
    tokio::spawn(accept(listener, monitoring));
    Ok(())
}

#[derive(Clone)]
struct Monitoring {
    prometheus: PrometheusHandle,
    ready: watch::Receiver<bool>,
}

async fn accept(listener: TcpListener, monitoring: Monitoring) {
    let mut newcomers = Newcomers::new(listener, MOST);
    loop {
        let (stream, _, place) = newcomers.next().await;
        let answering = timeout(STAY, monitoring.clone().converse(stream));
        tokio::spawn(async move {
            tokio::select! {
                _ = answering => {}
                () = place.evicted() => {}
            }
        });
    }
}

impl Monitoring {
    async fn converse(self, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let response = self.respond(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = conversation.await {
            tracing::debug!(%error, "a conversation with monitoring broke");
        }
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n");
        }
        match path {
            "/metrics" => text(StatusCode::OK, self.prometheus.render()),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if *self.ready.borrow() => text(StatusCode::OK, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "served are /metrics, /healthz and /readyz\n",
            ),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    /// The version that Prometheus expects of its text format.
    const TEXT: header::HeaderValue =
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
}
