//! Orders for a tenant or for the whole site.

use ajar_model::CampaignId;
use async_trait::async_trait;

use super::Tx;
use crate::{Error, columns::At, orders::Stop, rows::OrderRows, stored};

/// The name that stands for all tenants.
const SITE: &str = "";

#[async_trait]
impl OrderRows for Tx {
    async fn insert_stop(&mut self, stop: &Stop) -> Result<bool, Error> {
        let done = sqlx::query(
            "INSERT INTO stops (tenant, stopped_at, stopped_by) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(stop.tenant.as_deref().unwrap_or(SITE))
        .bind(At(stop.at))
        .bind(&stop.by)
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_stop(&mut self, tenant: Option<&str>) -> Result<bool, Error> {
        let done = sqlx::query("DELETE FROM stops WHERE tenant = $1")
            .bind(tenant.unwrap_or(SITE))
            .execute(&mut *self.0)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn stops(&mut self) -> Result<Vec<Stop>, Error> {
        let rows: Vec<(String, At, String)> =
            sqlx::query_as("SELECT tenant, stopped_at, stopped_by FROM stops ORDER BY tenant")
                .fetch_all(&mut *self.0)
                .await?;
        let stops = rows.into_iter().map(|(tenant, at, by)| Stop {
            tenant: Some(tenant).filter(|tenant| tenant != SITE),
            at: at.0,
            by,
        });
        Ok(stops.collect())
    }

    async fn held_campaigns(&mut self, tenant: Option<&str>) -> Result<Vec<CampaignId>, Error> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM campaigns WHERE state IN ('running', 'settling') \
             AND (tenant = $1 OR $1 = '') ORDER BY id",
        )
        .bind(tenant.unwrap_or(SITE))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |id: &String| stored::parsed("a campaign's id", id);
        ids.iter().map(read).collect()
    }
}
