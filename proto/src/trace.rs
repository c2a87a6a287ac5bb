//! Trace context (W3C Trace Context) in the metadata of calls, so that one trace shows a campaign's way from its
//! submission to the ingest of its results. Without an exporter nothing is added.

use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use tonic::{
    Request, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Interceptor of every client: adds the context of the current span.
pub fn inject(mut request: Request<()>) -> Result<Request<()>, Status> {
    let context = Span::current().context();
    if context.has_active_span() {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut Outgoing(request.metadata_mut()));
        });
    }
    Ok(request)
}

/// The span of a call that is served: a child of the caller's, and none if the caller has none, since workers ask all
/// the time.
pub fn serving(request: &http::Request<()>) -> Span {
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract(&Incoming(request.headers()))
    });
    if !parent.has_active_span() {
        return Span::none();
    }
    let method = request.uri().path().trim_start_matches('/');
    let span = tracing::info_span!("call", otel.name = method, otel.kind = "server");
    set_parent(&span, parent);
    span
}

/// The current span as the text of a `traceparent` field; none if it is not traced.
pub fn current() -> Option<String> {
    let mut carrier = std::collections::HashMap::new();
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut carrier);
    });
    carrier.remove(TRACEPARENT)
}

/// Makes the span of a `traceparent` text the parent of `span`, which must not have been entered yet.
pub fn follow(span: &Span, traceparent: &str) {
    let carrier =
        std::collections::HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    set_parent(
        span,
        global::get_text_map_propagator(|propagator| propagator.extract(&carrier)),
    );
}

fn set_parent(span: &Span, parent: Context) {
    if parent.has_active_span() {
        // It fails only if no exporter is installed, and then nobody looks.
        let _ = span.set_parent(parent);
    }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (
            MetadataKey::from_bytes(key.as_bytes()),
            MetadataValue::try_from(value),
        ) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a http::HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, "tracestate"]
    }
}
