//! Coordinators, and the campaigns that they refuse to run.

use ajar_model::{CampaignId, Timestamp};
use async_trait::async_trait;

use super::Tx;
use crate::{Error, columns::At, replicas::SeenCoordinator, rows::ReplicaRows};

#[async_trait]
impl ReplicaRows for Tx {
    async fn put_coordinator(
        &mut self,
        seen: &SeenCoordinator<'_>,
        now: Timestamp,
        horizon: Timestamp,
    ) -> Result<(), Error> {
        for statement in [
            "DELETE FROM refusals WHERE coordinator IN \
             (SELECT name FROM coordinators WHERE seen_at < $1)",
            "DELETE FROM coordinators WHERE seen_at < $1",
        ] {
            sqlx::query(statement)
                .bind(At(horizon))
                .execute(&mut *self.0)
                .await?;
        }
        sqlx::query(
            "INSERT INTO coordinators (name, drives, seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(seen.name)
        .bind(seen.drives.map(|id| id.to_string()))
        .bind(At(now))
        .execute(&mut *self.0)
        .await?;
        let before: Vec<String> =
            sqlx::query_scalar("SELECT campaign FROM refusals WHERE coordinator = $1")
                .bind(seen.name)
                .fetch_all(&mut *self.0)
                .await?;
        let refuses: Vec<String> = seen.refuses.iter().map(CampaignId::to_string).collect();
        for id in before.iter().filter(|id| !refuses.contains(id)) {
            sqlx::query("DELETE FROM refusals WHERE coordinator = $1 AND campaign = $2")
                .bind(seen.name)
                .bind(id)
                .execute(&mut *self.0)
                .await?;
        }
        for id in refuses.iter().filter(|id| !before.contains(id)) {
            sqlx::query("INSERT INTO refusals (coordinator, campaign, since) VALUES ($1, $2, $3)")
                .bind(seen.name)
                .bind(id)
                .bind(At(now))
                .execute(&mut *self.0)
                .await?;
        }
        Ok(())
    }

    async fn is_refused_by_all(&mut self, id: CampaignId, since: Timestamp) -> Result<bool, Error> {
        let (might, refuse): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(r.since) FROM campaigns c JOIN coordinators k \
             ON CASE WHEN c.local THEN k.drives = c.id ELSE k.drives IS NULL END \
             LEFT JOIN refusals r ON r.coordinator = k.name AND r.campaign = c.id AND r.since <= $2 \
             WHERE c.id = $1 AND k.seen_at > $2",
        )
        .bind(id.to_string())
        .bind(At(since))
        .fetch_one(&mut *self.0)
        .await?;
        Ok(might > 0 && might == refuse)
    }
}
