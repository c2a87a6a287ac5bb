//! Shards of campaigns: what they consist of, and which are open.

use std::net::SocketAddr;

use ajar_model::{CampaignId, ShardId, Timestamp, lease::Work};
use async_trait::async_trait;

use super::Tx;
use crate::{
    Demand, Error, Quarantined, Unleased,
    columns::{At, Document},
    rows::{Repeat, ShardRows},
    stored::{self, QuarantinedRow, WorkColumns, signed, unsigned},
};

#[async_trait]
impl ShardRows for Tx {
    async fn insert_revisit(
        &mut self,
        id: CampaignId,
        endpoints: &[SocketAddr],
        repeat: &Repeat,
    ) -> Result<ShardId, Error> {
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO shards (campaign, number, endpoints, visit, vantage, round, to_target) \
             SELECT $1, coalesce(max(number) + 1, 0), $2, $3, $4, $5, $6 FROM shards WHERE campaign = $1 \
             RETURNING number",
        )
        .bind(id.to_string())
        .bind(Document(stored::to_json("endpoints", endpoints)?))
        .bind(i64::from(repeat.visit))
        .bind(&repeat.vantage)
        .bind(i64::from(repeat.round))
        .bind(signed("a shard's targets", endpoints.len() as u64)?)
        .fetch_one(&mut *self.0)
        .await?;
        Ok(ShardId {
            campaign: id,
            number: unsigned("a shard's number", number)?,
        })
    }

    async fn lock_ungranted_revisit(
        &mut self,
        id: CampaignId,
        repeat: &Repeat,
    ) -> Result<Option<(ShardId, String)>, Error> {
        let row: Option<(i64, Document)> = sqlx::query_as(row_lock!(
            "SELECT number, endpoints FROM shards WHERE campaign = $1 AND NOT closed \
             AND endpoints IS NOT NULL AND token IS NULL AND attempt = 0 AND visit = $2 AND round = $3 \
             AND (vantage = $4 OR (vantage IS NULL AND $4 IS NULL)) ORDER BY number DESC LIMIT 1",
            "FOR UPDATE"
        ))
        .bind(id.to_string())
        .bind(i64::from(repeat.visit))
        .bind(i64::from(repeat.round))
        .bind(&repeat.vantage)
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|(number, endpoints)| {
            let number = unsigned("a shard's number", number)?;
            let shard = ShardId {
                campaign: id,
                number,
            };
            Ok((shard, endpoints.0))
        })
        .transpose()
    }

    async fn put_endpoints(
        &mut self,
        shard: ShardId,
        endpoints: &[SocketAddr],
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE shards SET endpoints = $3, to_target = $4 WHERE campaign = $1 AND number = $2",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .bind(Document(stored::to_json("endpoints", endpoints)?))
        .bind(signed("a shard's targets", endpoints.len() as u64)?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn insert_rest(&mut self, shard: ShardId, from: u64, to: u64) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO shards (campaign, number, first, past, endpoints, visit, vantage, \
             round, cursor, from_target, to_target, attempt) \
             SELECT campaign, (SELECT max(number) + 1 FROM shards WHERE campaign = $1), \
             first, past, endpoints, visit, vantage, round, $3, $3, $4, 1 \
             FROM shards WHERE campaign = $1 AND number = $2",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .bind(signed("a shard's targets", from)?)
        .bind(signed("a shard's targets", to)?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn open_revisits(&mut self, id: CampaignId) -> Result<Vec<String>, Error> {
        let endpoints: Vec<Document> = sqlx::query_scalar(
            "SELECT endpoints FROM shards \
             WHERE campaign = $1 AND NOT closed AND endpoints IS NOT NULL",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        Ok(endpoints.into_iter().map(|document| document.0).collect())
    }

    async fn quarantined(&mut self, id: CampaignId, limit: u32) -> Result<Vec<Quarantined>, Error> {
        let rows: Vec<QuarantinedRow> = sqlx::query_as(
            "SELECT number, first, past, endpoints, visit, vantage, round, cursor, to_target, cause \
             FROM shards WHERE campaign = $1 AND quarantined ORDER BY number LIMIT $2",
        )
        .bind(id.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|row| stored::quarantined(id, row))
            .collect()
    }

    async fn reopen_quarantined(&mut self, id: CampaignId) -> Result<(), Error> {
        sqlx::query(
            "UPDATE shards SET closed = false, quarantined = false, attempt = 0, cause = NULL \
             WHERE campaign = $1 AND quarantined",
        )
        .bind(id.to_string())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn open_shards(&mut self, id: CampaignId, most: u32) -> Result<u32, Error> {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM shards WHERE campaign = $1 AND NOT closed LIMIT $2) AS open",
        )
        .bind(id.to_string())
        .bind(i64::from(most))
        .fetch_one(&mut *self.0)
        .await?;
        unsigned("a count", open)
    }

    async fn work(&mut self, shard: ShardId) -> Result<Option<Work>, Error> {
        let row: Option<WorkColumns> = sqlx::query_as(
            "SELECT first, past, endpoints, visit, vantage, round FROM shards \
             WHERE campaign = $1 AND number = $2",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(stored::work).transpose()
    }

    async fn unleased(
        &mut self,
        only: Option<CampaignId>,
        cutoff: Timestamp,
    ) -> Result<Vec<Unleased>, Error> {
        let rows: Vec<(String, i64, bool)> = sqlx::query_as(
            "SELECT s.campaign, s.number, s.visit IS NOT NULL FROM shards s JOIN campaigns c ON c.id = s.campaign \
             WHERE c.state = 'running' AND NOT s.closed \
             AND NOT EXISTS (SELECT 1 FROM leases l \
             WHERE l.campaign = s.campaign AND l.number = s.number AND l.until > $1) \
             AND (c.id = $2 OR ($2 IS NULL AND NOT c.local)) \
             AND NOT EXISTS (SELECT 1 FROM stops WHERE tenant IN ('', c.tenant)) \
             ORDER BY s.campaign, s.number",
        )
        .bind(At(cutoff))
        .bind(only.map(|id| id.to_string()))
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(campaign, number, is_revisit)| {
                Ok(Unleased {
                    shard: stored::shard(&campaign, number)?,
                    is_revisit,
                })
            })
            .collect()
    }

    async fn demands(&mut self, only: Option<CampaignId>, most: u32) -> Result<Vec<Demand>, Error> {
        let rows: Vec<(String, i64, i64, i64, bool)> = sqlx::query_as(
            "SELECT c.id, r.rate, r.leases, \
             (SELECT count(*) FROM (SELECT 1 FROM shards s \
             WHERE s.campaign = c.id AND NOT s.closed LIMIT $2) AS open), \
             EXISTS (SELECT 1 FROM shards s WHERE s.campaign = c.id AND NOT s.closed \
             AND s.visit IS NOT NULL AND NOT EXISTS (SELECT 1 FROM leases l \
             WHERE l.campaign = s.campaign AND l.number = s.number)) \
             FROM campaigns c JOIN rates r ON r.campaign = c.id \
             WHERE c.state = 'running' AND (c.id = $1 OR ($1 IS NULL AND NOT c.local)) \
             AND NOT EXISTS (SELECT 1 FROM stops WHERE tenant IN ('', c.tenant)) ORDER BY c.id",
        )
        .bind(only.map(|id| id.to_string()))
        .bind(i64::from(most))
        .fetch_all(&mut *self.0)
        .await?;
        let demand = |(campaign, rate, leases, open, revisit_waits): (String, _, _, _, _)| {
            Ok(Demand {
                campaign: stored::parsed("a campaign's id", &campaign)?,
                rate: unsigned("a sum of rates", rate)?,
                leases: unsigned("a count", leases)?,
                open: unsigned("a count", open)?,
                revisit_waits,
            })
        };
        rows.into_iter().map(demand).collect()
    }
}
