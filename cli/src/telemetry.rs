//! Logs on standard error; traces over OTLP if an endpoint is configured, and nothing of them otherwise.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::say;

/// What has to be ended before the process does.
pub struct Telemetry(Option<SdkTracerProvider>);

/// The variables that name an endpoint (OpenTelemetry protocol exporter specification).
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// Starts logging, at `usual` level or as `AJAR_LOG` says, and tracing as this service. Must be called within a runtime.
pub fn start(json: bool, usual: &str, service: &str) -> anyhow::Result<Telemetry> {
    let wanted = std::env::var("AJAR_LOG").unwrap_or_else(|_| usual.to_owned());
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(|| say::Above)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if json {
        say::as_json();
    }
    let logs = match json {
        true => logs.json().boxed(),
        false => logs.compact().boxed(),
    };
    let provider = exporter(service)?;
    let traces = provider.as_ref().map(|provider| {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("ajar"))
            .with_filter(EnvFilter::new(
                "info,h2=off,tonic=off,hyper=off,sqlx=off,tower=off",
            ))
    });
    tracing_subscriber::registry()
        .with(logs.with_filter(EnvFilter::try_new(wanted)?))
        .with(traces)
        .init();
    Ok(Telemetry(provider))
}

impl Telemetry {
    /// Sends what is left.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

fn exporter(service: &str) -> anyhow::Result<Option<SdkTracerProvider>> {
    let configured = ENDPOINTS
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !configured {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()?;
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| service.to_owned());
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(name).build())
        .build();
    Ok(Some(provider))
}
