//! Every call, before it is read: let through, or refused and put on record.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ajar_model::{Timestamp, space::prefix_of};
use ajar_store::{AuditEntry, Store};
use futures::{FutureExt, future::BoxFuture};
use tonic::{Code, Status, body::Body, codegen::http};
use tower::{Layer, Service};

use crate::{
    audit,
    caller::Certified,
    roles::{is_for_everybody, is_method},
};

/// How often the same refusal goes into the audit log, which must not be filled by those who are
/// refused.
const AGAIN: Duration = Duration::from_secs(60);

/// Refusals that have an entry each within that time. The others share one.
const LISTED: usize = 20;
/// What is said of a message that is longer than [`ajar_proto::MAX_MESSAGE`].
pub(crate) const TOO_LONG: &str = "a message over the limit";

/// Puts on record what was refused. Clones share what they know.
#[derive(Clone)]
pub(crate) struct Refusals {
    store: Arc<dyn Store>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// When a refusal was recorded last, by caller and what was called.
    recorded: HashMap<(String, String), Instant>,
    /// Refusals that are to be recorded together, and the first of them.
    others: u64,
    first: Option<(String, String)>,
}

impl Refusals {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            known: Arc::default(),
        }
    }

    /// Records that somebody called something in vain.
    pub(crate) async fn record(&self, caller: &str, what: &str) {
        self.record_one_of(caller, caller, what).await;
    }

    /// Records that somebody without a valid certificate connected. The addresses of a /24 or /64
    /// count as one caller.
    pub(crate) async fn record_stranger(&self, from: IpAddr, what: &str) {
        let prefix = prefix_of(from).to_string();
        self.record_one_of(&prefix, &from.to_string(), what).await;
    }

    async fn record_one_of(&self, group: &str, caller: &str, what: &str) {
        metrics::counter!("ajar_refusals_total", "what" => what.to_owned()).increment(1);
        if !self.is_due(group, what) {
            return;
        }
        tracing::warn!(caller, what, "a call was refused");
        let entry = audit::entry(caller, "call.refused", what.to_owned());
        if let Err(error) = self.store.audit(&entry).await {
            tracing::warn!(%error, "a refusal could not be recorded");
        }
    }

    /// Records together what was refused since the last time and had no entry of its own.
    pub(crate) async fn record_others(&self, at: Timestamp) -> Result<(), ajar_store::Error> {
        let (others, first) = {
            let mut known = self.known.lock().expect("no holder panics");
            (std::mem::take(&mut known.others), known.first.take())
        };
        let Some((caller, what)) = first else {
            return Ok(());
        };
        let detail =
            format!("{others} more within a minute, the first of them by {caller}: {what}");
        let entry = AuditEntry {
            at,
            ..audit::entry("coordinator", "call.refused", detail)
        };
        self.store.audit(&entry).await
    }

    /// Returns whether a refusal gets an entry of its own now.
    fn is_due(&self, caller: &str, what: &str) -> bool {
        let mut known = self.known.lock().expect("no holder panics");
        known.recorded.retain(|_, at| at.elapsed() < AGAIN);
        let key = (caller.to_owned(), what.to_owned());
        // Whatever is still there was recorded a short while ago.
        if known.recorded.contains_key(&key) {
            return false;
        }
        if known.recorded.len() >= LISTED {
            known.others += 1;
            known.first.get_or_insert(key);
            return false;
        }
        known.recorded.insert(key, Instant::now());
        true
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

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
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

#[cfg(test)]
mod tests {
    use ajar_store::Options;

    use super::*;

    #[tokio::test]
    async fn many_refusals_share_an_entry() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ajar.db").display().to_string();
        let store = ajar_store::open(&file, &Options::default()).await.unwrap();
        let refusals = Refusals::new(Arc::clone(&store));
        for caller in 0..500 {
            for _ in 0..2 {
                refusals.record(&format!("caller {caller}"), "a call").await;
            }
        }
        refusals.record_others(Timestamp::now()).await.unwrap();
        refusals.record_others(Timestamp::now()).await.unwrap();
        let log = store.audit_log(0, 1000).await.unwrap();
        assert_eq!(log.len(), LISTED + 1);
        let last = &log.last().unwrap().entry.detail;
        // The twenty with an entry of their own were refused a second time, which is not worth
        // another.
        assert_eq!(
            last,
            "960 more within a minute, the first of them by caller 20: a call"
        );
    }
}
