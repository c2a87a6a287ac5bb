//! Authorizations, the audit log, canaries and workers.

use std::net::IpAddr;

use ajar_model::Timestamp;
use async_trait::async_trait;

use super::Tx;
use crate::{
    AuditEntry, AuditLink, Error, ListedCanary, SeenWorker, WorkerLeases,
    columns::{Address, At, Document},
    rows::{Lock, RecordRows, Rows},
    stored::{self, signed, unsigned},
};

type AuditColumns = (
    i64,
    At,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    Vec<u8>,
);

#[async_trait]
impl RecordRows for Tx {
    async fn authorization(&mut self, id: &str, digest: [u8; 32]) -> Result<[u8; 32], Error> {
        sqlx::query(
            "INSERT INTO authorizations (id, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(digest.as_slice())
        .execute(&mut *self.0)
        .await?;
        let stored: Vec<u8> = sqlx::query_scalar("SELECT digest FROM authorizations WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *self.0)
            .await?;
        stored::bytes("an authorization's digest", &stored)
    }

    async fn lock_audit(&mut self) -> Result<Option<(u64, [u8; 32])>, Error> {
        self.lock(Lock::Audit).await?;
        let last: Option<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
                .fetch_optional(&mut *self.0)
                .await?;
        last.map(|(number, hash)| {
            let number = unsigned("an audit entry", number)?;
            Ok((number, stored::bytes("an audit entry", &hash)?))
        })
        .transpose()
    }

    async fn insert_audit(&mut self, row: &AuditLink) -> Result<(), Error> {
        let entry = &row.entry;
        sqlx::query(
            "INSERT INTO audit (number, at, actor, action, authorization_id, campaign, detail, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(signed("an audit entry's number", row.number)?)
        .bind(At(entry.at))
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.authorization)
        .bind(entry.campaign.map(|id| id.to_string()))
        .bind(&entry.detail)
        .bind(row.hash.as_slice())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn audit_rows(&mut self, after: u64, limit: u32) -> Result<Vec<AuditLink>, Error> {
        let rows: Vec<AuditColumns> = sqlx::query_as(
            "SELECT number, at, actor, action, authorization_id, campaign, detail, hash \
             FROM audit WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(signed("an audit entry's number", after)?)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter().map(audit_row).collect()
    }

    async fn put_canary(
        &mut self,
        address: IpAddr,
        body: String,
        now: Timestamp,
        gone: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO canaries (address, body, first_seen, last_seen) VALUES ($1, $2, $3, $3) \
             ON CONFLICT (address) DO UPDATE SET body = excluded.body, \
             first_seen = CASE WHEN canaries.last_seen >= $4 THEN canaries.first_seen \
             ELSE excluded.first_seen END, last_seen = excluded.last_seen",
        )
        .bind(Address(address))
        .bind(Document(body))
        .bind(At(now))
        .bind(At(gone))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn canaries(&mut self) -> Result<Vec<ListedCanary>, Error> {
        let rows: Vec<(Document, Option<At>, Option<At>)> =
            sqlx::query_as("SELECT body, first_seen, last_seen FROM canaries ORDER BY number")
                .fetch_all(&mut *self.0)
                .await?;
        let read = |(body, first_seen, last_seen): (Document, Option<At>, Option<At>)| {
            Ok(ListedCanary {
                canary: stored::from_json("a canary", &body.0)?,
                first_seen: first_seen.map(|at| at.0),
                last_seen: last_seen.map(|at| at.0),
            })
        };
        rows.into_iter().map(read).collect()
    }

    async fn leases_by_worker(&mut self, now: Timestamp) -> Result<Vec<WorkerLeases>, Error> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "SELECT owner, campaign, count(*), CAST(sum(rate) AS bigint) FROM leases \
             WHERE until > $1 GROUP BY owner, campaign ORDER BY owner, campaign",
        )
        .bind(At(now))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |(owner, campaign, leases, rate): (String, String, i64, i64)| {
            Ok(WorkerLeases {
                owner,
                campaign: stored::parsed("a campaign's id", &campaign)?,
                leases: unsigned("a count", leases)?,
                rate: unsigned("a rate", rate)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    async fn forget_workers(&mut self, before: Timestamp) -> Result<(), Error> {
        sqlx::query("DELETE FROM workers WHERE last_seen < $1")
            .bind(At(before))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn workers(&mut self, since: Timestamp) -> Result<Vec<SeenWorker>, Error> {
        let rows: Vec<(String, String, At)> = sqlx::query_as(
            "SELECT worker, vantage, last_seen FROM workers WHERE last_seen >= $1 \
             ORDER BY vantage, worker",
        )
        .bind(At(since))
        .fetch_all(&mut *self.0)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(worker, vantage, last_seen)| SeenWorker {
                worker,
                vantage,
                last_seen: last_seen.0,
            })
            .collect())
    }
}

fn audit_row(columns: AuditColumns) -> Result<AuditLink, Error> {
    let (number, at, actor, action, authorization, campaign, detail, hash) = columns;
    Ok(AuditLink {
        number: unsigned("an audit entry", number)?,
        entry: AuditEntry {
            at: at.0,
            actor,
            action,
            authorization,
            campaign: campaign
                .map(|id| stored::parsed("an audit entry", &id))
                .transpose()?,
            detail,
        },
        hash: stored::bytes("an audit entry", &hash)?,
    })
}
