//! Addresses that get no packet.

use ajar_model::{Target, Timestamp};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row};

use super::{DatabaseRow, Tx};
use crate::{
    Error,
    columns::{Address, At},
    exclusions::{Exclusion, ExclusionQuery},
    rows::ExclusionRows,
    stored::unsigned,
};

/// The name that stands for all tenants.
const SITE: &str = "";

const EXCLUSIONS: &str = "SELECT id, tenant, first, last, reason, ordered_by, created_at, expires_at, removed_at \
    FROM exclusions e WHERE true";

#[async_trait]
impl ExclusionRows for Tx {
    async fn insert_exclusion(&mut self, exclusion: &Exclusion) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO exclusions (id, tenant, first, last, reason, ordered_by, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&exclusion.id)
        .bind(exclusion.tenant.as_deref().unwrap_or(SITE))
        .bind(Address(exclusion.target.first))
        .bind(Address(exclusion.target.last))
        .bind(&exclusion.reason)
        .bind(&exclusion.by)
        .bind(At(exclusion.created_at))
        .bind(exclusion.expires_at.map(At))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn end_exclusion(
        &mut self,
        id: &str,
        tenants: Option<&[String]>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mut sql = QueryBuilder::new("UPDATE exclusions SET removed_at = ");
        sql.push_bind(At(now))
            .push(" WHERE removed_at IS NULL AND id = ")
            .push_bind(id.to_owned());
        if let Some(tenants) = tenants {
            let mut list = sql.push(" AND tenant IN (").separated(", ");
            for tenant in tenants {
                list.push_bind(tenant.clone());
            }
            sql.push(")");
        }
        let done = sql.build().execute(&mut *self.0).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn end_expired_exclusions(&mut self, now: Timestamp) -> Result<u64, Error> {
        let done = sqlx::query(
            "UPDATE exclusions SET removed_at = expires_at \
             WHERE removed_at IS NULL AND expires_at <= $1",
        )
        .bind(At(now))
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected())
    }

    async fn exclusions(&mut self, query: &ExclusionQuery) -> Result<Vec<Exclusion>, Error> {
        let mut sql = QueryBuilder::new(EXCLUSIONS);
        if let Some(tenants) = &query.tenants {
            let mut list = sql.push(" AND tenant IN (").separated(", ");
            list.push_bind(SITE);
            for tenant in tenants {
                list.push_bind(tenant);
            }
            sql.push(")");
        }
        if !query.all {
            sql.push(" AND removed_at IS NULL");
        }
        if let Some(after) = &query.after {
            sql.push(" AND id < ").push_bind(after);
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows = sql.build().fetch_all(&mut *self.0).await?;
        rows.iter().map(exclusion).collect()
    }

    async fn excluded(&mut self, tenant: &str, now: Timestamp) -> Result<Vec<Target>, Error> {
        let rows: Vec<(Address, Address)> = sqlx::query_as(
            "SELECT first, last FROM exclusions WHERE removed_at IS NULL AND tenant IN ('', $1) \
             AND (expires_at IS NULL OR expires_at > $2) ORDER BY first, last",
        )
        .bind(tenant)
        .bind(At(now))
        .fetch_all(&mut *self.0)
        .await?;
        let targets = rows.into_iter().map(|(first, last)| Target {
            first: first.0,
            last: last.0,
        });
        Ok(targets.collect())
    }

    async fn epoch(&mut self) -> Result<u64, Error> {
        let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM epochs WHERE one")
            .fetch_one(&mut *self.0)
            .await?;
        unsigned("an epoch", epoch)
    }

    async fn count_epoch_up(&mut self) -> Result<(), Error> {
        sqlx::query("UPDATE epochs SET epoch = epoch + 1 WHERE one")
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}

fn exclusion(row: &DatabaseRow) -> Result<Exclusion, Error> {
    let time = |at: usize| -> Result<Option<Timestamp>, Error> {
        Ok(row.try_get::<Option<At>, _>(at)?.map(|at| at.0))
    };
    Ok(Exclusion {
        id: row.try_get(0)?,
        tenant: Some(row.try_get(1)?).filter(|tenant| tenant != SITE),
        target: Target {
            first: row.try_get::<Address, _>(2)?.0,
            last: row.try_get::<Address, _>(3)?.0,
        },
        reason: row.try_get(4)?,
        by: row.try_get(5)?,
        created_at: row.try_get::<At, _>(6)?.0,
        expires_at: time(7)?,
        removed_at: time(8)?,
    })
}
