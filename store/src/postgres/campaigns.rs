//! Campaigns and shards in PostgreSQL.

use std::ops::Range;

use ajar_model::{Campaign, CampaignId, ShardId, Timestamp, campaign::State, lease::Work};
use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresRows, at::At};
use crate::{
    Error, Progress,
    rows::{Bench, CampaignRows},
    stored::{self, signed, unsigned},
};

const CAMPAIGN: &str =
    "SELECT id, spec::text, nonce_key, state, created_at FROM ajar.campaigns WHERE id = $1";
const CAMPAIGNS: &str = "SELECT id, spec::text, nonce_key, state, created_at FROM ajar.campaigns ORDER BY created_at DESC, id DESC";

/// The columns of [`stored::progress`], then the last report.
const SUMS: &str = "SELECT count(*), count(*) FILTER (WHERE closed), \
    count(*) FILTER (WHERE lease_until > $2), coalesce(sum(answered), 0)::bigint, \
    coalesce(sum(refused), 0)::bigint, coalesce(sum(silent), 0)::bigint, \
    coalesce(sum(unreachable), 0)::bigint, coalesce(sum(denied), 0)::bigint, \
    coalesce(sum(failed), 0)::bigint, coalesce(sum(rate) FILTER (WHERE lease_until > $2), 0)::bigint, \
    count(DISTINCT owner) FILTER (WHERE lease_until > $2), max(reported_at) \
    FROM ajar.shards WHERE campaign = $1";

type CampaignRow = (String, String, Vec<u8>, String, At);

fn campaign((id, spec, key, state, created_at): CampaignRow) -> Result<Campaign, Error> {
    stored::campaign((id, spec, key, state), created_at.0)
}

#[async_trait]
impl CampaignRows for PostgresRows {
    async fn insert_campaign(&mut self, campaign: &Campaign) -> Result<bool, Error> {
        let spec = stored::to_json("a campaign's spec", &campaign.spec)?;
        let done = sqlx::query(
            "INSERT INTO ajar.campaigns (id, spec, tenant, canary_key, nonce_key, created_at, state) \
             VALUES ($1, $2::text::json, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(campaign.id.to_string())
        .bind(spec)
        .bind(&campaign.spec.tenant)
        .bind(campaign.spec.canary.key.to_string())
        .bind(campaign.key.0.as_slice())
        .bind(At(campaign.created_at))
        .bind(State::Running.as_str())
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error> {
        let end = |end: u64| signed("a shard's range", end);
        let firsts = shards.iter().map(|range| end(range.start));
        let pasts = shards.iter().map(|range| end(range.end));
        sqlx::query(
            "INSERT INTO ajar.shards (campaign, number, first, past) \
             SELECT $1, ordinality - 1, first, past \
             FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS s (first, past)",
        )
        .bind(id.to_string())
        .bind(firsts.collect::<Result<Vec<_>, _>>()?)
        .bind(pasts.collect::<Result<Vec<_>, _>>()?)
        .execute(&mut *self.0)
        .await?;
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
        let from: Vec<&str> = from.iter().map(|state| state.as_str()).collect();
        let done =
            sqlx::query("UPDATE ajar.campaigns SET state = $2 WHERE id = $1 AND state = ANY ($3)")
                .bind(id.to_string())
                .bind(to.as_str())
                .bind(from)
                .execute(&mut *self.0)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock_campaign(&mut self, id: CampaignId) -> Result<Option<State>, Error> {
        // Not FOR UPDATE: foreign keys to the campaign are checked meanwhile, by transactions that hold a shard.
        let state: Option<String> =
            sqlx::query_scalar("SELECT state FROM ajar.campaigns WHERE id = $1 FOR NO KEY UPDATE")
                .bind(id.to_string())
                .fetch_optional(&mut *self.0)
                .await?;
        state
            .map(|state| stored::parsed("a campaign's state", &state))
            .transpose()
    }

    async fn bench(&mut self, id: CampaignId) -> Result<Option<Bench>, Error> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT tenant, canary_key FROM ajar.campaigns WHERE id = $1")
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
            "INSERT INTO ajar.shards (campaign, number, endpoints, visit) \
             SELECT $1, coalesce(max(number) + 1, 0), $2::text::jsonb, $3 FROM ajar.shards WHERE campaign = $1 \
             RETURNING number",
        )
        .bind(id.to_string())
        .bind(endpoints)
        .bind(i64::from(visit))
        .fetch_one(&mut *self.0)
        .await?;
        unsigned("a shard's number", number)
    }

    async fn work(&mut self, shard: ShardId) -> Result<Option<Work>, Error> {
        type WorkRow = (Option<i64>, Option<i64>, Option<String>, Option<i64>);
        let row: Option<WorkRow> = sqlx::query_as(
            "SELECT first, past, endpoints::text, visit FROM ajar.shards WHERE campaign = $1 AND number = $2",
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
            .bind(At(now))
            .fetch_one(&mut *self.0)
            .await?;
        let last_report: Option<At> = row.try_get(stored::SUMS)?;
        let verdicts = sqlx::query_as(
            "SELECT verdict, count(*), count(*) FILTER (WHERE awaits_mail) FROM ajar.findings \
             WHERE campaign = $1 AND verdict IS NOT NULL GROUP BY verdict",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        stored::progress(&row, last_report.map(|at| at.0), verdicts)
    }

    async fn unleased(&mut self, cutoff: Timestamp) -> Result<Vec<ShardId>, Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT s.campaign, s.number FROM ajar.shards s JOIN ajar.campaigns c ON c.id = s.campaign \
             WHERE c.state = 'running' AND NOT s.closed \
             AND (s.lease_until IS NULL OR s.lease_until <= $1) \
             ORDER BY s.campaign, s.number",
        )
        .bind(At(cutoff))
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(campaign, number)| stored::shard(&campaign, number))
            .collect()
    }
}
