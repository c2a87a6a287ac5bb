//! One trace leads from `campaign submit` to the ingest of what a probe saw.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Access, Site};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// What an OTLP receiver keeps.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let mut spans = self.0.lock().unwrap();
        spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Received {
    /// The names from the trace's root to the first span of this name; none if there is none yet.
    fn path(&self, name: &str) -> Option<Vec<String>> {
        let spans = self.0.lock().unwrap();
        let by_id: HashMap<&[u8], &Span> = spans.iter().map(|s| (&s.span_id[..], s)).collect();
        let mut at = spans.iter().find(|span| span.name == name)?;
        let trace = at.trace_id.clone();
        let mut path = vec![at.name.clone()];
        while let Some(parent) = by_id.get(&at.parent_span_id[..]) {
            assert_eq!(parent.trace_id, trace);
            path.insert(0, parent.name.clone());
            at = parent;
        }
        at.parent_span_id.is_empty().then_some(path)
    }

    /// Waits for a span of this name whose ancestors have all arrived.
    fn await_path(&self, name: &str) -> Vec<String> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some(path) = self.path(name) {
                return path;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let names: Vec<String> = self
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|s| s.name.clone())
            .collect();
        panic!("no whole path to {name} among {names:?}")
    }
}

#[test]
fn a_trace_leads_from_the_submission_to_the_ingest() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let received = Received::default();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(received.clone());
    let receiver = Server::builder().add_service(service);
    runtime.spawn(receiver.serve_with_incoming(TcpListenerStream::new(listener)));

    let site = Site::new().squid("127.0.50.1:3128", Access::Open);
    let exporting = site
        .cluster()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "200");
    let cluster = exporting.start().unwrap();
    cluster.submit("127.0.50.1 -p 3128").unwrap();

    let submission = [
        "campaign submit",
        "ajar.v1.CampaignService/Submit",
        "campaign.submit",
    ];
    assert_eq!(received.await_path("campaign.submit"), submission);
    assert_eq!(
        received.await_path("probe"),
        [&submission[..], &["shard", "probe"]].concat()
    );
    let ingest = [
        "shard",
        "ajar.v1.WorkService/Report",
        "ingest",
        "ingest.batch",
    ];
    assert_eq!(
        received.await_path("ingest.batch"),
        [&submission[..], &ingest].concat()
    );
}
