//! Campaigns.

use std::collections::BTreeMap;

use ajar_model::{Campaign, CampaignId, Revisits, Spec, Timestamp, campaign::State, judge::RULES};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row};

use super::{DatabaseRow, Tx};
use crate::{
    Admission, CampaignQuery, Error, Progress, Sending, Stop, Summary, Trouble,
    columns::{At, Document},
    rows::{CampaignRows, FindingRows, JudgingKey, OrderRows, Standing},
    stored::{self, signed, unsigned},
};

const CAMPAIGN: &str =
    "SELECT id, spec, nonce_key, state, local, created_at, revision FROM campaigns WHERE id = $1";

/// The columns of a [`Summary`], but for its stop.
const SUMMARY: &str = "SELECT c.id, c.tenant, c.state, c.local, c.created_at, c.pairs, \
    (SELECT CAST(coalesce(sum(n), 0) AS bigint) FROM counts WHERE campaign = c.id AND kind = 'finished'), \
    (SELECT CAST(coalesce(sum(n), 0) AS bigint) FROM counts WHERE campaign = c.id AND kind = 'open_endpoints') \
    FROM campaigns c WHERE ";

const STANDING: &str = "SELECT state, revision, EXISTS (SELECT 1 FROM stops WHERE tenant IN ('', c.tenant)), \
    (SELECT epoch FROM epochs WHERE one) FROM campaigns c WHERE id = $1";

/// The columns of [`stored::progress`], then the last report.
const SUMS: &str = "SELECT count(*), count(*) FILTER (WHERE closed), \
    count(*) FILTER (WHERE quarantined), \
    CAST(coalesce(sum(answered) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(refused) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(silent) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(unreachable) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(denied) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(failed) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(ahead) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    CAST(coalesce(sum(ahead_answered) FILTER (WHERE visit IS NULL), 0) AS bigint), \
    max(reported_at) FROM shards WHERE campaign = $1";
/// Those of live leases: how many there are, their rates and their owners.
const LEASED: &str = "SELECT count(*), CAST(coalesce(sum(rate), 0) AS bigint), count(DISTINCT owner) \
    FROM leases WHERE campaign = $1 AND until > $2";
const COUNTS: &str =
    "SELECT kind, CAST(sum(n) AS bigint) FROM counts WHERE campaign = $1 GROUP BY kind";
const TROUBLES: &str = "SELECT worker, vantage, cause, at FROM troubles \
    WHERE campaign = $1 AND at > $2 ORDER BY vantage, worker LIMIT 20";

type CampaignRow = (String, Document, Vec<u8>, String, bool, At, i64);

fn campaign(row: CampaignRow) -> Result<Campaign, Error> {
    let (id, spec, key, state, local, created_at, revision) = row;
    stored::campaign((id, spec.0, key, state, local, revision), created_at.0)
}

fn summary(row: &DatabaseRow, stops: &[Stop]) -> Result<Summary, Error> {
    let number = |at: usize| unsigned("a count", row.try_get(at)?);
    let pairs: Option<i64> = row.try_get(5)?;
    let tenant: String = row.try_get(1)?;
    Ok(Summary {
        id: stored::parsed("a campaign's id", row.try_get(0)?)?,
        state: stored::parsed("a campaign's state", row.try_get(2)?)?,
        local: row.try_get(3)?,
        created_at: row.try_get::<At, _>(4)?.0,
        pairs: pairs.map(|pairs| unsigned("a count", pairs)).transpose()?,
        finished: number(6)?,
        open_endpoints: number(7)?,
        stopped: stops.iter().find(|stop| stop.holds(&tenant)).cloned(),
        tenant,
    })
}

#[async_trait]
impl CampaignRows for Tx {
    async fn insert_campaign(&mut self, admission: &Admission<'_>) -> Result<bool, Error> {
        let campaign = admission.campaign;
        let authorization = admission.authorization.map(|registered| &registered.id);
        let spec = stored::to_json("a campaign's spec", &campaign.spec)?;
        let done = sqlx::query(
            "INSERT INTO campaigns (id, spec, tenant, canary_key, nonce_key, created_at, state, \
             authorization_id, local, revisits, revisit_after, confirm_after, pairs, judge) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
        )
        .bind(campaign.id.to_string())
        .bind(Document(spec))
        .bind(&campaign.spec.tenant)
        .bind(campaign.spec.canary.key.to_string())
        .bind(campaign.key.0.as_slice())
        .bind(At(campaign.created_at))
        .bind(State::Running.as_str())
        .bind(authorization)
        .bind(campaign.local)
        .bind(i64::from(campaign.spec.revisits.most))
        .bind(i64::from(campaign.spec.revisits.after_secs))
        .bind(campaign.spec.revisits.confirm_after_secs.map(i64::from))
        .bind(signed("a number of targets", admission.pairs)?)
        .bind(i64::from(RULES))
        .execute(&mut *self.0)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO rates (campaign, rate, leases) VALUES ($1, 0, 0)")
            .bind(campaign.id.to_string())
            .execute(&mut *self.0)
            .await?;
        Ok(true)
    }

