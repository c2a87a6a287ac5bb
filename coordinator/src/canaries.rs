//! What canaries report: that they are there, and which mail arrived.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ajar_model::{Canary, Sighting, proof::CanaryKey};
use ajar_proto::{convert, v1, v1::canary_service_server::CanaryService};
use tonic::{Request, Response, Status};

use crate::{Coordinator, caller, error};

#[tonic::async_trait]
impl CanaryService for Coordinator {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let canary = convert::canary_in(request.into_inner().canary)?;
        let store = &self.options.store;
        store.put_canary(&canary).await.map_err(error::store)?;
        if self.canary_keys.is_new(&canary) {
            tracing::info!(domain = canary.domain, "a canary is ready");
        }
        Ok(Response::new(v1::RegisterResponse {}))
    }

    async fn record(
        &self,
        request: Request<v1::RecordRequest>,
    ) -> Result<Response<v1::RecordResponse>, Status> {
        let caller = caller::name(&request);
        let sighting = request.into_inner().sighting;
        let sighting =
            sighting.ok_or_else(|| Status::invalid_argument("field sighting: is missing"))?;
        let sighting = Sighting::try_from(sighting)?;
        if !self.is_signed(&sighting).await? {
            let refusals = &self.refusals;
            refusals
                .record(&caller, "a mail that no canary signed")
                .await;
            return Err(Status::permission_denied(
                "the mail is not signed by a canary that is registered, or that a campaign names",
            ));
        }
        self.receipts.record(sighting).await?;
        Ok(Response::new(v1::RecordResponse {}))
    }
}

/// The keys of canaries, as far as they were asked for. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct CanaryKeys {
    known: Arc<Mutex<Vec<CanaryKey>>>,
    /// The canaries that announced themselves here.
    announced: Arc<Mutex<BTreeMap<IpAddr, Canary>>>,
}

impl CanaryKeys {
    /// Returns whether a canary was not announced here before, or was another one at its address.
    fn is_new(&self, canary: &Canary) -> bool {
        let mut announced = self.announced.lock().expect("no holder panics");
        let before = announced.insert(canary.address, canary.clone());
        before.as_ref() != Some(canary)
    }
}

impl Coordinator {
    /// True if the key is that of a canary which is registered, or which a campaign under way names. That it is the canary of its own
    /// campaign is for the judge to see, who knows which that is.
    async fn is_signed(&self, sighting: &Sighting) -> Result<bool, Status> {
        let known = &self.canary_keys.known;
        let by_one = |keys: &[CanaryKey]| keys.iter().any(|key| sighting.is_signed_by(key));
        if by_one(&known.lock().expect("no holder panics")) {
            return Ok(true);
        }
        let (store, only) = (&self.options.store, self.options.drives.only());
        let registered = store.canaries().await.map_err(error::store)?;
        let mut keys: Vec<CanaryKey> = registered.iter().map(|canary| canary.key).collect();
        if !by_one(&keys) {
            for active in store.active_campaigns(only).await.map_err(error::store)? {
                let plan = self.plan(active.campaign).await?;
                keys.push(plan.campaign.spec.canary.key);
            }
        }
        let signed = by_one(&keys);
        *known.lock().expect("no holder panics") = keys;
        Ok(signed)
    }
}
