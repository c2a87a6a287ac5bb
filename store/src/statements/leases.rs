//! Leases, and the tokens that fence them.

use ajar_model::{Ahead, CampaignId, ShardId, Tally, Timestamp};
use async_trait::async_trait;
use sqlx::Row;

use super::{DatabaseRow, Tx};
use crate::{
    Error, GrantRequest, Holder,
    columns::At,
    rows::{LeaseRows, Rates, ShardRow},
    stored::{signed, unsigned},
};

#[async_trait]
impl LeaseRows for Tx {
    async fn lock_shard(&mut self, shard: ShardId) -> Result<Option<ShardRow>, Error> {
        let row = sqlx::query(row_lock!(
            "SELECT cursor, answered, refused, silent, unreachable, denied, failed, attempt, rate, \
             closed, token, owner, lease_until, reported_at, from_target, to_target, quarantined, ahead, ahead_answered, cause, \
             revision, visit IS NOT NULL \
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
             unreachable = $7, denied = $8, failed = $9, attempt = $10, rate = $11, closed = $12, \
             token = $13, owner = $14, lease_until = $15, reported_at = $16, \
             to_target = $17, quarantined = $18, ahead = $19, ahead_answered = $20, cause = $21, revision = $22 \
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
        .bind(i64::from(row.rate))
        .bind(row.closed)
        .bind(row.token.map(|t| signed("a token", t)).transpose()?)
        .bind(&row.owner)
        .bind(row.lease_until.map(At))
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
        .bind(signed("a revision", row.revision)?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn live_rates(&mut self, id: CampaignId, cutoff: Timestamp) -> Result<Rates, Error> {
        let (campaign, authorization, site): (i64, i64, i64) = sqlx::query_as(
            "SELECT CAST(coalesce(sum(s.rate) FILTER (WHERE s.campaign = $1), 0) AS bigint), \
             CAST(coalesce(sum(s.rate) FILTER (WHERE c.authorization_id = \
             (SELECT authorization_id FROM campaigns WHERE id = $1)), 0) AS bigint), \
             CAST(coalesce(sum(s.rate), 0) AS bigint) \
             FROM shards s JOIN campaigns c ON c.id = s.campaign WHERE s.lease_until > $2",
        )
        .bind(id.to_string())
        .bind(At(cutoff))
        .fetch_one(&mut *self.0)
        .await?;
        Ok(Rates {
            campaign: unsigned("a sum of rates", campaign)?,
            authorization: unsigned("a sum of rates", authorization)?,
            site: unsigned("a sum of rates", site)?,
        })
    }

    async fn end_lease(&mut self, shard: ShardId) -> Result<(), Error> {
        let number = signed("a shard's number", shard.number)?;
        for statement in [
            "DELETE FROM lease_blocks WHERE campaign = $1 AND number = $2",
            "UPDATE shards SET lease_until = NULL, rate = 0, owner = NULL \
             WHERE campaign = $1 AND number = $2",
        ] {
            sqlx::query(statement)
                .bind(shard.campaign.to_string())
                .bind(number)
                .execute(&mut *self.0)
                .await?;
        }
        Ok(())
    }

    async fn end_local_leases(&mut self) -> Result<(), Error> {
        for statement in [
            "DELETE FROM lease_blocks \
             WHERE campaign IN (SELECT id FROM campaigns WHERE local)",
            "UPDATE shards SET token = NULL, lease_until = NULL, rate = 0, owner = NULL \
             WHERE token IS NOT NULL AND NOT closed \
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
    let small = |at: usize| unsigned::<u32>("a shard", row.try_get(at)?);
    let time = |at: usize| -> Result<Option<Timestamp>, Error> {
        let time: Option<At> = row.try_get(at)?;
        Ok(time.map(|at| at.0))
    };
    let token: Option<i64> = row.try_get(10)?;
    let to: Option<i64> = row.try_get(15)?;
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
        attempt: small(7)?,
        rate: small(8)?,
        closed: row.try_get(9)?,
        token: token.map(|t| unsigned("a token", t)).transpose()?,
        owner: row.try_get(11)?,
        lease_until: time(12)?,
        reported_at: time(13)?,
        from: number(14)?,
        to: to.map(|to| unsigned("a shard's targets", to)).transpose()?,
        quarantined: row.try_get(16)?,
        ahead: Ahead {
            finished: number(17)?,
            answered: number(18)?,
        },
        cause: row.try_get(19)?,
        revision: number(20)?,
        is_revisit: row.try_get(21)?,
    })
}