    async fn judged_by_older(&mut self, rules: u32) -> Result<Option<CampaignId>, Error> {
        let id: Option<String> = sqlx::query_scalar(
            "SELECT id FROM campaigns WHERE judge < $1 ORDER BY judge, created_at DESC LIMIT 1",
        )
        .bind(i64::from(rules))
        .fetch_optional(&mut *self.0)
        .await?;
        id.map(|id| stored::parsed("a campaign's id", &id))
            .transpose()
    }

    async fn put_judge(&mut self, id: CampaignId, rules: u32) -> Result<(), Error> {
        sqlx::query("UPDATE campaigns SET judge = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(i64::from(rules))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn old_campaigns(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CampaignId>, Error> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM campaigns WHERE created_at < $1 \
             AND state IN ('finished', 'incomplete', 'cancelled') ORDER BY created_at LIMIT $2",
        )
        .bind(At(before))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |id: &String| stored::parsed("a campaign's id", id);
        ids.iter().map(read).collect()
    }

    async fn campaign(&mut self, id: CampaignId) -> Result<Option<Campaign>, Error> {
        let row: Option<CampaignRow> = sqlx::query_as(CAMPAIGN)
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(campaign).transpose()
    }

    async fn summary(&mut self, id: CampaignId) -> Result<Option<Summary>, Error> {
        let mut sql = QueryBuilder::new(SUMMARY);
        sql.push("c.id = ").push_bind(id.to_string());
        let row = sql.build().fetch_optional(&mut *self.0).await?;
        let stops = self.stops().await?;
        row.map(|row| summary(&row, &stops)).transpose()
    }

