//! One target: connect, converse, observe.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use ajar_model::{
    CampaignId, Evidence, NonceKey, Observation, Outcome, ProbeId, Spec, Tier, Timestamp, space,
};
use ajar_probe::{BoxStream, Limits, Session};
use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    crowd::Crowd,
    egress::{Egress, EndpointDial, Refusal},
};

/// The probe of observations that say only that a connection was opened.
const DISCOVERED: ProbeId = ProbeId::from_static("connect");

/// What every visit of a lease has in common.
pub struct Visitor {
    /// The campaign.
    pub campaign: CampaignId,
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// The key of its nonces.
    pub key: NonceKey,
    /// Where we are.
    pub vantage: String,
    /// What we call ourselves.
    pub our_name: String,
    /// 1 for a first visit.
    pub visit: u32,
    /// Where connections go out.
    pub egress: Egress,
    /// Limits the conversations with each prefix.
    pub crowd: Crowd,
}

/// What became of a target.
#[derive(Debug)]
pub struct Visited {
    /// Its outcome.
    pub outcome: Outcome,
    /// What was observed, one for each probe that ran.
    pub observations: Vec<Observation>,
}

impl Visitor {
    /// Visits a target; none where the lease ended before it could be done. `turn` is given back as soon as the pace
    /// has let the first connection go.
    pub async fn visit(&self, endpoint: SocketAddr, turn: OwnedSemaphorePermit) -> Option<Visited> {
        let nothing = |outcome| Visited {
            outcome,
            observations: Vec::new(),
        };
        let started_at = Timestamp::now();
        self.egress.admit(endpoint).await;
        drop(turn);
        let stream = match self.egress.open(endpoint).await {
            Ok(stream) => stream,
            Err(refusal) => return refused(endpoint, &refusal).map(nothing),
        };
        let prefix = space::prefix_of(endpoint.ip());
        let (stream, _place) = match self.crowd.try_enter(prefix) {
            Some(place) => (stream, place),
            None => {
                // A connection must not wait unused: its server would time out, or greet into the void.
                drop(stream);
                let place = self.crowd.enter(prefix).await;
                match self.egress.connect(endpoint).await {
                    Ok(stream) => (stream, place),
                    Err(refusal) => return refused(endpoint, &refusal).map(nothing),
                }
            }
        };
        let conversation = self.converse(endpoint, Box::new(stream));
        match AssertUnwindSafe(conversation).catch_unwind().await {
            Ok(evidence) => Some(Visited {
                outcome: Outcome::Answered,
                observations: self.observations(endpoint, started_at, evidence),
            }),
            Err(_) => {
                tracing::error!("a probe panicked; the target counts as failed");
                tracing::debug!(%endpoint, "the target whose probe panicked");
                Some(nothing(Outcome::Failed))
            }
        }
    }

    #[tracing::instrument(name = "probe", skip_all, fields(endpoint = %endpoint))]
    async fn converse(&self, endpoint: SocketAddr, stream: BoxStream) -> Vec<(ProbeId, Evidence)> {
        if self.spec.tier == Tier::Connect {
            return vec![(DISCOVERED, Evidence::default())];
        }
        let dial = EndpointDial {
            egress: &self.egress,
            endpoint,
        };
        let session = Session {
            endpoint,
            campaign: self.campaign,
            key: &self.key,
            vantage: &self.vantage,
            canary: &self.spec.canary,
            tier: self.spec.tier,
            our_name: &self.our_name,
            dial: &dial,
            limits: Limits::default(),
        };
        ajar_probe::examine(&session, stream, &self.spec.probes).await
    }

    fn observations(
        &self,
        endpoint: SocketAddr,
        started_at: Timestamp,
        evidence: Vec<(ProbeId, Evidence)>,
    ) -> Vec<Observation> {
        let finished_at = Timestamp::now();
        evidence
            .into_iter()
            .map(|(probe, evidence)| Observation {
                campaign: self.campaign,
                endpoint,
                probe,
                vantage: self.vantage.clone(),
                started_at,
                finished_at,
                visit: self.visit,
                evidence,
            })
            .collect()
    }
}

fn refused(endpoint: SocketAddr, refusal: &Refusal) -> Option<Outcome> {
    let outcome = refusal.outcome();
    match outcome {
        Some(Outcome::Denied) => {
            tracing::debug!(%endpoint, %refusal, "a target was denied, and nothing was sent");
        }
        Some(Outcome::Failed) => {
            tracing::warn!(%refusal, "this machine could not open a connection");
        }
        _ => {}
    }
    outcome
}
