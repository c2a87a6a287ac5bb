//! Leases, and the tokens that fence them.

use ajar_model::{Ahead, CampaignId, ShardId, Tally, Timestamp};
use async_trait::async_trait;
use sqlx::Row;

use super::{DatabaseRow, Tx};
use crate::{
    Error, GrantRequest, Holder,
    columns::At,
    rows::{LeaseRow, LeaseRows, ShardRow, Sum},
    stored::{self, signed, unsigned},
};

#[async_trait]
impl LeaseRows for Tx {
    async fn lock_shard(&mut self, shard: ShardId) -> Result<Option<ShardRow>, Error> {
        let row = sqlx::query(row_lock!(
            "SELECT cursor, answered, refused, silent, unreachable, denied, failed, attempt, \
             closed, token, reported_at, from_target, to_target, quarantined, ahead, ahead_answered, cause, \
             visit IS NOT NULL \
             FROM shards WHERE campaign = $1 AND number = $2",
            "FOR UPDATE"
        ))
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|row| shard_row(&row)).transpose()
    }

    async fn put_shard(&mut self, shard: ShardId, row: &ShardRow) -> Result<(), Error> {
        sqlx::query(
            "UPDATE shards SET cursor = $3, answered = $4, refused = $5, silent = $6, \
             unreachable = $7, denied = $8, failed = $9, attempt = $10, closed = $11, \
             token = $12, reported_at = $13, \
             to_target = $14, quarantined = $15, ahead = $16, ahead_answered = $17, cause = $18 \
             WHERE campaign = $1 AND number = $2",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .bind(signed("a cursor", row.cursor)?)
        .bind(signed("a tally", row.tally.answered)?)
        .bind(signed("a tally", row.tally.refused)?)
        .bind(signed("a tally", row.tally.silent)?)
        .bind(signed("a tally", row.tally.unreachable)?)
        .bind(signed("a tally", row.tally.denied)?)
        .bind(signed("a tally", row.tally.failed)?)
        .bind(i64::from(row.attempt))
        .bind(row.closed)
        .bind(row.token.map(|t| signed("a token", t)).transpose()?)
        .bind(row.reported_at.map(At))
        .bind(
            row.to
                .map(|to| signed("a shard's targets", to))
                .transpose()?,
        )
        .bind(row.quarantined)
        .bind(signed("a shard's targets", row.ahead.finished)?)
        .bind(signed("a shard's targets", row.ahead.answered)?)
        .bind(&row.cause)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn insert_lease(&mut self, lease: &LeaseRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO leases (campaign, number, token, owner, rate, revision, until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(lease.shard.campaign.to_string())
        .bind(signed("a shard's number", lease.shard.number)?)
        .bind(signed("a token", lease.token)?)
        .bind(&lease.owner)
        .bind(i64::from(lease.rate))
        .bind(signed("a revision", lease.revision)?)
        .bind(At(lease.until))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn lock_dead_leases(
        &mut self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeaseRow>, Error> {
        let rows = sqlx::query(row_lock!(
            "SELECT campaign, number, token, owner, rate, revision, until, renewal FROM leases \
             WHERE until <= $1 ORDER BY campaign, number LIMIT $2",
            "FOR NO KEY UPDATE SKIP LOCKED"
        ))
        .bind(At(cutoff))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(lease_row).collect()
    }

    async fn lock_sum(&mut self, id: CampaignId) -> Result<Sum, Error> {
        let sum: Option<(i64, i64)> = sqlx::query_as(row_lock!(
            "SELECT rate, leases FROM rates WHERE campaign = $1",
            "FOR NO KEY UPDATE"
        ))
        .bind(id.to_string())
        .fetch_optional(&mut *self.0)
        .await?;
        let sum = sum.map(|(rate, leases)| Sum { rate, leases });
        Ok(sum.unwrap_or_default())
    }

    async fn add_to_sum(&mut self, id: CampaignId, change: Sum) -> Result<(), Error> {
        sqlx::query("UPDATE rates SET rate = rate + $2, leases = leases + $3 WHERE campaign = $1")
            .bind(id.to_string())
            .bind(change.rate)
            .bind(change.leases)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn lock_authorization(&mut self, id: CampaignId) -> Result<(), Error> {
        sqlx::query(row_lock!(
            "SELECT id FROM authorizations \
             WHERE id = (SELECT authorization_id FROM campaigns WHERE id = $1)",
            "FOR NO KEY UPDATE"
        ))
        .bind(id.to_string())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn try_lock_authorization(&mut self, id: CampaignId) -> Result<bool, Error> {
        let locked = sqlx::query(row_lock!(
            "SELECT id FROM authorizations \
             WHERE id = (SELECT authorization_id FROM campaigns WHERE id = $1)",
            "FOR NO KEY UPDATE SKIP LOCKED"
        ))
        .bind(id.to_string())
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(locked.is_some())
    }

    async fn authorization_rate(&mut self, id: CampaignId) -> Result<i64, Error> {
        let rate = sqlx::query_scalar(
            "SELECT CAST(coalesce(sum(r.rate), 0) AS bigint) FROM rates r \
             JOIN campaigns c ON c.id = r.campaign WHERE c.authorization_id = \
             (SELECT authorization_id FROM campaigns WHERE id = $1)",
        )
        .bind(id.to_string())
        .fetch_one(&mut *self.0)
        .await?;
        Ok(rate)
    }

    async fn site_rate(&mut self) -> Result<i64, Error> {
        let rate = sqlx::query_scalar("SELECT CAST(coalesce(sum(rate), 0) AS bigint) FROM rates")
            .fetch_one(&mut *self.0)
            .await?;
        Ok(rate)
    }

    async fn end_local_leases(&mut self) -> Result<(), Error> {
        for statement in [
            "DELETE FROM lease_blocks \
             WHERE campaign IN (SELECT id FROM campaigns WHERE local)",
            "DELETE FROM leases WHERE campaign IN (SELECT id FROM campaigns WHERE local)",
            "UPDATE rates SET rate = 0, leases = 0 \
             WHERE campaign IN (SELECT id FROM campaigns WHERE local)",
            "UPDATE shards SET token = NULL WHERE token IS NOT NULL AND NOT closed \
             AND campaign IN (SELECT id FROM campaigns WHERE local)",
        ] {
            sqlx::query(statement).execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn issue_token(&mut self, request: &GrantRequest, now: Timestamp) -> Result<u64, Error> {
        let token: i64 = sqlx::query_scalar(
            "INSERT INTO tokens (campaign, number, owner, issued_at, vantage) \
             VALUES ($1, $2, $3, $4, $5) RETURNING token",
        )
        .bind(request.shard.campaign.to_string())
        .bind(signed("a shard's number", request.shard.number)?)
        .bind(&request.owner)
        .bind(At(now))
        .bind(&request.vantage)
        .fetch_one(&mut *self.0)
        .await?;
        unsigned("a token", token)
    }

    async fn delete_tokens(&mut self, horizon: Timestamp) -> Result<(), Error> {
        sqlx::query(
            "DELETE FROM tokens WHERE issued_at < $1 AND NOT EXISTS (SELECT 1 FROM shards s \
             WHERE s.campaign = tokens.campaign AND s.number = tokens.number \
             AND s.token = tokens.token AND NOT s.closed)",
        )
        .bind(At(horizon))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn holder(&mut self, shard: ShardId, token: u64) -> Result<Option<Holder>, Error> {
        let Ok(token) = i64::try_from(token) else {
            return Ok(None);
        };
        let row: Option<(String, Option<String>, At)> = sqlx::query_as(
            "SELECT owner, vantage, issued_at FROM tokens WHERE token = $1 AND campaign = $2 AND number = $3",
        )
        .bind(token)
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(row.map(|(owner, vantage, issued_at)| Holder {
            owner,
            vantage,
            issued_at: issued_at.0,
        }))
    }
}

fn shard_row(row: &DatabaseRow) -> Result<ShardRow, Error> {
    let number = |at: usize| unsigned::<u64>("a shard", row.try_get(at)?);
    let token: Option<i64> = row.try_get(9)?;
    let reported_at: Option<At> = row.try_get(10)?;
    let to: Option<i64> = row.try_get(12)?;
    Ok(ShardRow {
        cursor: number(0)?,
        tally: Tally {
            answered: number(1)?,
            refused: number(2)?,
            silent: number(3)?,
            unreachable: number(4)?,
            denied: number(5)?,
            failed: number(6)?,
        },
        attempt: unsigned("a shard", row.try_get(7)?)?,
        closed: row.try_get(8)?,
        token: token.map(|t| unsigned("a token", t)).transpose()?,
        reported_at: reported_at.map(|at| at.0),
        from: number(11)?,
        to: to.map(|to| unsigned("a shard's targets", to)).transpose()?,
        quarantined: row.try_get(13)?,
        ahead: Ahead {
            finished: number(14)?,
            answered: number(15)?,
        },
        cause: row.try_get(16)?,
        is_revisit: row.try_get(17)?,
    })
}

/// Reads campaign, number, token, owner, rate, revision, end and last renewal.
pub(super) fn lease_row(row: &DatabaseRow) -> Result<LeaseRow, Error> {
    let campaign: String = row.try_get(0)?;
    Ok(LeaseRow {
        shard: stored::shard(&campaign, row.try_get(1)?)?,
        token: unsigned("a token", row.try_get(2)?)?,
        owner: row.try_get(3)?,
        rate: unsigned("a rate", row.try_get(4)?)?,
        revision: unsigned("a revision", row.try_get(5)?)?,
        until: row.try_get::<At, _>(6)?.0,
        renewal: unsigned("a renewal's number", row.try_get(7)?)?,
    })
}