    async fn summaries(&mut self, query: &CampaignQuery) -> Result<Vec<Summary>, Error> {
        let mut sql = QueryBuilder::new(SUMMARY);
        sql.push("true");
        if let Some(tenants) = &query.tenants {
            let mut list = sql.push(" AND c.tenant IN (").separated(", ");
            for tenant in tenants {
                list.push_bind(tenant);
            }
            sql.push(")");
        }
        if let Some(after) = query.after {
            sql.push(
                " AND (c.created_at, c.id) < (SELECT created_at, id FROM campaigns WHERE id = ",
            )
            .push_bind(after.to_string())
            .push(")");
        }
        sql.push(" ORDER BY c.created_at DESC, c.id DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows = sql.build().fetch_all(&mut *self.0).await?;
        let stops = self.stops().await?;
        rows.iter().map(|row| summary(row, &stops)).collect()
    }

    async fn active(
        &mut self,
        only: Option<CampaignId>,
    ) -> Result<Vec<(CampaignId, bool, Option<Timestamp>)>, Error> {
        let rows: Vec<(String, bool, Option<At>)> = sqlx::query_as(
            "SELECT id, EXISTS (SELECT 1 FROM shards s WHERE s.campaign = c.id AND NOT s.closed), \
             (SELECT min(revisit_at) FROM findings f WHERE f.campaign = c.id AND f.revisit_at IS NOT NULL) \
             FROM campaigns c WHERE state IN ('running', 'settling') \
             AND (id = $1 OR ($1 IS NULL AND NOT local)) ORDER BY id",
        )
        .bind(only.map(|id| id.to_string()))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |(id, is_open, next): (String, bool, Option<At>)| {
            let id = stored::parsed("a campaign's id", &id)?;
            Ok((id, is_open, next.map(|at| at.0)))
        };
        rows.into_iter().map(read).collect()
    }

    async fn put_state(
        &mut self,
        id: CampaignId,
        state: State,
        cause: Option<&str>,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE campaigns SET state = $2, cause = $3, mute = NULL WHERE id = $1")
            .bind(id.to_string())
            .bind(state.as_str())
            .bind(cause)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn put_authorization(
        &mut self,
        id: CampaignId,
        spec: &Spec,
        authorization: &str,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE campaigns SET spec = $2, authorization_id = $3, revision = revision + 1 WHERE id = $1")
            .bind(id.to_string())
            .bind(Document(stored::to_json("a campaign's spec", spec)?))
            .bind(authorization)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn lock_campaign(&mut self, id: CampaignId) -> Result<Option<Standing>, Error> {
        // Not FOR UPDATE: foreign keys to the campaign are checked meanwhile, by transactions that hold a shard.
        let lock = row_lock!(
            "SELECT id FROM campaigns WHERE id = $1",
            "FOR NO KEY UPDATE"
        );
        sqlx::query(lock)
            .bind(id.to_string())
            .execute(&mut *self.0)
            .await?;
        // A statement of its own, which sees what was committed while this one waited for the row.
        self.standing(id).await
    }

    async fn standing(&mut self, id: CampaignId) -> Result<Option<Standing>, Error> {
        let row: Option<(String, i64, bool, i64)> = sqlx::query_as(STANDING)
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|(state, revision, stopped, epoch)| {
            Ok(Standing {
                state: stored::parsed("a campaign's state", &state)?,
                revision: unsigned("a revision", revision)?,
                stopped,
                epoch: unsigned("an epoch", epoch)?,
            })
        })
        .transpose()
    }

    async fn sending(&mut self) -> Result<Vec<Sending>, Error> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT id, revision, (SELECT epoch FROM epochs WHERE one) FROM campaigns c \
             WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM stops WHERE tenant IN ('', c.tenant))",
        )
        .fetch_all(&mut *self.0)
        .await?;
        let sending = |(campaign, revision, epoch): (String, _, _)| {
            Ok(Sending {
                campaign: stored::parsed("a campaign's id", &campaign)?,
                revision: unsigned("a revision", revision)?,
                epoch: unsigned("an epoch", epoch)?,
            })
        };
        rows.into_iter().map(sending).collect()
    }

    async fn judging_key(&mut self, id: CampaignId) -> Result<Option<JudgingKey>, Error> {
        let row: Option<(String, String, i64, i64, Option<i64>)> = sqlx::query_as(
            "SELECT tenant, canary_key, revisits, revisit_after, confirm_after \
             FROM campaigns WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|(tenant, key, most, after, confirm_after)| {
            let secs = |secs| unsigned("a time to wait", secs);
            Ok(JudgingKey {
                tenant,
                key: stored::parsed("a canary's key", &key)?,
                revisits: Revisits {
                    most: unsigned("a count", most)?,
                    after_secs: secs(after)?,
                    confirm_after_secs: confirm_after.map(secs).transpose()?,
                },
            })
        })
        .transpose()
    }

    async fn progress(&mut self, id: CampaignId, now: Timestamp) -> Result<Progress, Error> {
        let row = sqlx::query(SUMS)
            .bind(id.to_string())
            .fetch_one(&mut *self.0)
            .await?;
        let last_report: Option<At> = row.try_get(stored::SUMS)?;
        let (leased, rate, workers): (i64, i64, i64) = sqlx::query_as(LEASED)
            .bind(id.to_string())
            .bind(At(now))
            .fetch_one(&mut *self.0)
            .await?;
        let counts = sqlx::query_as(COUNTS)
            .bind(id.to_string())
            .fetch_all(&mut *self.0)
            .await?;
        let named: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT tenant, cause FROM campaigns WHERE id = $1")
                .bind(id.to_string())
                .fetch_optional(&mut *self.0)
                .await?;
        let Some((tenant, cause)) = named else {
            return Ok(Progress::default());
        };
        let stops = self.stops().await?;
        let counted = stored::progress(&row, counts)?;
        let next_revisit_at = match counted.awaiting_revisit {
            0 => None,
            _ => self.next_revisit(id).await?,
        };
        Ok(Progress {
            leased: unsigned("a count", leased)?,
            rate: unsigned("a sum of rates", rate)?,
            workers: unsigned("a count", workers)?,
            last_report_at: last_report.map(|at| at.0),
            next_revisit_at,
            cause,
            stopped: stops.into_iter().find(|stop| stop.holds(&tenant)),
            troubles: self.troubles(id, now).await?,
            ..counted
        })
    }

    async fn troubles(&mut self, id: CampaignId, now: Timestamp) -> Result<Vec<Trouble>, Error> {
        let troubles: Vec<(String, String, String, At)> = sqlx::query_as(TROUBLES)
            .bind(id.to_string())
            .bind(At(stored::cutoff(now, stored::TROUBLE)))
            .fetch_all(&mut *self.0)
            .await?;
        let troubles = troubles.into_iter();
        let troubles = troubles.map(|(worker, vantage, cause, at)| Trouble {
            campaign: id,
            worker,
            vantage,
            cause,
            at: at.0,
        });
        Ok(troubles.collect())
    }

    async fn add_counts(
        &mut self,
        id: CampaignId,
        slot: i64,
        counts: &BTreeMap<&'static str, i64>,
    ) -> Result<(), Error> {
        for (kind, change) in counts {
            sqlx::query(
                "INSERT INTO counts (campaign, slot, kind, n) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (campaign, slot, kind) DO UPDATE SET n = counts.n + excluded.n",
            )
            .bind(id.to_string())
            .bind(slot)
            .bind(*kind)
            .bind(*change)
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }

    async fn put_trouble(&mut self, trouble: &Trouble, horizon: Timestamp) -> Result<(), Error> {
        sqlx::query("DELETE FROM troubles WHERE campaign = $1 AND at < $2")
            .bind(trouble.campaign.to_string())
            .bind(At(horizon))
            .execute(&mut *self.0)
            .await?;
        sqlx::query(
            "INSERT INTO troubles (campaign, worker, vantage, cause, at) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (campaign, worker) DO UPDATE SET vantage = excluded.vantage, \
             cause = excluded.cause, at = excluded.at",
        )
        .bind(trouble.campaign.to_string())
        .bind(&trouble.worker)
        .bind(&trouble.vantage)
        .bind(&trouble.cause)
        .bind(At(trouble.at))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }
}
