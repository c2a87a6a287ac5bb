//! The store's rules over whichever database.

use std::{net::SocketAddr, ops::Range, time::Duration};

use ajar_model::{
    Campaign, CampaignId, Canary, Finding, Observation, ShardId, Sighting, Spec, Timestamp,
    campaign::State, lease::Work,
};
use async_trait::async_trait;

use crate::{
    AuditEntry, Batch, Error, FindingQuery, Grant, GrantRequest, Ingested, Progress, Renewal,
    Renewed, SeenWorker, Store, audit, grant, ingest, rows::Backend, stored,
};

/// How long a worker that gives no sign of life is remembered.
const WORKER_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A store over a database.
pub(crate) struct Engine<B>(pub B);

#[async_trait]
impl<B: Backend> Store for Engine<B> {
    async fn create_campaign(
        &self,
        campaign: &Campaign,
        shards: &[Range<u64>],
    ) -> Result<(), Error> {
        stored::name("a tenant", &campaign.spec.tenant)?;
        let mut tx = self.0.write().await?;
        if tx.insert_campaign(campaign).await? {
            tx.insert_shards(campaign.id, shards).await?;
            return tx.commit().await;
        }
        let stored = tx.campaign(campaign.id).await?;
        if stored.is_some_and(|stored| is_same(&stored.spec, &campaign.spec)) {
            return Ok(());
        }
        Err(Error::Conflict {
            what: format!("campaign {}", campaign.id),
        })
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, Error> {
        self.0.read().await?.campaign(id).await
    }

    async fn campaigns(&self) -> Result<Vec<Campaign>, Error> {
        self.0.read().await?.campaigns().await
    }

    async fn transition(&self, id: CampaignId, from: &[State], to: State) -> Result<bool, Error> {
        let mut tx = self.0.write().await?;
        let moved = tx.set_state(id, from, to).await?;
        tx.commit().await?;
        Ok(moved)
    }

    async fn progress(&self, id: CampaignId, now: Timestamp) -> Result<Progress, Error> {
        self.0.read().await?.progress(id, now).await
    }

    async fn unleased_shards(
        &self,
        now: Timestamp,
        margin: Duration,
    ) -> Result<Vec<ShardId>, Error> {
        let cutoff = stored::cutoff(now, margin);
        self.0.read().await?.unleased(cutoff).await
    }

    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Error> {
        self.0.read().await?.work(shard).await
    }

    async fn add_revisit(
        &self,
        campaign: CampaignId,
        endpoints: &[SocketAddr],
        visit: u32,
    ) -> Result<ShardId, Error> {
        let endpoints = stored::to_json("endpoints", endpoints)?;
        let mut tx = self.0.write().await?;
        if tx.lock_campaign(campaign).await?.is_none() {
            return Err(Error::Unknown {
                what: format!("campaign {campaign}"),
            });
        }
        let number = tx.insert_revisit(campaign, &endpoints, visit).await?;
        tx.commit().await?;
        Ok(ShardId { campaign, number })
    }

    async fn grant(&self, request: &GrantRequest) -> Result<Grant, Error> {
        grant::grant(self.0.write().await?, request).await
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, Error> {
        grant::renew(self.0.write().await?, renewal).await
    }

    async fn release(&self, shard: ShardId, token: u64) -> Result<(), Error> {
        grant::release(self.0.write().await?, shard, token).await
    }

    async fn end_all_leases(&self) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        tx.lock_site().await?;
        tx.end_all_leases().await?;
        tx.commit().await
    }

    async fn ingest(&self, batch: &Batch) -> Result<Ingested, Error> {
        ingest::ingest(&self.0, batch).await
    }

    async fn record_sighting(&self, sighting: &Sighting) -> Result<Option<Finding>, Error> {
        ingest::record_sighting(&self.0, sighting).await
    }

    async fn rejudge_sighted(&self, campaign: CampaignId) -> Result<Vec<Finding>, Error> {
        ingest::rejudge_sighted(&self.0, campaign).await
    }

    async fn unproven_endpoints(&self, campaign: CampaignId) -> Result<Vec<SocketAddr>, Error> {
        let pairs = self.0.read().await?.unproven(campaign).await?;
        Ok(pairs.into_iter().map(SocketAddr::from).collect())
    }

    async fn findings(&self, query: &FindingQuery) -> Result<Vec<Finding>, Error> {
        if let Some((.., probe)) = &query.after {
            stored::name("a probe's name", probe.as_str())?;
        }
        self.0.read().await?.findings(query).await
    }

    async fn finding(&self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error> {
        stored::name("a finding's id", id)?;
        self.0.read().await?.finding(id).await
    }

    async fn register_authorization(&self, id: &str, digest: [u8; 32]) -> Result<(), Error> {
        stored::name("an authorization's id", id)?;
        let mut tx = self.0.write().await?;
        let stored = tx.authorization(id, digest).await?;
        tx.commit().await?;
        if stored == digest {
            return Ok(());
        }
        Err(Error::Conflict {
            what: format!("authorization {id:?}"),
        })
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), Error> {
        audit::append(self.0.write().await?, entry).await
    }

    async fn audit_log(&self) -> Result<Vec<AuditEntry>, Error> {
        audit::verified(self.0.read().await?.audit_rows().await?)
    }

    async fn put_canary(&self, canary: &Canary) -> Result<(), Error> {
        let body = stored::to_json("a canary", canary)?;
        let mut tx = self.0.write().await?;
        tx.put_canary(canary.address, &body).await?;
        tx.commit().await
    }

    async fn canaries(&self) -> Result<Vec<Canary>, Error> {
        let bodies = self.0.read().await?.canaries().await?;
        let read = |body: &String| stored::from_json("a canary", body);
        bodies.iter().map(read).collect()
    }

    async fn seen_worker(&self, worker: &str, vantage: &str, now: Timestamp) -> Result<(), Error> {
        stored::name("a worker's identity", worker)?;
        stored::name("a vantage point", vantage)?;
        let seen = SeenWorker {
            worker: worker.to_owned(),
            vantage: vantage.to_owned(),
            last_seen: stored::to_micros(now),
        };
        let mut tx = self.0.write().await?;
        tx.put_worker(&seen, stored::cutoff(now, WORKER_MEMORY))
            .await?;
        tx.commit().await
    }

    async fn workers(&self, since: Timestamp) -> Result<Vec<SeenWorker>, Error> {
        self.0.read().await?.workers(since).await
    }
}

/// A submission that is sent once more is the same in all but its trace.
fn is_same(stored: &Spec, wanted: &Spec) -> bool {
    let wanted = Spec {
        traceparent: stored.traceparent.clone(),
        ..wanted.clone()
    };
    *stored == wanted
}
