//! Campaigns and shards in SQLite.

use std::ops::Range;

use ajar_model::{Campaign, CampaignId, ShardId, Timestamp, campaign::State, lease::Work};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row};

use super::SqliteRows;
use crate::{
    Error, Progress,
    rows::{Bench, CampaignRows},
    stored::{self, micros, signed, unsigned},
};

const CAMPAIGN: &str = "SELECT id, spec, nonce_key, state, created_at FROM campaigns WHERE id = $1";
const CAMPAIGNS: &str = "SELECT id, spec, nonce_key, state, created_at FROM campaigns ORDER BY created_at DESC, id DESC";

/// The columns of [`stored::progress`], then the last report.
const SUMS: &str = "SELECT count(*), coalesce(sum(closed), 0), coalesce(sum(lease_until > $2), 0), \
    coalesce(sum(answered), 0), coalesce(sum(refused), 0), coalesce(sum(silent), 0), \
    coalesce(sum(unreachable), 0), coalesce(sum(denied), 0), coalesce(sum(failed), 0), \
    coalesce(sum(CASE WHEN lease_until > $2 THEN rate END), 0), \
    count(DISTINCT CASE WHEN lease_until > $2 THEN owner END), max(reported_at) \
    FROM shards WHERE campaign = $1";

type CampaignRow = (String, String, Vec<u8>, String, i64);

fn campaign((id, spec, key, state, created_at): CampaignRow) -> Result<Campaign, Error> {
    stored::campaign((id, spec, key, state), stored::timestamp(created_at)?)
}

#[async_trait]
impl CampaignRows for SqliteRows {
    async fn insert_campaign(&mut self, campaign: &Campaign) -> Result<bool, Error> {
        let spec = stored::to_json("a campaign's spec", &campaign.spec)?;
        let done = sqlx::query(
            "INSERT INTO campaigns (id, spec, tenant, canary_key, nonce_key, created_at, state) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(campaign.id.to_string())
        .bind(spec)
        .bind(&campaign.spec.tenant)
        .bind(campaign.spec.canary.key.to_string())
        .bind(campaign.key.0.as_slice())
        .bind(micros(campaign.created_at))
        .bind(State::Running.as_str())
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error> {
        for (range, number) in shards.iter().zip(0_i64..) {
            sqlx::query(
                "INSERT INTO shards (campaign, number, first, past) VALUES ($1, $2, $3, $4)",
            )
            .bind(id.to_string())
            .bind(number)
            .bind(signed("a shard's range", range.start)?)
            .bind(signed("a shard's range", range.end)?)
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }

    async fn campaign(&mut self, id: CampaignId) -> Result<Option<Campaign>, Error> {
        let row: Option<CampaignRow> = sqlx::query_as(CAMPAIGN)
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(campaign).transpose()
    }

    async fn campaigns(&mut self) -> Result<Vec<Campaign>, Error> {
        let rows: Vec<CampaignRow> = sqlx::query_as(CAMPAIGNS).fetch_all(&mut *self.0).await?;
        rows.into_iter().map(campaign).collect()
    }

    async fn set_state(
        &mut self,
        id: CampaignId,
        from: &[State],
        to: State,
    ) -> Result<bool, Error> {
        if from.is_empty() {
            return Ok(false);
        }
        let mut query = QueryBuilder::new("UPDATE campaigns SET state = ");
        query.push_bind(to.as_str()).push(" WHERE id = ");
        query.push_bind(id.to_string()).push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in from {
            states.push_bind(state.as_str());
        }
        query.push(")");
        let done = query.build().execute(&mut *self.0).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock_campaign(&mut self, id: CampaignId) -> Result<Option<State>, Error> {
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM campaigns WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        state
            .map(|state| stored::parsed("a campaign's state", &state))
            .transpose()
    }

    async fn bench(&mut self, id: CampaignId) -> Result<Option<Bench>, Error> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT tenant, canary_key FROM campaigns WHERE id = $1")
                .bind(id.to_string())
                .fetch_optional(&mut *self.0)
                .await?;
        row.map(|(tenant, key)| {
            let key = stored::parsed("a canary's key", &key)?;
            Ok(Bench { tenant, key })
        })
        .transpose()
    }

    async fn insert_revisit(
        &mut self,
        id: CampaignId,
        endpoints: &str,
        visit: u32,
    ) -> Result<u64, Error> {
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO shards (campaign, number, endpoints, visit) \
             SELECT $1, coalesce(max(number) + 1, 0), $2, $3 FROM shards WHERE campaign = $1 \
             RETURNING number",
        )
        .bind(id.to_string())
        .bind(endpoints)
        .bind(visit)
        .fetch_one(&mut *self.0)
        .await?;
        unsigned("a shard's number", number)
    }

    async fn work(&mut self, shard: ShardId) -> Result<Option<Work>, Error> {
        type WorkRow = (Option<i64>, Option<i64>, Option<String>, Option<i64>);
        let row: Option<WorkRow> = sqlx::query_as(
            "SELECT first, past, endpoints, visit FROM shards WHERE campaign = $1 AND number = $2",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|(first, past, endpoints, visit)| {
            stored::work(first.zip(past), endpoints.zip(visit))
        })
        .transpose()
    }

    async fn progress(&mut self, id: CampaignId, now: Timestamp) -> Result<Progress, Error> {
        let row = sqlx::query(SUMS)
            .bind(id.to_string())
            .bind(micros(now))
            .fetch_one(&mut *self.0)
            .await?;
        let last_report: Option<i64> = row.try_get(stored::SUMS)?;
        let verdicts = sqlx::query_as(
            "SELECT verdict, count(*), sum(awaits_mail) FROM findings \
             WHERE campaign = $1 AND verdict IS NOT NULL GROUP BY verdict",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        let last_report = last_report.map(stored::timestamp).transpose()?;
        stored::progress(&row, last_report, verdicts)
    }

    async fn unleased(&mut self, cutoff: Timestamp) -> Result<Vec<ShardId>, Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT s.campaign, s.number FROM shards s JOIN campaigns c ON c.id = s.campaign \
             WHERE c.state = 'running' AND s.closed = 0 \
             AND (s.lease_until IS NULL OR s.lease_until <= $1) \
             ORDER BY s.campaign, s.number",
        )
        .bind(micros(cutoff))
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(campaign, number)| stored::shard(&campaign, number))
            .collect()
    }
}
