//! Every call, before it is read: let through, or refused and put on record.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ajar_model::Timestamp;
use ajar_store::{AuditEntry, Store};
use futures::{FutureExt, future::BoxFuture};
use tonic::{Code, Status, body::Body, codegen::http};
use tower::{Layer, Service};

use crate::{
    caller::Certified,
    roles::{is_for_everybody, is_method},
};

/// How often the same refusal goes into the audit log, which must not be filled by whoever is refused.
const AGAIN: Duration = Duration::from_secs(60);

/// Most refusals that are remembered for so long: more of them are counted only.
const REMEMBERED: usize = 1000;
/// What is said of a message that is longer than [`ajar_proto::MAX_MESSAGE`].
pub(crate) const TOO_LONG: &str = "a message over the limit";

/// Puts on record what was refused. Clones share what they know.
#[derive(Clone)]
pub(crate) struct Refusals {
    store: Arc<dyn Store>,
    /// When a refusal was recorded last, by caller and what was called.
    recorded: Arc<Mutex<HashMap<(String, String), Instant>>>,
}

impl Refusals {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            recorded: Arc::default(),
        }
    }

    /// Records that somebody called something in vain.
    pub(crate) async fn record(&self, caller: &str, what: &str) {
        tracing::warn!(caller, what, "a call was refused");
        metrics::counter!("ajar_refusals_total", "what" => what.to_owned()).increment(1);
        if !self.is_due(caller, what) {
            return;
        }
        let entry = AuditEntry {
            at: Timestamp::now(),
            actor: caller.to_owned(),
            action: "call.refused".to_owned(),
            authorization: None,
            campaign: None,
            detail: what.to_owned(),
        };
        if let Err(error) = self.store.audit(&entry).await {
            tracing::warn!(%error, "a refusal could not be recorded");
        }
    }

    fn is_due(&self, caller: &str, what: &str) -> bool {
        let mut recorded = self.recorded.lock().expect("no holder panics");
        recorded.retain(|_, at| at.elapsed() < AGAIN);
        if recorded.len() >= REMEMBERED {
            return false;
        }
        let key = (caller.to_owned(), what.to_owned());
        // Whatever is still there was recorded a short while ago.
        match recorded.entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Instant::now());
                true
            }
        }
    }
}

/// Lets those calls pass that their callers are certified for, and puts the others on record.
#[derive(Clone)]
pub(crate) struct Guard {
    /// False without TLS, where callers cannot be told apart.
    enforced: bool,
    refusals: Refusals,
}

impl Guard {
    pub(crate) fn new(enforced: bool, refusals: Refusals) -> Self {
        Self { enforced, refusals }
    }

    /// Notes with a call whose it is, or says who calls in vain.
    fn admit<B>(&self, request: &mut http::Request<B>) -> Result<(), Certified> {
        let path = request.uri().path();
        if !self.enforced || is_for_everybody(path) {
            return Ok(());
        }
        let caller = Certified::of(request.extensions());
        let Some(tenants) = caller.tenants_at(path) else {
            return Err(caller);
        };
        request
            .extensions_mut()
            .insert(Certified { tenants, ..caller });
        Ok(())
    }

    async fn record(self, caller: Certified, path: String) -> Status {
        let status = Status::permission_denied(match caller.roles[..] {
            [] => format!(
                "{} is certified for nothing: its certificate needs a URI such as spiffe://example.net/ajar/operator/alice, \
                 which `ajar pki issue` writes",
                caller.name
            ),
            _ => format!("{} is not certified for {path}", caller.name),
        });
        // A path that is none is the caller's own text, and could be another one each time.
        let what = match is_method(&path) {
            true => path.as_str(),
            false => "a call that does not exist",
        };
        self.refusals.record(&caller.name, what).await;
        status
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded {
            inner,
            guard: self.clone(),
        }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let guard = self.guard.clone();
        if let Err(caller) = guard.admit(&mut request) {
            let recording = guard.record(caller, request.uri().path().to_owned());
            return recording.map(|status| Ok(status.into_http())).boxed();
        }
        let caller = request.extensions().get::<Certified>();
        let caller = caller.map_or("somebody without a certificate", |caller| &caller.name);
        let caller = caller.to_owned();
        let call = self.inner.call(request);
        async move {
            let response = call.await?;
            // That is what a message over the limit comes to, before anybody reads it.
            let status = response.headers().get(Status::GRPC_STATUS);
            if status.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::OutOfRange) {
                guard.refusals.record(&caller, TOO_LONG).await;
            }
            Ok(response)
        }
        .boxed()
    }
}
