//! Removing campaigns. One is gone at once for everybody who asks; its rows, of which there may be
//! millions, are deleted a few at a time, and nobody waits for that.

use ajar_model::{CampaignId, Nonce, Timestamp};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::{
    Tx,
    partitions::{is_there, partition},
};
use crate::{
    Error,
    columns::{At, Document},
    reconcile::mail_nonces,
    rows::RemovalRows,
    stored,
};

/// Removed campaigns that are looked at, in search of one with rows.
const CAMPAIGNS: i64 = 20;
/// Rows that are deleted at once.
const ROWS: i64 = 5000;
/// Findings that are deleted at once, with everything that was observed of them.
const FINDINGS: i64 = 500;
/// A batch that began before the removal may still bring rows for so long.
const LATE: std::time::Duration = std::time::Duration::from_secs(120);
/// The tables of a campaign, but for what was observed. Tokens are forgotten by their age.
const TABLES: [&str; 6] = [
    "lease_blocks",
    "leases",
    "shards",
    "open_endpoints",
    "troubles",
    "counts",
];

#[async_trait]
impl RemovalRows for Tx {
    async fn retire(&mut self, id: CampaignId, now: Timestamp) -> Result<(), Error> {
        for statement in [
            "DELETE FROM rates WHERE campaign = $1",
            "DELETE FROM campaigns WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(id.to_string())
                .execute(&mut *self.0)
                .await?;
        }
        sqlx::query("INSERT INTO removed (campaign, removed_at) VALUES ($1, $2)")
            .bind(id.to_string())
            .bind(At(now))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn is_retired(&mut self, id: CampaignId) -> Result<bool, Error> {
        let retired = "SELECT EXISTS (SELECT 1 FROM removed WHERE campaign = $1)";
        let retired = sqlx::query_scalar(retired)
            .bind(id.to_string())
            .fetch_one(&mut *self.0)
            .await?;
        Ok(retired)
    }

    async fn clear(&mut self, now: Timestamp) -> Result<bool, Error> {
        let late = stored::cutoff(now, LATE);
        let removed: Vec<(String, At)> = sqlx::query_as(
            "SELECT campaign, removed_at FROM removed ORDER BY removed_at LIMIT $1 \
             FOR UPDATE SKIP LOCKED",
        )
        .bind(CAMPAIGNS)
        .fetch_all(&mut *self.0)
        .await?;
        for (campaign, At(removed_at)) in removed {
            let id = stored::parsed("a campaign's id", &campaign)?;
            if self.clear_rows(id).await? || self.clear_findings(id).await? {
                return Ok(true);
            }
            if removed_at <= late {
                sqlx::query("DELETE FROM removed WHERE campaign = $1")
                    .bind(campaign)
                    .execute(&mut *self.0)
                    .await?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Tx {
    /// Deletes some rows of the first table that has any. Returns whether there was one.
    async fn clear_rows(&mut self, id: CampaignId) -> Result<bool, Error> {
        for table in TABLES {
            let delete = format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(\
                 SELECT ctid FROM {table} WHERE campaign = $1 LIMIT $2))"
            );
            let done = sqlx::query(AssertSqlSafe(delete))
                .bind(id.to_string())
                .bind(ROWS)
                .execute(&mut *self.0)
                .await?;
            if done.rows_affected() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes some findings, their observations, the nonces of these and the mails that came by them.
    /// Returns whether there was one.
    async fn clear_findings(&mut self, id: CampaignId) -> Result<bool, Error> {
        let findings: Vec<i64> = sqlx::query_scalar(
            "SELECT row FROM findings WHERE campaign = $1 \
             ORDER BY campaign, ip, port, probe LIMIT $2",
        )
        .bind(id.to_string())
        .bind(FINDINGS)
        .fetch_all(&mut *self.0)
        .await?;
        if findings.is_empty() {
            return Ok(false);
        }
        let (observations, nonces) = (partition("observations", id), partition("nonces", id));
        // Once all campaigns of a month are gone, its tables are dropped.
        if is_there(self, &observations).await? {
            let delete =
                format!("DELETE FROM {observations} WHERE finding = ANY ($1) RETURNING evidence");
            let evidence: Vec<Document> = sqlx::query_scalar(AssertSqlSafe(delete))
                .bind(&findings)
                .fetch_all(&mut *self.0)
                .await?;
            let mut used: Vec<Nonce> = Vec::new();
            for evidence in evidence {
                let evidence = stored::from_json("evidence", &evidence.0)?;
                used.extend(mail_nonces(&evidence));
            }
            let used: Vec<String> = used.iter().map(Nonce::to_string).collect();
            for table in [nonces.as_str(), "sightings"] {
                let delete = format!("DELETE FROM {table} WHERE nonce = ANY ($1)");
                sqlx::query(AssertSqlSafe(delete))
                    .bind(&used)
                    .execute(&mut *self.0)
                    .await?;
            }
        }
        sqlx::query("DELETE FROM findings WHERE row = ANY ($1)")
            .bind(&findings)
            .execute(&mut *self.0)
            .await?;
        Ok(true)
    }
}
